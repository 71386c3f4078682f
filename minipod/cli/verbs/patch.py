"""`minipod patch` (layer 6): a strategic merge, JSON merge or JSON patch of objects, as `kubectl patch`."""

from __future__ import annotations

import argparse

from minipod.cli import wanted
from minipod.cli.client import Client
from minipod.cli.files import read_text
from minipod.cli.manifest_options import add_dry_run, is_given
from minipod.cli.manifests import parsed
from minipod.cli.results import Results, add_local, check_local
from minipod.cli.show import formats
from minipod.cli.values import Object
from minipod.cli.verbs.label import in_manifests
from minipod.cli.wanted import Found
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
    wanted.add_files(parser)
    add_local(parser)
    add_dry_run(parser)
    formats.configure(parser)


def run(args: argparse.Namespace) -> int:
    if (args.patch is None) == (args.patch_file is None):
        raise UsageError("must specify --patch or --patch-file containing the contents of the patch")
    if not args.words and not is_given(args):
        raise UsageError("patch: which object? use for example: minipod patch pod NAME -p PATCH")
    check_local(args, args.words)
    patch = parsed(args.patch if args.patch_file is None else read_text(args.patch_file), "the patch")
    results = Results(args)
    for each in objects(args):
        before, thing = each.object, patched_here(args, each, patch)
        is_changed = thing != before
        if not args.local and args.dry_run != "client":
            is_changed, thing = patched_there(args, each, patch)
        results.show(each.kind, thing, "patched" if is_changed else "patched (no change)")
    return 0


def objects(args: argparse.Namespace) -> list[Found]:
    """Those that are patched; only what is worked out here has to be read before."""
    if args.local:
        return in_manifests(args, "patch")
    if args.dry_run == "client":
        return wanted.chosen(args, args.words, "patch")
    found = wanted.wanted(args, args.words, "patch")
    return [Found(each.kind, {"metadata": {"namespace": each.namespace, "name": each.name}}) for each in found]


def patched_here(args: argparse.Namespace, each: Found, patch: object) -> Object:
    if not args.local and args.dry_run != "client":
        return each.object
    from minipod.api.patch import patched

    return patched(each.kind.name, each.object, patch, args.type)


def patched_there(args: argparse.Namespace, each: Found, patch: object) -> tuple[bool, Object]:
    message: Object = {
        "verb": "patch",
        "target": each.target(),
        "patch": patch,
        "type": args.type,
        "subresource": args.subresource,
        "dry_run": args.dry_run == "server",
    }
    _, answer = Client.of(args, "patch").call(message)
    return answer["changed"], answer["object"]
