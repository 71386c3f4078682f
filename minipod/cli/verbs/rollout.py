"""`minipod rollout restart` (layer 6): a pod is deleted and created again as it was written.

Nothing here rolls out: a pod has no revisions. The other verbs of kubectl's are answered by one line.
"""

from __future__ import annotations

import argparse
import json

from minipod.api.kinds import POD
from minipod.cli import wanted
from minipod.cli.client import Client
from minipod.cli.show.output import warn
from minipod.cli.values import Object
from minipod.cli.wanted import Found
from minipod.errors import UsageError

_INSTEAD = {
    "status": "a pod has no rollout: use minipod wait --for=condition=Ready pod/NAME",
    "history": "a pod has no revisions: use minipod events --for pod/NAME",
    "undo": "a pod has no revisions: apply the manifest that you want",
    "pause": "nothing rolls out here: there is nothing to pause",
    "resume": "nothing rolls out here: there is nothing to resume",
}
#: what the agent writes into an object
_WRITTEN = ("uid", "resourceVersion", "creationTimestamp", "generation", "deletionTimestamp", "managedFields")
_DELETED_AFTER = ("deletionGracePeriodSeconds", "selfLink", "ownerReferences")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Restart pods: each is deleted and created again as it was written; its name stays, its address and the "
        "contents of its emptyDirs do not."
    )
    parser.usage = "minipod rollout restart pod NAME… | -l KEY=VALUE | -f FILE"
    parser.add_argument("words", nargs="*", metavar="restart KIND NAME…", help="restart, and which pods")
    wanted.add_files(parser)
    parser.add_argument("-l", "--selector", metavar="KEY=VALUE,…", help="the pods with these labels")


def run(args: argparse.Namespace) -> int:
    what, *words = args.words or [""]
    if what in _INSTEAD:
        raise UsageError(f"rollout {what}: {_INSTEAD[what]}")
    if what != "restart":
        raise UsageError(f"rollout: {what or 'what'}? minipod has rollout restart pod NAME")
    found = wanted.chosen(args, words, "rollout restart")
    for each in found:
        if each.kind is not POD:
            raise UsageError(f"{each.kind.singular}/{each.name}: restarting is not supported: only pods are restarted")
    for each in found:
        restart(args, each)
        print(f"pod/{each.name} restarted: deleted and created again", flush=True)
    return 0


def restart(args: argparse.Namespace, each: Found) -> None:
    """One request: the agent deletes the pod, waits until it is gone and creates it."""
    message: Object = {
        "verb": "apply",
        "files": [{"name": f"pod/{each.name}", "text": json.dumps(manifest_of(each.object))}],
        "namespace": each.namespace,
        "mode": "replace",
        "force": True,
    }
    with Client.of(args, "rollout").request(message) as request:
        while (event := request.next()) is not None:
            if event["event"] == "warning":
                warn(event["message"])


def manifest_of(pod: Object) -> Object:
    """The pod without what the agent has written into it."""
    dropped = (*_WRITTEN, *_DELETED_AFTER)
    metadata = {key: value for key, value in pod["metadata"].items() if key not in dropped}
    spec = {key: value for key, value in pod["spec"].items() if key not in ("nodeName", "ephemeralContainers")}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
