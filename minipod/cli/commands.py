"""The commands by name, and which one a command line asks for (layer 6). Pure; loads none of them."""

from __future__ import annotations

from minipod.paths import DATA_DIR_OPTIONS, RUN_DIR_OPTIONS

#: verb -> what it does; the module is `minipod.cli.verbs.<verb>`. The order is that of `minipod --help`.
VERBS: dict[str, str] = {
    "run": "run the pods of a manifest, follow their logs",
    "apply": "create or change objects from manifests",
    "create": "create objects, or a configmap or secret from files and literals",
    "get": "list pods, or show one as a table, YAML or JSON",
    "describe": "show a pod's spec, state, conditions and events",
    "inspect": "show what a pod is on this host: namespaces, cgroups, network, mounts",
    "ps": "list containers with images and ports",
    "top": "show the processor time and memory that pods take now",
    "logs": "print the logs of a container",
    "exec": "run a command in a container",
    "attach": "attach to a running container",
    "debug": "add a container with tools to a running pod",
    "resize": "change cpu and memory of a running pod",
    "cp": "copy files and directories to and from containers",
    "diff": "show what apply would change",
    "set": "change images, environment and resources of pods",
    "rollout": "restart pods: delete and create them again",
    "edit": "edit an object in an editor",
    "replace": "replace objects by those of manifests",
    "label": "set and take away labels",
    "annotate": "set and take away annotations",
    "patch": "change fields of an object by a patch",
    "delete": "delete pods and wait until they are gone",
    "wait": "wait for a condition of objects",
    "events": "list what happened to pods",
    "plan": "print every kernel operation that run would do, without root",
    "validate": "check a manifest as the API server would, without root",
    "explain": "show the fields of an object and what supports them",
    "api-resources": "list the kinds of objects",
    "api-versions": "list the versions of the API",
    "image": "pull, list, load, save and remove images",
    "check": "show what this kernel and host offer",
    "status": "show what agent, spawner and pods take: memory, processor time",
    "gc": "remove what a killed machine left behind",
    "serve": "serve the Kubernetes API of this host, for kubectl and client libraries",
    "kubeconfig": "print what kubectl needs to reach it",
    "uninstall": "remove all that minipod has made on this host",
    "agent": "run the node agent in the foreground; stop and start its pods",
    "version": "print the versions of client and agent",
    "completion": "print a completion script for bash, zsh or fish",
}
#: what the shells' scripts call: not shown
COMPLETE = "__complete"
#: verbs whose second word may be another tool's
WITH_SUB_VERBS = ("image",)
#: the global options that take a value, and kubectl's that stand before its verbs (minipod.cli.foreign)
VALUE_OPTIONS = (
    *(*RUN_DIR_OPTIONS, *DATA_DIR_OPTIONS, "--config", "-n", "--namespace", "--request-timeout"),
    *("--context", "--kubeconfig", "--cluster", "--user", "--cache-dir", "--log-flush-frequency"),
    *("-s", "--server", "--token", "--username", "--password", "--as", "--as-group", "--as-uid", "--as-user-extra"),
    *("--certificate-authority", "--client-certificate", "--client-key", "--tls-server-name", "--kuberc"),
)


def find_verb(argv: list[str]) -> tuple[str | None, list[str]]:
    """The verb, and all other words in their order: global options may stand before it, as with kubectl."""
    index = 0
    while index < len(argv):
        word = argv[index]
        if word in VALUE_OPTIONS:
            index += 2
        elif word.startswith("-"):
            index += 1
        else:
            return word, argv[:index] + argv[index + 1 :]
    return None, argv
