"""`minipod patch` (layer 6): a strategic merge, JSON merge or JSON patch of an object, as `kubectl patch`."""

from __future__ import annotations

import argparse

from minipod.cli.client import Client
from minipod.cli.files import read_text
from minipod.cli.manifests import parsed
from minipod.cli.options import namespace_of
from minipod.cli.resources import resources
from minipod.cli.values import Object
from minipod.errors import UsageError

TYPES = ("strategic", "merge", "json")
SUBRESOURCES = ("status", "resize", "ephemeralcontainers")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Change fields of an object. Nothing that others change at the same time is lost. Of a pod's status conditions "
        "can be set: a pod with readinessGates is ready when theirs are True."
    )
    parser.usage = "minipod patch KIND NAME -p PATCH"
    parser.add_argument("words", nargs="*", metavar="KIND NAME", help="KIND NAME or KIND/NAME")
    parser.add_argument("--type", choices=TYPES, default="strategic", metavar="T", help="strategic, merge or json")
    parser.add_argument(
        "--subresource", choices=SUBRESOURCES, default="", metavar="S", help="status, resize or ephemeralcontainers"
    )
    parser.add_argument("-p", "--patch", metavar="PATCH", help='JSON or YAML: {"metadata": {"labels": {"a": "b"}}}')
    parser.add_argument("--patch-file", metavar="FILE", help="a file that holds the patch; - is stdin")
    parser.add_argument(
        "--dry-run", choices=("none", "server"), default="none", metavar="MODE", help="server: change nothing"
    )


def run(args: argparse.Namespace) -> int:
    if (args.patch is None) == (args.patch_file is None):
        raise UsageError("must specify --patch or --patch-file containing the contents of the patch")
    found = resources(args.words, "patch")
    names = [(kind, name) for kind, every in found for name in every]
    if not names:
        raise UsageError("patch: which object? use for example: minipod patch pod NAME -p PATCH")
    text = args.patch if args.patch_file is None else read_text(args.patch_file)
    patch, dry_run = parsed(text, "the patch"), args.dry_run == "server"
    for kind, name in names:
        message: Object = {
            "verb": "patch",
            "target": {"kind": kind.plural, "namespace": namespace_of(args), "name": name},
            "patch": patch,
            "type": args.type,
            "subresource": args.subresource,
            "dry_run": dry_run,
        }
        _, answer = Client.of(args, "patch").call(message)
        suffix = "" if answer["changed"] else " (no change)"
        print(f"{kind.singular}/{name} patched{suffix}" + (" (server dry run)" if dry_run else ""))
    return 0
