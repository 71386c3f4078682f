"""`minipod events` (layer 6): v1 Events as kubectl's table, YAML or JSON."""

from __future__ import annotations

import argparse
import sys
import time

from minipod.api.timestamps import human_duration, seconds_of
from minipod.cli.client import Client
from minipod.cli.options import check_kind, namespace_of
from minipod.cli.show.table import table
from minipod.cli.values import Object
from minipod.errors import UsageError

HEADER = ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
GET_WIDE_HEADER = [*HEADER[:4], "SUBOBJECT", "SOURCE", "MESSAGE", "FIRST SEEN", "COUNT", "NAME"]


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


class Columns:
    """The table of `kubectl events`."""

    header = HEADER

    def row(self, event: Object, now: float) -> list[object]:
        subject = event.get("involvedObject") or {}
        return [
            interval(event, now),
            event.get("type", ""),
            event.get("reason", ""),
            f"{subject.get('kind', '')}/{subject.get('name', '')}",
            event.get("message", "").strip(),
        ]


class GetColumns(Columns):
    """The table of `kubectl get events` (pkg/printers/internalversion printEvent)."""

    def __init__(self, wide: bool) -> None:
        self._wide = wide
        self.header = GET_WIDE_HEADER if wide else HEADER

    def row(self, event: Object, now: float) -> list[object]:
        subject, source = event.get("involvedObject") or {}, event.get("source") or {}
        first = since(event.get("firstTimestamp") or event.get("eventTime"), now)
        row: list[object] = [
            since(event.get("lastTimestamp"), now) if event.get("lastTimestamp") else first,
            event.get("type", ""),
            event.get("reason", ""),
            f"{subject.get('kind', '').lower()}/{subject.get('name', '')}",
        ]
        message = event.get("message", "").strip()
        if not self._wide:
            return [*row, message]
        speaker = source.get("component") or event.get("reportingComponent", "")
        place = source.get("host") or event.get("reportingInstance", "")
        row += [subject.get("fieldPath", ""), f"{speaker}, {place}" if place else speaker, message]
        return [*row, first, event.get("count") or 1, event["metadata"]["name"]]


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
        from minipod.cli.verbs.get import writer

        if self._output in (None, "wide"):
            sys.stdout.write(self._table(events))
        else:
            writer(self._output)(self._objects(events, whole))
        sys.stdout.flush()

    def _objects(self, events: list[Object], whole: bool) -> str:
        from minipod.cli.verbs.get import check_format, printer

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


def last_seen(event: Object) -> float:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((found for text in times if (found := seconds_of(text)) is not None), 0.0)


def interval(event: Object, now: float) -> str:
    """`5s`, or `5s (x3 over 2m)` for what happened again (kubectl getInterval)."""

    first = since(event.get("eventTime") or event.get("firstTimestamp"), now)
    series = event.get("series")
    if series:
        return f"{since(series.get('lastObservedTime'), now)} (x{series.get('count')} over {first})"
    if int(event.get("count") or 0) > 1:
        return f"{since(event.get('lastTimestamp'), now)} (x{event['count']} over {first})"
    return first


def since(text: str | None, now: float) -> str:
    moment = seconds_of(text)
    return "<unknown>" if moment is None else human_duration(now - moment)
