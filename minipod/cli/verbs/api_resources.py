"""`minipod api-resources` (layer 6): the kinds of objects, in kubectl's columns. Needs no agent."""

from __future__ import annotations

import argparse

from minipod.api.kinds import ALL_KINDS, Kind
from minipod.cli.resources import ALL
from minipod.cli.show.table import table
from minipod.errors import UsageError

READ = ("get", "list", "watch")
WRITE = ("create", "delete", "get", "list", "patch", "update", "watch")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "List the kinds of objects that minipod keeps: names, short names, verbs."
    parser.add_argument("-o", "--output", choices=("wide", "name"), metavar="FORMAT", help="wide or name")
    parser.add_argument("--no-headers", action="store_true", help="leave out the table's first line")
    parser.add_argument(
        "--namespaced", action="store_true", default=None, help="those in namespaces; =false those of the whole host"
    )
    parser.add_argument("--sort-by", choices=("name", "kind"), metavar="WHAT", help="name or kind")
    parser.add_argument("--verbs", metavar="VERB,…", help="those with all of these verbs")
    parser.add_argument("--categories", metavar="NAME,…", help="those of all of these categories")
    parser.add_argument("--api-group", metavar="GROUP", help="those of this group; '' is v1, the only one")


def run(args: argparse.Namespace) -> int:
    kinds = [kind for kind in ALL_KINDS if is_wanted(args, kind)]
    kinds.sort(key=lambda kind: kind.name if args.sort_by == "kind" else kind.plural)
    if args.output == "name":
        print("".join(f"{kind.plural}\n" for kind in kinds), end="")
        return 0
    wide = args.output == "wide"
    header = ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND", *(["VERBS", "CATEGORIES"] if wide else [])]
    rows: list[list[object]] = [] if args.no_headers else [[*header]]
    for kind in kinds:
        row = [kind.plural, ",".join(kind.short), "v1", str(kind.namespaced).lower(), kind.name]
        rows.append([*row, *([",".join(verbs_of(kind)), ",".join(categories_of(kind))] if wide else [])])
    print(table(rows), end="")
    return 0


def is_wanted(args: argparse.Namespace, kind: Kind) -> bool:
    """Raises UsageError for a verb that there is not."""
    verbs = set(filter(None, (args.verbs or "").split(",")))
    if unknown := sorted(verbs - set(WRITE)):
        raise UsageError(f"--verbs: {', '.join(unknown)}: there are {', '.join(WRITE)}")
    categories = set(filter(None, (args.categories or "").split(",")))
    return (
        verbs <= set(verbs_of(kind))
        and categories <= set(categories_of(kind))
        and args.namespaced in (None, kind.namespaced)
        and not args.api_group
    )


def verbs_of(kind: Kind) -> tuple[str, ...]:
    return READ if kind.refused else WRITE


def categories_of(kind: Kind) -> tuple[str, ...]:
    return ("all",) if kind in ALL else ()
