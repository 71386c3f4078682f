"""`minipod replace` (layer 6): replaces existing objects by those of a manifest."""

from __future__ import annotations

import argparse

from minipod.cli.applying import Results, send, show_here
from minipod.cli.manifest_options import add_dry_run, add_manifests, add_validate, texts_of
from minipod.cli.show import formats
from minipod.cli.verbs.apply import add_force, force_of
from minipod.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Replace objects that are there by those of the manifests; what is not written any more goes. With --force "
        "they are deleted and created again: the way to change a pod."
    )
    add_manifests(parser)
    formats.configure(parser)
    add_dry_run(parser)
    add_validate(parser)
    add_force(parser, "delete what is there, wait until it is gone, create again")
    parser.add_argument("--save-config", action="store_true", help="apply continues from what is written here")


def run(args: argparse.Namespace) -> int:
    if args.force and args.dry_run != "none":
        raise UsageError("--dry-run can not be used when --force is set")
    more = force_of(args)
    results = Results(args)
    files = texts_of(args, "replace")
    if args.dry_run == "client":
        show_here(args, files, results, "replaced")
    else:
        send(args, files, "replace", results, save_config=args.save_config, **more)
    return 0
