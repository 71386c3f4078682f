"""`minipod events` (layer 6): v1 Events as kubectl's table, YAML or JSON."""

from __future__ import annotations

import argparse
import sys
import time

from minipod.cli.client import Client
from minipod.cli.options import check_kind, namespace_of
from minipod.cli.show.event_columns import HEADER, last_seen, row_of
from minipod.cli.show.formats import check_format, printer, writer
from minipod.cli.show.table import table
from minipod.cli.values import Object
from minipod.cli.watching import LISTED, Watching
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
    return list_events(args, pod, types)


def list_events(args: argparse.Namespace, pod: str | None, types: list[str]) -> int:
    """Print the events of a namespace (or of all), of one pod where `pod` names it."""
    namespace = None if args.all_namespaces else namespace_of(args)
    message = {"verb": "get", "kind": "events", "namespace": namespace, "output": "object"}
    if pod:
        message["field_selector"] = f"involvedObject.kind=Pod,involvedObject.name={pod}"
    client, events = Client.of(args, "events"), Printer(args)
    if args.watch:
        watch(client, message, events, types)
        return 0
    request = client.request_if_pods({**message, "watch": False})
    found: list[Object] = []
    if request is not None:
        with request:
            while (event := request.next()) is not None:
                if not types or event["object"].get("type") in types:
                    found.append(event["object"])
    events.print(sorted(found, key=last_seen), whole=True)
    if not found:
        where = "" if args.all_namespaces else f" in {namespace} namespace"
        print(f"No events found{where}.", file=sys.stderr)
    return 0


def watch(client: Client, message: Object, events: Printer, types: list[str]) -> None:
    """Until it is interrupted. An event that is removed after its hour is not printed (kubectl's events.go)."""
    with Watching(client, message) as watching:
        before: list[Object] | None = []  # what was there at the beginning, until all of it has come
        while (event := watching.next()) is not None:
            if event["type"] == LISTED:
                events.print(sorted(before or [], key=last_seen))
                before = None
            elif event["type"] != "DELETED" and (not types or event["object"].get("type") in types):
                if before is None:
                    events.print([event["object"]])
                else:
                    before.append(event["object"])


class Printer:
    """Rows that grow with a watch, or whole objects."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._output = args.output
        self._namespaces = args.all_namespaces
        self._header = not args.no_headers
        self._widths: list[int] = []

    def print(self, events: list[Object], whole: bool = False) -> None:
        if not events:
            return
        if self._output is None:
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
            rows.append([*(["NAMESPACE"] if self._namespaces else []), *HEADER])
            self._header = False
        for event in events:
            row = row_of(event, now)
            rows.append([event["metadata"].get("namespace", ""), *row] if self._namespaces else row)
        return table(rows, self._widths)
