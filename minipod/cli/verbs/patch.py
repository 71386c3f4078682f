"""`minipod patch` (layer 6): conditions in a pod's status, as `kubectl patch --subresource=status`; nothing else."""

from __future__ import annotations

import argparse
import json

from minipod.cli.client import Client
from minipod.cli.options import namespace_of, pod_names
from minipod.cli.values import Object
from minipod.errors import UsageError

_ELSE = "patch: only status.conditions can be patched; for all else: minipod edit, label, annotate, resize or apply"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Set conditions in a pod's status: a pod with readinessGates is ready when theirs are True."
    parser.usage = "minipod patch pod NAME --subresource=status -p PATCH"
    parser.add_argument("words", nargs="*", metavar="pod NAME", help="the pod: pod NAME or pod/NAME")
    parser.add_argument("--subresource", metavar="status", required=True, help="what is patched: status")
    parser.add_argument("--type", metavar="T", default="strategic", help="strategic: by the type of each condition")
    parser.add_argument(
        "-p",
        "--patch",
        metavar="PATCH",
        required=True,
        help='JSON: {"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}}',
    )


def run(args: argparse.Namespace) -> int:
    names = pod_names(args.words, "patch")
    if len(names) != 1:
        raise UsageError("patch: give one pod: minipod patch pod NAME --subresource=status -p PATCH")
    if args.subresource != "status" or args.type != "strategic":
        raise UsageError(_ELSE)
    message: Object = {
        "verb": "conditions",
        "namespace": namespace_of(args),
        "pod": names[0],
        "conditions": conditions(args.patch),
    }
    with Client.of(args, "patch").request(message) as request:
        while request.next() is not None:
            pass
    print(f"pod/{names[0]} patched")
    return 0


def conditions(patch: str) -> list[Object]:
    """What the patch says. Raises UsageError where it says anything else."""
    try:
        wanted = json.loads(patch)
    except ValueError as error:
        raise UsageError(f"patch: not JSON: {error}") from None
    match wanted:
        case {"status": {"conditions": [*found], **others}, **rest} if found and not others and not rest:
            return found
    raise UsageError(_ELSE)
