"""`minipod events` (layer 6): v1 Events as kubectl's table, YAML or JSON."""

from __future__ import annotations

import argparse
import sys
import time

from minipod.cli.client import Client
from minipod.cli.options import check_kind, namespace_of
from minipod.cli.show.event_columns import Columns, last_seen
from minipod.cli.show.formats import check_format, printer, writer
from minipod.cli.show.table import table
from minipod.cli.values import Object
from minipod.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "List what happened to pods, in the order of time."
    parser.add_argument("--for", dest="subject", metavar="pod/NAME", help="only the events of this pod")
    parser.add_argument("-w", "--watch", action="store_true", help="after listing, watch for new events")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="the events of all namespaces")
    parser.add_argument("--types", metavar="TYPE,…", help="only Normal, or only Warning")
    parser.add_argument("-o", "--output", metavar="FORMAT", help="yaml, json, name or jsonpath={…}")
    parser.add_argument("--no-headers", action="store_true", help="leave out the table's first line")


def run(args: argparse.Namespace) -> int:
    pod = None
    if args.subject:
        kind, slash, pod = args.subject.partition("/")
        if not slash or not pod:
            raise UsageError("--for must be in resource/name form")
        check_kind(kind)
    types = [word.strip().capitalize() for word in args.types.split(",")] if args.types else []
    if any(word not in ("Normal", "Warning") for word in types):
        raise UsageError("valid --types are Normal or Warning")
    return list_events(args, pod, args.all_namespaces, types)


def list_events(
    args: argparse.Namespace,
    pod: str | None,
    namespace_wide: bool,
    types: list[str] | None = None,
    columns: Columns | None = None,
) -> int:
    """Print the events of a namespace (or of all), of one pod where `pod` names it."""
    namespace = None if namespace_wide else namespace_of(args)
    message = {"verb": "events", "namespace": namespace, "pod": pod, "watch": args.watch}
    request = Client.of(args, "events").request_if_pods(message)
    shown = 0
    if request is not None:
        printer = Printer(args, namespace_wide, columns or Columns())
        with request:
            found: list[Object] = []
            while (event := request.next()) is not None:
                if types and event["object"].get("type") not in types:
                    continue
                shown += 1
                if args.watch:
                    printer.print([event["object"]])
                else:
                    found.append(event["object"])
            printer.print(sorted(found, key=last_seen), whole=True)
    if not shown:
        where = "" if namespace_wide else f" in {namespace} namespace"
        print(f"No events found{where}.", file=sys.stderr)
    return 0


class Printer:
    """Rows that grow with a watch, or whole objects."""

    def __init__(self, args: argparse.Namespace, namespaces: bool, columns: Columns) -> None:
        self._columns = columns
        self._output = args.output
        self._namespaces = namespaces
        self._header = not args.no_headers
        self._widths: list[int] = []

    def print(self, events: list[Object], whole: bool = False) -> None:
        if not events:
            return
        if self._output in (None, "wide"):
            sys.stdout.write(self._table(events))
        else:
            writer(self._output)(self._objects(events, whole))
        sys.stdout.flush()

    def _objects(self, events: list[Object], whole: bool) -> str:
        check_format(self._output)
        if self._output == "name":
            return "".join(f"event/{event['metadata']['name']}\n" for event in events)
        show = printer(self._output)
        if whole:
            item = {"apiVersion": "v1", "items": events, "kind": "List", "metadata": {"resourceVersion": ""}}
            return str(show(item, False))
        return "".join(show(event, True) for event in events)

    def _table(self, events: list[Object]) -> str:
        now = time.time()
        rows: list[list[object]] = []
        if self._header:
            rows.append([*(["NAMESPACE"] if self._namespaces else []), *self._columns.header])
            self._header = False
        for event in events:
            row = self._columns.row(event, now)
            rows.append([event["metadata"].get("namespace", ""), *row] if self._namespaces else row)
        return table(rows, self._widths)
