"""`minipod inspect` (layer 6): what a pod is on this host. Asks the agent; `show.inspect_pod` lays it out."""

from __future__ import annotations

import argparse
import time

from minipod.cli.client import Client
from minipod.cli.options import namespace_of, one_pod
from minipod.cli.values import Object
from minipod.errors import NotFoundError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "minipod inspect POD… [-o json|yaml]"
    parser.description = (
        "Show what a pod is on this host: namespaces and who shares them, addresses, veth, bridge and ports, cgroups "
        "with their values now, and of each container its processes, image layers, mounts and how it ended. "
        "With the tools to look further."
    )
    parser.add_argument("words", nargs="*", metavar="POD", help="the pods: NAME or pod/NAME")
    parser.add_argument("-o", "--output", metavar="FORMAT", help="yaml or json: times in nanoseconds, sizes in bytes")


def run(args: argparse.Namespace) -> int:
    if args.output not in (None, "json", "yaml"):
        raise UsageError("--output must be 'yaml' or 'json'")
    words = args.words[1:] if len(args.words) > 1 and args.words[0] in ("pod", "pods", "po") else args.words
    if not words:
        raise UsageError("inspect: which pod? use for example: minipod inspect NAME")
    found = [inspected(args, one_pod(word)) for word in words]
    if args.output:
        from minipod.cli.show.formats import printer

        whole: object = found[0] if len(found) == 1 else found
        print(printer(args.output)(whole, False), end="")
        return 0
    from minipod.cli.show.inspect_pod import text_of

    print("\n\n".join(text_of(pod, time.time()) for pod in found), end="")
    return 0


def inspected(args: argparse.Namespace, name: str) -> Object:
    """The agent's answer. Raises NotFoundError, also where no agent has ever kept a pod."""
    message = {"verb": "inspect", "namespace": namespace_of(args), "pod": name}
    request = Client.of(args, "inspect").request_if_pods(message)
    if request is None:
        raise NotFoundError(f'pods "{name}" not found')
    with request:
        request.next()
        return {key: value for key, value in (request.result or {}).items() if key != "ok"}
