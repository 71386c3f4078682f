"""`minipod replace` (layer 6): replaces existing objects by those of a manifest."""

from __future__ import annotations

import argparse

from minipod.cli.files import read_files
from minipod.cli.verbs.apply import configure_files, send
from minipod.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Replace objects that are there by those of the manifests; what is not written any more goes."
    configure_files(parser)


def run(args: argparse.Namespace) -> int:
    names = args.files + args.filename
    if not names:
        raise UsageError("replace: which manifest? use for example: minipod replace -f objects.yaml")
    return send(args, read_files(names), "replace")
