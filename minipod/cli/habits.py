"""What kubectl, podman, docker and crictl call something else (layer 6): aliases, and hints for all other habits. Pure.

What shows or fetches something and means the same here is an alias: the words are replaced, and options, help and
errors are those of the verb in their place. What would end or change a pod in another way than that tool is a hint: one
line that says what to type. docs/coming-from.md lists both; a test plays each of its lines.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from minipod.errors import UsageError

#: words typed -> words of minipod in their place
ALIASES: dict[str, tuple[str, ...]] = {
    "image list": ("image", "ls"),
    "image remove": ("image", "rm"),
    "image delete": ("image", "rm"),
    "image import": ("image", "load"),
    "imagefsinfo": ("image", "df"),
    "images": ("image", "ls"),
    "inspecti": ("image", "inspect"),
    "inspectp": ("inspect",),
    "kube down": ("delete", "-f"),
    "kube generate": ("get", "-o", "yaml", "pod"),
    "kube play": ("run", "--detach"),
    "load": ("image", "load"),
    "login": ("image", "login"),
    "logout": ("image", "logout"),
    "generate kube": ("get", "-o", "yaml", "pod"),
    "play kube": ("run", "--detach"),
    "pod list": ("get", "pods"),
    "pod ls": ("get", "pods"),
    "pod ps": ("get", "pods"),
    "pods": ("get", "pods"),
    "pull": ("image", "pull"),
    "rmi": ("image", "rm"),
    "save": ("image", "save"),
    "secret ls": ("get", "secrets"),
    "secret inspect": ("describe", "secret"),
    "stats": ("top", "pod"),
    "statsp": ("top", "pod"),
    "system df": ("image", "df"),
    "tag": ("image", "tag"),
    "volume ls": ("get", "persistentvolumes,persistentvolumeclaims"),
}
#: words that only say what the next one is about: `container ls`, `pod logs`
GROUPS = ("container", "pod")
_LISTS = {"ls": ("ps",), "list": ("ps",)}

_BUILD = "podman build -t NAME . && podman save NAME | minipod image load -"
_COMPOSE = "minipod apply -f FILE starts the pods of a manifest, minipod delete -f FILE ends them"
_ENDS = "minipod delete pod NAME (there is no stopped pod: minipod run FILE makes it again)"
_MOUNT = "minipod inspect POD shows the layers and the root of each container"
_NODE = "the node is this host: minipod agent stop-pods ends all its pods, minipod agent start-pods lets them run again"
_ONE = "minipod runs single pods, no Deployments: minipod apply -f FILE with a pod for each replica"
_PAUSE = "a pod cannot be paused: its cgroup is shown by minipod inspect POD"
_PORT = "the host reaches every pod: curl $(minipod get pod NAME -o jsonpath={.status.podIP}):PORT; hostPort publishes"
_VOLUME = "minipod apply -f FILE with a PersistentVolumeClaim; minipod get pvc,pv shows them"

#: words typed -> what to type, or why there is no such thing.
HINTS: dict[str, str] = {
    "auth": "root may do everything, other users nothing: there are no roles; minipod check shows what works here",
    "autoscale": _ONE,
    "build": _BUILD,
    "buildx": _BUILD,
    "certificate": "there is no API server and no certificate; minipod check shows what there is",
    "checkpoint": "pods are not checkpointed; minipod agent stop-pods ends them in an orderly way",
    "cluster-info": "minipod check for this host, minipod status for agent and pods",
    "commit": _BUILD,
    "compose": _COMPOSE,
    "config": "there are no contexts: -n NAME chooses the namespace; the settings are in /etc/minipod/config.toml",
    "context": "there is one host and no context; minipod version shows client and agent",
    "cordon": _NODE,
    "down": "minipod delete -f FILE",
    "drain": _NODE,
    "export": "minipod cp POD:PATH TARGET copies files out of a container",
    "expose": f"there are no Services: {_PORT}",
    "generate": "minipod get pod NAME -o yaml; for a service: minipod@NAME.service, docs/systemd.md",
    "healthcheck": "minipod describe pod NAME shows the probes and what they found",
    "history": "minipod image inspect NAME shows the layers",
    "image build": _BUILD,
    "image history": "minipod image inspect NAME shows the layers",
    "image push": "minipod image save NAME -o DIR/ && skopeo copy oci:DIR docker://NAME",
    "import": "minipod image build-rootfs NAME --from DIR makes an image of a root directory",
    "info": "minipod check for this host, minipod status for agent and pods, minipod image df for the store",
    "init": "minipod apply -f FILE",
    "kill": "minipod delete pod NAME --force (or minipod exec POD -- kill PID, for a signal)",
    "kube": "minipod run -d FILE plays a manifest, minipod delete -f FILE takes it down",
    "kustomize": "minipod apply -k DIR",
    "ls": "minipod get pods, minipod ps or minipod image ls",
    "machine": "pods run on this host itself; minipod check shows what it offers",
    "mount": _MOUNT,
    "network": "all pods are on one bridge, no network is to be made: minipod inspect POD shows it",
    "options": "minipod --help shows the global options",
    "pause": _PAUSE,
    "play": "minipod run -d FILE",
    "plugin": "there are no plugins; minipod --help shows all commands",
    "pod": "minipod get pods, minipod inspect POD",
    "pod create": "minipod run -d FILE (a pod is made with its containers)",
    "pod prune": "minipod delete pods --all, or --field-selector with kubectl's words; minipod gc for leftovers",
    "pod top": "minipod inspect POD shows its processes",
    "port": "minipod ps shows the ports of each container",
    "port-forward": _PORT,
    "proxy": f"there is no API server: {_PORT}",
    "prune": "minipod image prune, minipod gc",
    "push": "minipod image save NAME -o DIR/ && skopeo copy oci:DIR docker://NAME",
    "rename": "a pod keeps its name: minipod get pod NAME -o yaml, then run it by another",
    "restart": "minipod apply --force -f FILE deletes the pod and creates it again",
    "rm": "minipod delete pod NAME",
    "rmp": "minipod delete pod NAME",
    "runp": "minipod run -d FILE (a pod is made with its containers)",
    "scale": _ONE,
    "search": "minipod image pull NAME; registries are searched on their own pages",
    "secret create": "minipod create secret generic NAME --from-file=PATH",
    "secret rm": "minipod delete secret NAME",
    "start": "minipod apply -f FILE; minipod agent start-pods after minipod agent stop-pods",
    "stop": _ENDS,
    "stopp": _ENDS,
    "system": "minipod check, minipod status, minipod image df, minipod gc",
    "system prune": "minipod image prune -a, then minipod gc",
    "taint": "a pod runs on this host or nowhere; minipod agent stop-pods keeps pods off it",
    "uncordon": _NODE,
    "unmount": _MOUNT,
    "unpause": _PAUSE,
    "unshare": "minipod exec POD -- COMMAND, or nsenter with a PID of minipod inspect POD",
    "untag": "minipod image rm NAME takes one name away",
    "up": _COMPOSE,
    "update": "minipod resize pod NAME --limits cpu=Q,memory=Q",
    "volume": _VOLUME,
    "volume create": _VOLUME,
    "volume rm": "minipod delete pvc NAME",
}
_RUN = "docker's run is minipod run NAME --image=IMAGE [-- ARG…]; host ports and volumes are in a manifest"
#: verb and option of another tool -> what to type
OPTION_HINTS: dict[tuple[str, str], str] = {
    **dict.fromkeys((("run", name) for name in ("--name", "-p", "--publish", "-v", "--volume", "-e", "--mount")), _RUN),
    (
        "exec",
        "-u",
    ): "a command runs as the container's user; minipod debug POD --image=IMAGE adds a container with tools",
    ("exec", "-w"): "-- sh -c 'cd DIR && COMMAND'",
    ("ps", "--filter"): "-l KEY=VALUE chooses by the pod's labels",
    ("ps", "-f"): "-l KEY=VALUE chooses by the pod's labels",
}
#: options that an alias drops: they ask for what the verb does anyway
MEANT_ANYWAY: dict[str, tuple[str, ...]] = {"stats": ("--no-stream",), "pod stats": ("--no-stream",)}


def translated(verb: str, words: list[str], verbs: Iterable[str]) -> tuple[str, list[str]]:
    """The command line as minipod has it. `words`: all others, global options too. Raises UsageError with a hint."""
    from minipod.cli.commands import find_verb

    second, rest = find_verb(words)
    at = words.index(second) if second else 0
    is_group = verb in GROUPS and bool(second)
    for typed, before, after in (
        (f"{verb} {second}", words[:at], words[at + 1 :]),
        *(() if is_group else ((verb, [], words),)),
    ):
        if typed in ALIASES:
            first, *more = ALIASES[typed]
            return first, [*before, *more, *(word for word in after if word not in MEANT_ANYWAY.get(typed, ()))]
        if typed in HINTS:
            raise UsageError(f'unknown command "{typed}"; instead: {HINTS[typed]}')
    if is_group and second:
        first, *more = _LISTS.get(second, (second,))
        if first in verbs:
            return first, [*more, *rest]
        return translated(first, rest, verbs)
    if verb in verbs:
        return verb, words
    raise UsageError(f'unknown command "{verb}"{_close(verb, verbs)}')


def option_hint(prog: str, message: str) -> str:
    """What to type for the first unknown option that an error names; empty where nothing is known of it."""
    unknown = message.partition("unrecognized arguments: ")[2].split()
    verb = prog.removeprefix("minipod ")
    found = (OPTION_HINTS.get((verb, word.partition("=")[0])) for word in unknown)
    return next((f"instead: {hint}" for hint in found if hint), "")


def _close(verb: str, verbs: Iterable[str]) -> str:
    known = {*verbs, *(typed for typed in (*ALIASES, *HINTS) if " " not in typed)}
    close = difflib.get_close_matches(verb, sorted(known), n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else "; see minipod --help"
