"""`minipod events` (layer 6): v1 Events as kubectl's table, YAML or JSON."""

from __future__ import annotations

import argparse
import sys
import time

from minipod.cli.client import Client
from minipod.cli.fetching import fetch
from minipod.cli.options import namespace_of
from minipod.cli.show import formats
from minipod.cli.show.event_columns import HEADER, order, row_of
from minipod.cli.show.table import table
from minipod.cli.values import Object
from minipod.cli.wanted import one_of_kind
from minipod.cli.watching import LISTED, Watching
from minipod.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "List what happened to pods and other objects, in the order of time."
    parser.add_argument("--for", dest="subject", metavar="KIND/NAME", help="only the events of this object")
    parser.add_argument("-w", "--watch", action="store_true", help="after listing, watch for new events")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="the events of all namespaces")
    parser.add_argument("--types", metavar="TYPE,…", help="only Normal, or only Warning")
    formats.configure(parser)
    parser.add_argument("--no-headers", action="store_true", help="leave out the table's first line")


def run(args: argparse.Namespace) -> int:
    types = [word.strip().capitalize() for word in args.types.split(",")] if args.types else []
    if any(word not in ("Normal", "Warning") for word in types):
        raise UsageError("valid --types are Normal or Warning")
    namespace = None if args.all_namespaces else namespace_of(args)
    message: Object = {"verb": "get", "kind": "events", "namespace": namespace, "output": "object"}
    if args.subject:
        if "/" not in args.subject:
            raise UsageError("--for must be in resource/name form")
        kind, name = one_of_kind(args.subject)
        message["field_selector"] = f"involvedObject.kind={kind.name},involvedObject.name={name}"
    client, printer = Client.of(args, "events"), Printer(args)
    if args.watch:
        watch(client, message, printer, types)
        return 0
    list_events(args, message, printer, types)
    return 0


def list_events(args: argparse.Namespace, message: Object, printer: Printer, types: list[str]) -> None:
    found = [event for event in fetch(args, message) if not types or event.get("type") in types]
    printer.print(sorted(found, key=order), whole=True)
    if not found:
        where = "" if args.all_namespaces else f" in {message['namespace']} namespace"
        print(f"No events found{where}.", file=sys.stderr)


def watch(client: Client, message: Object, events: Printer, types: list[str]) -> None:
    """Until it is interrupted. An event that is removed after its hour is not printed (kubectl's events.go)."""
    with Watching(client, message) as watching:
        before: list[Object] | None = []  # what was there at the beginning, until all of it has come
        while (event := watching.next()) is not None:
            if event["type"] == LISTED:
                events.print(sorted(before or [], key=order))
                before = None
            elif event["type"] != "DELETED" and (not types or event["object"].get("type") in types):
                if before is None:
                    events.print([event["object"]])
                else:
                    before.append(event["object"])


class Printer:
    """Rows that grow with a watch, or whole objects."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._output = formats.chosen(args, formats.RESULTS)
        self._show = (
            formats.printer(self._output, allow_missing=args.allow_missing_template_keys) if self._output else None
        )
        self._namespaces = args.all_namespaces
        self._header = not args.no_headers
        self._widths: list[int] = []

    def print(self, events: list[Object], whole: bool = False) -> None:
        if not events:
            return
        if self._output is None or self._show is None:
            sys.stdout.write(self._table(events))
        elif whole and self._output != "name":
            item = {"apiVersion": "v1", "items": events, "kind": "List", "metadata": {"resourceVersion": ""}}
            formats.writer(self._output)(self._show(item, False))
        else:
            for event in events:
                formats.writer(self._output)(self._show({"kind": "Event", **event}, not whole))
        sys.stdout.flush()

    def _table(self, events: list[Object]) -> str:
        now = time.time()
        rows: list[list[object]] = []
        if self._header:
            rows.append([*(["NAMESPACE"] if self._namespaces else []), *HEADER])
            self._header = False
        for event in events:
            row = row_of(event, now)
            rows.append([event["metadata"].get("namespace", ""), *row] if self._namespaces else row)
        return table(rows, self._widths)
