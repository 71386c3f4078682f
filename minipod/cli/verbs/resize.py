"""`minipod resize` (layer 6): cpu and memory of a running pod, by its resizePolicy. Waits for nothing."""

from __future__ import annotations

import argparse
import sys

from minipod.cli.client import Client
from minipod.cli.options import namespace_of, pod_names
from minipod.cli.pods import check_container, default_container, get_pod
from minipod.cli.values import Object
from minipod.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Change requests and limits of cpu and memory in place, as the pod's resize subresource does."
    parser.usage = "minipod resize pod NAME [-c C | --pod] [--requests cpu=Q,memory=Q] [--limits cpu=Q,memory=Q]"
    parser.add_argument("words", nargs="*", metavar="pod NAME", help="the pod: pod NAME or pod/NAME")
    parser.add_argument("-c", "--container", metavar="C", help="the container; default: the annotated or first one")
    parser.add_argument("--pod", action="store_true", help="the resources of the pod as a whole")
    parser.add_argument("--requests", metavar="cpu=Q,memory=Q", default="", help="new requests")
    parser.add_argument("--limits", metavar="cpu=Q,memory=Q", default="", help="new limits")


def run(args: argparse.Namespace) -> int:
    names = pod_names(args.words, "resize")
    if len(names) != 1:
        raise UsageError("resize: give one pod: minipod resize pod NAME --limits cpu=500m")
    requests, limits = quantities(args.requests, "--requests"), quantities(args.limits, "--limits")
    if not requests and not limits:
        raise UsageError("resize: nothing is to be changed: give --requests or --limits")
    client = Client.of(args, "resize")
    message: Object = {
        "verb": "resize",
        "namespace": namespace_of(args),
        "pod": names[0],
        "container": None if args.pod else _container(client, args, names[0]),
        "requests": requests,
        "limits": limits,
    }
    with client.request(message) as request:
        while request.next() is not None:
            pass
        answer = request.result or {}
    print(f"pod/{names[0]} resized{'' if answer.get('changed', True) else ' (no change)'}")
    if answer.get("reason"):
        print(f"warning: PodResizePending: {answer['reason']}: {answer['message']}", file=sys.stderr)
    return 0


def _container(client: Client, args: argparse.Namespace, name: str) -> str:
    pod = get_pod(client, namespace_of(args), name)
    return check_container(pod, args.container or default_container(pod))


def quantities(text: str, option: str) -> dict[str, str]:
    """`cpu=1,memory=2Gi` as a mapping. Raises UsageError."""
    found = {}
    for entry in filter(None, text.split(",")):
        name, equals, value = entry.partition("=")
        if not equals or name not in ("cpu", "memory") or not value:
            raise UsageError(f"resize: {option} {entry}: must be cpu=QUANTITY or memory=QUANTITY")
        found[name] = value
    return found
