"""`minipod run NAME --image=IMAGE` (layer 6): a pod of one container made from words, as `kubectl run` makes it.

Rules: kubectl's pkg/cmd/run/run.go. With -i or --attach its streams are connected to ours until it ends.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from minipod.cli.applying import Results, send, show_here
from minipod.cli.client import Client, RemoteError
from minipod.cli.options import duration_s, namespace_of
from minipod.cli.values import TYPE_CHECKING, Any, Object
from minipod.cli.watching import Watching
from minipod.errors import MinipodError, NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

RESTARTS = ("Always", "OnFailure", "Never")
PULLS = ("Always", "IfNotPresent", "Never")
OVERRIDES = ("merge", "json", "strategic")
ENDED = ("Succeeded", "Failed")

_SWITCH = {"action": "store_true"}
_WORDS: dict[str, Any] = {"action": "append", "default": []}
#: the options of this form: names, and what argparse takes
OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--image",), {"metavar": "IMAGE", "help": "run this image in a pod of its own: run NAME --image=IMAGE"}),
    (
        ("--command",),
        {**_SWITCH, "dest": "as_command", "help": "what follows -- is the command, not its arguments"},
    ),
    (("--env",), {**_WORDS, "metavar": "NAME=VALUE", "help": "a variable of its environment"}),
    (("--port",), {"metavar": "N", "help": "a port that the container listens on"}),
    (("-l", "--labels"), {"default": "", "metavar": "KEY=VALUE,…", "help": "the pod's labels (run=NAME)"}),
    (("--annotations",), {**_WORDS, "metavar": "KEY=VALUE", "help": "an annotation of the pod"}),
    (("--restart",), {"default": "Always", "metavar": "POLICY", "help": "Always (the default), OnFailure or Never"}),
    (("--image-pull-policy",), {"default": "", "metavar": "WHEN", "help": "Always, IfNotPresent or Never"}),
    (("--privileged",), {**_SWITCH, "help": "run the container privileged"}),
    (("-i", "--stdin"), {**_SWITCH, "help": "keep its standard input open, and attach to it"}),
    (("-t", "--tty"), {**_SWITCH, "help": "give it a terminal; with -i"}),
    (
        ("--attach",),
        {**_SWITCH, "default": None, "help": "wait until it runs and show its output; so is -i"},
    ),
    (("--leave-stdin-open",), {**_SWITCH, "help": "its input stays open when we detach"}),
    (("--rm",), {**_SWITCH, "help": "delete the pod when it has ended, or this command; with -i or --attach"}),
    (("-q", "--quiet"), {**_SWITCH, "help": "print only what the container prints"}),
    (("--pod-running-timeout",), {"default": "1m0s", "metavar": "D", "help": "how long to wait until it runs (1m0s)"}),
    (("--overrides",), {"default": "", "metavar": "JSON", "help": "a patch for the pod that is made"}),
    (("--override-type",), {"default": "merge", "metavar": "TYPE", "help": "merge (the default), json or strategic"}),
    (("--save-config",), {**_SWITCH, "help": "apply continues from this pod"}),
    (("--expose",), {**_SWITCH, "help": "refused: minipod has no Services"}),
)


def configure(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("with --image")
    for names, how in OPTIONS:
        group.add_argument(*names, **how)


def options_of(args: argparse.Namespace) -> list[str]:
    """The options of this form that the command line has."""
    found = []
    for names, how in OPTIONS:
        dest = how.get("dest") or names[-1].lstrip("-").replace("-", "_")
        default = how.get("default", False if how.get("action") == "store_true" else None)
        if getattr(args, dest) not in (default, []):
            found.append(names[-1])
    return found


def check(args: argparse.Namespace) -> None:
    """Raises UsageError for options that do not go together, in kubectl's words."""
    if not args.files:
        raise UsageError("NAME is required for run: minipod run NAME --image=IMAGE")
    check_image(args.image)
    if args.expose:
        raise UsageError("--expose: minipod has no Services: the host and other pods reach the pod at its address")
    if args.tty and not args.stdin:
        raise UsageError("-i/--stdin is required for containers with -t/--tty=true")
    if args.rm and not args.attach:
        raise UsageError("--rm should only be used for attached containers")
    if args.attach and args.dry_run != "none":
        raise UsageError("--dry-run=[server|client] can't be used with attached containers options (--attach, --stdin)")
    if args.attach and args.detach:
        raise UsageError("-d cannot be combined with -i or --attach")
    for option, value, known in (
        ("restart policy", args.restart, ("", *RESTARTS)),
        ("image pull policy", args.image_pull_policy, ("", *PULLS)),
        ("override type", args.override_type, OVERRIDES),
    ):
        if value not in known:
            raise UsageError(f"invalid {option}: {value}, valid values are: {', '.join(filter(None, known))}")
    if args.port is not None and not (args.port.isascii() and args.port.isdigit()):
        raise UsageError("--port must be a number")


def check_image(image: str) -> None:
    """Raises UsageError for what is no reference. A directory is looked for by the agent."""
    from minipod.api.references import InvalidReference, parse_reference

    try:
        if not image.startswith("dir:"):
            parse_reference(image)
    except InvalidReference as error:
        raise UsageError(f'invalid image name "{image}": {error}') from None


def pod_of(args: argparse.Namespace) -> Object:
    """The v1 Pod that is wanted. Raises UsageError."""
    name, words = args.files[0], [*args.files[1:], *args.command]
    container: Object = {"name": name, "image": args.image}
    if args.env:
        container["env"] = [{"name": key, "value": value} for key, value in pairs(args.env, "env")]
    if words:
        container["command" if args.as_command else "args"] = words
    if args.port is not None:
        container["ports"] = [{"containerPort": int(args.port)}]
    if args.image_pull_policy:
        container["imagePullPolicy"] = args.image_pull_policy
    if args.privileged:
        container["securityContext"] = {"privileged": True}
    if args.stdin:
        container |= {"stdin": True, "stdinOnce": not args.leave_stdin_open}
    if args.tty:
        container["tty"] = True
    container["resources"] = {}
    meta: Object = {"name": name, "labels": labels_of(args.labels) or {"run": name}}
    if args.annotations:
        meta["annotations"] = dict(pairs(args.annotations, "annotation"))
    restart = args.restart or ("OnFailure" if args.stdin else "Always")
    spec: Object = {"containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": restart}
    pod: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": {}}
    return overridden(pod, args.overrides, args.override_type) if args.overrides else pod


def pairs(texts: list[str], what: str) -> list[tuple[str, str]]:
    """Raises UsageError for what is not KEY=VALUE."""
    found = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"invalid {what}: {text}: must be KEY=VALUE")
        found.append((key, value))
    return found


def labels_of(text: str) -> dict[str, str]:
    """`a=b,c=d`. Raises UsageError."""
    labels = {}
    for part in text.split(",") if text else ():
        key, equals, value = part.partition("=")
        if not equals or "=" in value:
            raise UsageError(f"unexpected label spec: {part}")
        if not key:
            raise UsageError("unexpected empty label key")
        labels[key] = value
    return labels


def overridden(pod: Object, text: str, patch_type: Any) -> Object:
    """The pod after the patch. Raises UsageError for what is no JSON or does not fit."""
    from minipod.api.patch import patched
    from minipod.cli.manifests import parsed
    from minipod.errors import PatchError

    patch = parsed(text, "--overrides")
    try:
        return patched("Pod", pod, patch, patch_type)
    except PatchError as error:
        raise UsageError(f"--overrides: {error}") from None


def run(args: argparse.Namespace, start: Callable[[list[Object]], int]) -> int:
    """`start`: runs manifests detached, as `run -d FILE` does."""
    if args.attach is None:
        args.attach = args.stdin
    check(args)
    pod = pod_of(args)
    name = str((pod.get("metadata") or {}).get("name", ""))
    files: list[Object] = [{"name": f"pod/{name}", "text": json.dumps(pod), "made": True}]
    if args.detach:
        return start(files)
    results = Results(args)
    if args.dry_run == "client":
        return _show(args, pod, files, results)
    if not args.attach:
        send(args, files, "create", results, save_config=args.save_config)
        return 0
    send(args, files, "create", _Silent(args), save_config=args.save_config, owned=args.rm)
    has_ended = False
    try:
        status = Attached(args, name).run()
        has_ended = True
        return status
    finally:
        if args.rm:
            delete(args, name, wait=has_ended)


def _show(args: argparse.Namespace, pod: Object, files: list[Object], results: Results) -> int:
    """The pod as kubectl prints it, with the fields that it leaves empty, if it is valid."""
    show_here(args, files, _Silent(args), "created")
    if args.namespace:
        pod["metadata"]["namespace"] = args.namespace
    event = {"event": "applied", "kind": "Pod", "name": pod["metadata"]["name"], "result": "created", "object": pod}
    results.show(event)
    return 0


class _Silent(Results):
    """Only warnings are printed."""

    def show(self, event: Object) -> None:
        if event["event"] == "warning":
            super().show(event)


class Attached:
    """The pod's container at our streams. Phases are those that kubectl waits for."""

    def __init__(self, args: argparse.Namespace, name: str) -> None:
        self._args = args
        self._name = name
        self._namespace = namespace_of(args)
        self._client = Client.of(args, "run")
        self._timeout_s = duration_s(args.pod_running_timeout)
        self._shown = ""

    def run(self) -> int:
        """The container's exit code, where the pod does not restart it. Raises RemoteError when the time is up."""
        from minipod.cli.attaching import attach

        pod = self._wait(lambda pod: _phase(pod) in ENDED or _is_ready(pod))
        container = str(pod["spec"]["containers"][0]["name"])
        attach(
            self._client,
            self._namespace,
            self._name,
            container,
            self._args.stdin,
            quiet=self._args.quiet,
            whole=True,
        )
        policy = pod["spec"].get("restartPolicy", "Always")
        if policy == "Always" or self._args.leave_stdin_open:
            self._say_how_to_return(container)
            return 0
        wanted = ENDED if policy == "Never" else ("Succeeded",)
        return self._exit_code(self._wait(lambda pod: _phase(pod) in wanted))

    def _say_how_to_return(self, container: str) -> None:
        args = self._args
        if args.tty and args.stdin and not args.quiet and not args.rm:
            where = "" if self._namespace == "default" else f" -n {self._namespace}"
            print(f"Session ended, resume using 'minipod attach {self._name} -c {container}{where} -i -t' command")

    def _exit_code(self, pod: Object) -> int:
        if _phase(pod) == "Succeeded":
            return 0
        path = f"pod {self._namespace}/{self._name}"
        statuses = (pod["status"].get("containerStatuses") or [{}])[0]
        ended: Object = (statuses.get("state") or {}).get("terminated") or {}
        if not ended.get("exitCode"):
            raise RemoteError(f"{path} failed with unknown exit code", 1)
        print(f"{path} terminated ({ended.get('reason')})", file=sys.stderr)
        if ended.get("message"):
            print(ended["message"], file=sys.stderr)
        return int(ended["exitCode"])

    def _wait(self, is_reached: Callable[[Object], bool]) -> Object:
        """The pod when it is so far. Raises NotFoundError when it is deleted, RemoteError when the time is up."""
        deadline = time.monotonic() + self._timeout_s if self._timeout_s > 0 else None
        message = {"verb": "get", "kind": "pods", "namespace": self._namespace, "name": self._name, "output": "object"}
        why = ""
        with Watching(self._client, message) as watch:
            while (event := watch.next(deadline)) is not None:
                if "object" not in event:
                    continue
                if event["type"] == "DELETED":
                    raise NotFoundError(f'pods "{self._name}" not found: it was deleted')
                if is_reached(event["object"]):
                    found: Object = event["object"]
                    return found
                why = _waiting(event["object"])
                self._say(why)
        reason = f": {why.partition(': ')[0]}" if why else ""
        raise RemoteError(
            f"timed out waiting for pod/{self._name} to run{reason}: minipod describe pod {self._name}", 1
        )

    def _say(self, why: str) -> None:
        """Once, what it waits for, where that is trouble."""
        if why and (not self._shown or self._shown not in why) and not self._args.quiet:
            self._shown = why  # a back-off repeats it
            print(f"waiting for pod/{self._name}: {why}", file=sys.stderr, flush=True)


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", ""))


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return _phase(pod) == "Running" and any(
        entry.get("type") == "Ready" and entry.get("status") == "True" for entry in conditions
    )


def _waiting(pod: Object) -> str:
    """Why its container does not run, other than that it is being created."""
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message', '')}".removesuffix(": ")
    return ""


def delete(args: argparse.Namespace, name: str, wait: bool) -> None:
    """Delete the pod; `wait`: until it is gone, which takes a container that still runs its grace period."""
    message = {"verb": "delete", "kind": "pods", "namespace": namespace_of(args), "names": [name]}
    try:
        with Client.of(args, "run").request(message) as request:
            while wait and request.result is None:
                request.next()
    except NotFoundError:
        return
    except MinipodError as error:
        print(f"error: pod/{name} is not deleted: {error}; minipod delete pod {name}", file=sys.stderr)
        return
    if not args.quiet:
        print(f'pod "{name}" deleted from {namespace_of(args)} namespace', flush=True)
