"""`minipod get` (layer 6): which objects, in which format; `cli.listing` fetches and prints them."""

from __future__ import annotations

import argparse

from minipod.api.kinds import Kind
from minipod.cli import wanted
from minipod.cli.listing import Listing, Objects, Tables
from minipod.cli.manifest_options import is_given
from minipod.cli.resources import names_kinds
from minipod.cli.show import formats
from minipod.cli.show.output import warn
from minipod.cli.wanted import Wanted
from minipod.errors import UsageError

#: the subresources of a kind; `get` shows the whole object for each, as the API server does
SUBRESOURCES = {
    "Pod": ("status", "resize", "ephemeralcontainers"),
    "Namespace": ("status",),
    "Node": ("status",),
    "PersistentVolume": ("status",),
    "PersistentVolumeClaim": ("status",),
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "List objects, or show some of them: kubectl's columns and formats."
    parser.add_argument(
        "words", nargs="*", metavar="pods [NAME…]", help="pods, po, pod/NAME, cm,secret or all; configmaps, events …"
    )
    words = "wide, name, yaml, json, jsonpath={…}, custom-columns=TITLE:.path,… or go-template={{…}}; -file=FILE"
    formats.configure(parser, words)
    wanted.add_files(parser)
    wanted.add_selectors(parser)
    parser.add_argument("-w", "--watch", action="store_true", help="after listing, watch for changes")
    parser.add_argument("--watch-only", action="store_true", help="watch for changes without listing first")
    parser.add_argument(
        "--output-watch-events", action="store_true", help="in a watch say whether each was ADDED, MODIFIED or DELETED"
    )
    parser.add_argument("--ignore-not-found", action="store_true", help="an object that is not there is no error")
    parser.add_argument("--subresource", metavar="S", help="status, resize or ephemeralcontainers of the objects named")
    parser.add_argument("--sort-by", metavar="{.path}", help="order by a field: a JSONPath")
    parser.add_argument("--no-headers", action="store_true", help="leave out the table's first line")
    parser.add_argument("--show-kind", action="store_true", help="the kind before each name")
    parser.add_argument(
        "-L", "--label-columns", action="append", default=[], metavar="KEY,…", help="these labels as columns"
    )
    parser.add_argument("--show-labels", action="store_true", help="the labels as the last column")


def run(args: argparse.Namespace) -> int:
    output = formats.chosen(args)
    args.watch = args.watch or args.watch_only
    if not args.words and not is_given(args):
        raise UsageError("get: which objects? use for example: minipod get pods")
    asked = wanted.wanted(args, args.words, "get", all_without_names=True)
    check(args, output, asked)
    with_kind = args.show_kind or bool(args.words and names_kinds(args.words)) or len(kinds_of(asked)) > 1
    listing = Listing(args, asked, output, with_kind)
    is_table = output in (None, "wide")
    return Tables(listing).run() if is_table else Objects(listing, output or "").run()


def kinds_of(asked: list[Wanted]) -> list[Kind]:
    return list(dict.fromkeys(each.kind for each in asked))


def check(args: argparse.Namespace, output: str | None, asked: list[Wanted]) -> None:
    """Raises UsageError for options that do not go together."""
    if output not in (None, "wide"):
        name = str(output).partition("=")[0]
        if args.show_labels:
            raise UsageError(f"--show-labels option cannot be used with {name} printer")
        if args.label_columns:
            raise UsageError(f"--label-columns option cannot be used with {name} printer")
    if args.output_watch_events and not args.watch:
        raise UsageError("--output-watch-events option can only be used with --watch or --watch-only")
    if args.watch:
        if len(kinds_of(asked)) > 1:
            raise UsageError("you may only specify a single resource type to watch")
        if len(asked) > 1:
            raise UsageError("you may only specify a single resource to watch")
        if args.sort_by:
            warn("--watch requested, --sort-by will be ignored for watch events received")
    if args.subresource:
        check_subresource(args, asked)


def check_subresource(args: argparse.Namespace, asked: list[Wanted]) -> None:
    for each in asked:
        if each.name is None:
            raise UsageError("subresource cannot be used when bulk resources are specified")
        known = SUBRESOURCES.get(each.kind.name, ())
        if args.subresource not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise UsageError(f"--subresource={args.subresource}: {each.kind.plural} have no such subresource; {has}")
