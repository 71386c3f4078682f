"""`minipod gc` (layer 6): has the agent find and remove what a killed machine left behind."""

from __future__ import annotations

import argparse

from minipod.cli.client import Client


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Find and remove what a killed machine left behind; pods that run are not touched."
    parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")


def run(args: argparse.Namespace) -> int:
    found = 0
    with Client.of(args, "gc").request({"verb": "gc", "dry_run": args.dry_run}) as request:
        while (event := request.next()) is not None:
            found += 1
            print(event["message"] + (" (dry run)" if args.dry_run else ""), flush=True)
    if not found:
        print("nothing was left behind")
    return 0
