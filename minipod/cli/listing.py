"""What `get` prints (layer 6): the agent's tables, or whole objects in a format; once, or as they change."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from minipod.api.kinds import Kind
from minipod.cli.client import Client
from minipod.cli.fetching import fetch_events
from minipod.cli.options import namespace_of
from minipod.cli.show.formats import printer, writer
from minipod.cli.show.table import table
from minipod.cli.values import Object
from minipod.cli.wanted import Wanted, message_of
from minipod.cli.watching import LISTED, Watching
from minipod.errors import NotFoundError, UsageError


class Listing:
    """What was asked for. `with_kind`: each name stands behind its kind."""

    def __init__(self, args: argparse.Namespace, asked: list[Wanted], output: str | None, with_kind: bool) -> None:
        self.args = args
        self.asked = asked
        self.output = output
        self.with_kind = with_kind
        self.missing: list[str] = []

    def message(self, each: Wanted, output: str) -> Object:
        labels = [label for words in self.args.label_columns for label in words.split(",") if label]
        columns = {"show_labels": self.args.show_labels, "label_columns": labels}
        return {**message_of(self.args, each), "output": output, **(columns if output != "object" else {})}

    def events(self, each: Wanted, output: str) -> list[Object]:
        """What the agent sends; what is not there is remembered."""
        try:
            return fetch_events(self.args, self.message(each, output))
        except NotFoundError as error:
            if not self.args.ignore_not_found:
                self.missing.append(str(error))
            return []

    def end(self) -> int:
        if self.missing:
            raise NotFoundError("; ".join(self.missing))
        return 0

    def changes(self, output: str) -> Iterator[list[Object]]:
        """What there is, then each change; of an object that is named only when it is there. Raises NotFoundError."""
        client, message = Client.of(self.args, "get"), self.message(self.asked[0], output)
        if message["name"] is not None:
            try:
                client.call({**message, "watch": False})  # a watch alone would wait for it
            except NotFoundError:
                if self.args.ignore_not_found:
                    return
                raise
        yield from watched(client, message, self.args.watch_only)


class Tables:
    """The agent's rows, aligned; in a watch the widths grow and the header is printed once."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._args = listing.args
        self._form = listing.output or "table"
        self._widths: list[int] = []
        self._header = not self._args.no_headers
        self._rows = 0

    def run(self) -> int:
        if self._args.watch:
            return self._watch()
        for kind, events in self._by_kind():
            if self._rows and self._header_is_due and any(event.get("rows") for event in events):
                print()
            self._header, self._widths = self._header_is_due, []
            self._print(kind, events)
        status = self._listing.end()
        if not self._rows and not self._args.ignore_not_found:
            self._nothing_found()
        return status

    @property
    def _header_is_due(self) -> bool:
        return not self._args.no_headers

    def _by_kind(self) -> Iterator[tuple[Kind, list[Object]]]:
        """The rows of each kind, in the order that was asked for."""
        kinds: dict[Kind, list[Wanted]] = {}
        for each in self._listing.asked:
            kinds.setdefault(each.kind, []).append(each)
        for kind, wanted in kinds.items():
            yield kind, self._sorted(wanted, [row for each in wanted for row in self._listing.events(each, self._form)])

    def _sorted(self, wanted: list[Wanted], events: list[Object]) -> list[Object]:
        """The rows in the order of their objects."""
        if not self._args.sort_by or not any(event.get("rows") for event in events):
            return events
        things = [event["object"] for each in wanted for event in self._listing.events(each, "object")]
        ordered = sort_objects(things, self._args.sort_by)
        places = {
            (item["metadata"].get("namespace", ""), item["metadata"]["name"]): place
            for place, item in enumerate(ordered)
        }
        rows = [pair for event in events for pair in zip(event["objects"], event["rows"], strict=True)]
        rows.sort(key=lambda pair: places.get(tuple(pair[0][:2]), len(places)))
        return [{"columns": events[0]["columns"], "rows": [row for _, row in rows]}]

    def _watch(self) -> int:
        asked, first = self._listing.asked, True
        for events in self._listing.changes(self._form):
            shown = [_with_type(event) for event in events] if self._args.output_watch_events else events
            self._print(asked[0].kind, self._sorted(asked, shown) if first else shown)
            first = False
        return 0

    def _nothing_found(self) -> None:
        kinds = {each.kind for each in self._listing.asked}
        everywhere = self._args.all_namespaces or not all(kind.namespaced for kind in kinds)
        where = "" if everywhere else f" in {namespace_of(self._args)} namespace."
        print(f"No resources found{where}", file=sys.stderr)

    def _print(self, kind: Kind, events: list[Object]) -> None:
        lines: list[list[object]] = []
        for event in events:
            rows = event.get("rows") or []
            if self._listing.with_kind and "NAME" in event["columns"]:
                at = event["columns"].index("NAME")
                rows = [[*row[:at], f"{kind.singular}/{row[at]}", *row[at + 1 :]] for row in rows]
            if rows and self._header:
                lines.append(event["columns"])
                self._header = False
            lines += rows
            self._rows += len(rows)
        if lines:
            sys.stdout.write(table(lines, self._widths))
            sys.stdout.flush()


class Objects:
    """Whole objects: one, or a v1 List of all kinds; one document each in a watch."""

    def __init__(self, listing: Listing, output: str) -> None:
        self._listing = listing
        self._output = output
        args = listing.args
        self._printer = printer(output, args.no_headers, args.allow_missing_template_keys)
        self._write = writer(output)

    def run(self) -> int:
        args, asked = self._listing.args, self._listing.asked
        if args.watch:
            return self._watch()
        things = [event["object"] for each in asked for event in self._listing.events(each, "object")]
        objects = sort_objects(things, args.sort_by)
        if (len(asked) == 1 and asked[0].name is not None) or self._output == "name":
            self._write("".join(self._printer(item, False) for item in objects))
        elif objects or not self._listing.missing:
            whole = {"apiVersion": "v1", "items": objects, "kind": "List", "metadata": {"resourceVersion": ""}}
            self._write(self._printer(whole, False))
        return self._listing.end()

    def _watch(self) -> int:
        args, first = self._listing.args, True
        for events in self._listing.changes("object"):
            ordered = sort_objects([event["object"] for event in events], args.sort_by if first else None)
            types = {id(event["object"]): event["type"] for event in events}
            first = False
            for item in ordered:
                if args.output_watch_events:
                    shown = {"type": types[id(item)], "object": item}
                    self._write(f"{shown['type']:<10}" if self._output == "name" else "")
                    item = shown if self._output in ("json", "yaml") else item
                self._write(self._printer(item, True))
            sys.stdout.flush()
        return 0


def watched(client: Client, message: Object, only_changes: bool) -> Iterator[list[Object]]:
    """What there is, then each change. `only_changes`: without what was there at the beginning."""
    with Watching(client, message) as watch:
        first: list[Object] | None = []
        while (event := watch.next()) is not None:
            if event["type"] == LISTED:
                yield [] if only_changes else first or []
                first = None
            elif first is None:
                yield [event]
            else:
                first.append(event)
        if first and not only_changes:
            yield first


def _with_type(event: Object) -> Object:
    rows = [[event["type"], *row] for row in event["rows"]]
    return {**event, "columns": ["EVENT", *event["columns"]], "rows": rows}


def sort_objects(objects: list[Object], path: str | None) -> list[Object]:
    """By a field: numbers as numbers, all else as text; what has no such field comes first (kubectl get --sort-by)."""
    if not path:
        return objects
    from minipod.cli.show import jsonpath

    body = jsonpath.relaxed(path)[1:-1]

    def key(thing: Object) -> tuple[bool, bool, float, str]:
        values = jsonpath.find(body, thing)
        value = values[0] if values else None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return True, False, float(value), ""
        return value is not None, True, 0.0, jsonpath.text_of(value)

    if objects and not any(jsonpath.find(body, thing) for thing in objects):
        raise UsageError(f'couldn\'t find any field with path "{{{body}}}" in the list of objects')
    return sorted(objects, key=key)
