"""The names here of other tools' commands (layer 6), for errors about a command typed out of habit. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_PORTS = "curl $(minipod get pod NAME -o jsonpath={.status.podIP}):PORT; the host reaches every pod"

#: a command of kubectl, podman, docker or crictl -> what does the same here
COMMANDS: dict[str, str] = {
    "api-resources": "minipod explain KIND; its kinds: pod, configmap, secret, pvc, pv, namespace",
    "build": "minipod image load ARCHIVE; build it with another tool",
    "cluster-info": "minipod check",
    "commit": "minipod image load ARCHIVE; build it with another tool",
    "down": "minipod delete -f FILE",
    "images": "minipod image ls",
    "info": "minipod check",
    "inspect": "minipod get pod NAME -o yaml",
    "inspecti": "minipod image inspect NAME",
    "kill": "minipod delete pod NAME --force",
    "kube": "minipod run FILE, or apply -f FILE",
    "load": "minipod image load ARCHIVE",
    "ls": "minipod get pods",
    "play": "minipod run FILE, or apply -f FILE",
    "pod": "minipod get pods",
    "pods": "minipod get pods",
    "port": "minipod describe pod NAME",
    "port-forward": _PORTS,
    "prune": "minipod image prune, or gc",
    "ps": "minipod get pods",
    "pull": "minipod image pull NAME",
    "restart": "minipod delete pod NAME, then apply -f FILE",
    "rm": "minipod delete pod NAME",
    "rmi": "minipod image rm NAME",
    "save": "minipod image save NAME",
    "start": "minipod apply -f FILE",
    "stop": "minipod delete pod NAME",
    "system": "minipod check, image df, image prune, or gc",
    "tag": "minipod image tag OLD NEW",
    "up": "minipod apply -f FILE, or run FILE",
}


def suggestion(command: str, verbs: Iterable[str]) -> str:
    """The end of the error about an unknown command."""
    if command in COMMANDS:
        return f"; here it is: {COMMANDS[command]}"
    close = difflib.get_close_matches(command, verbs, n=1)
    return f"; did you mean {close[0]}?" if close else "; see minipod --help"
