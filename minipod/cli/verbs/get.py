"""`minipod get` (layer 6): objects as the agent's table, YAML, JSON, names or a JSONPath. Renders no status itself."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from minipod.api.kinds import Kind
from minipod.cli.client import Client, Request
from minipod.cli.options import namespace_of
from minipod.cli.resources import resources
from minipod.cli.show.formats import check_format, printer, writer
from minipod.cli.show.table import table
from minipod.cli.values import Object
from minipod.cli.watching import LISTED, Watching
from minipod.errors import NotFoundError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "List objects, or show some of them: kubectl's columns and formats."
    parser.add_argument(
        "words", nargs="*", metavar="pods [NAME…]", help="pods, po or pod/NAME; configmaps, events, nodes …"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FORMAT",
        help="wide, yaml, json, name, jsonpath={…}, jsonpath-as-json={…} or custom-columns=TITLE:.path,…",
    )
    parser.add_argument("-w", "--watch", action="store_true", help="after listing, watch for changes")
    parser.add_argument("--watch-only", action="store_true", help="watch for changes without listing first")
    parser.add_argument(
        "--output-watch-events", action="store_true", help="in a watch say whether each was ADDED, MODIFIED or DELETED"
    )
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="those of all namespaces")
    parser.add_argument("-l", "--selector", metavar="KEY=VALUE,…", help="only those with these labels")
    parser.add_argument(
        "--field-selector", metavar="FIELD=VALUE,…", help="only those with these fields: status.phase=…"
    )
    parser.add_argument("--sort-by", metavar="{.path}", help="order by a field: a JSONPath")
    parser.add_argument("--no-headers", action="store_true", help="leave out the table's first line")
    parser.add_argument("-L", "--label-columns", metavar="KEY,…", help="these labels as columns")
    parser.add_argument("--show-labels", action="store_true", help="the labels as the last column")


def run(args: argparse.Namespace) -> int:
    found = resources(args.words, "get")
    if len(found) > 1:
        return run_many(args, found)
    kind, names = found[0]
    args.kind = kind
    if not kind.namespaced:
        args.all_namespaces, args.namespace = False, None
    check(args, names)
    message = {
        "verb": "get",
        "kind": kind.plural,
        "namespace": None if args.all_namespaces else namespace_of(args),
        "selector": args.selector or "",
        "field_selector": args.field_selector or "",
    }
    if args.output not in (None, "wide"):
        return Objects(args, names).run({**message, "output": "object"})
    shown: Object = {
        "output": args.output or "table",
        "show_labels": args.show_labels,
        "label_columns": list(filter(None, (args.label_columns or "").split(","))),
    }
    return Tables(args, names).run({**message, **shown})


def run_many(args: argparse.Namespace, found: list[tuple[Kind, list[str]]]) -> int:
    """One table after the other, with the kind before each name; or one list of all."""
    if args.watch or args.watch_only:
        raise UsageError("you may only specify a single resource type to watch")
    if args.output not in (None, "wide", "name"):
        raise UsageError(f"-o {args.output} takes one kind of object at a time")
    status = 0
    for number, (kind, names) in enumerate(found):
        if number and args.output != "name":
            print()
        args.kind = kind
        part = argparse.Namespace(**{**vars(args), "words": [kind.plural, *names], "with_kind": True})
        status = run(part) or status
    return status


def check(args: argparse.Namespace, names: list[str]) -> None:
    check_format(args.output)
    if names and args.all_namespaces:
        raise UsageError("a resource cannot be retrieved by name across all namespaces")
    if names and (args.selector or args.field_selector):
        raise UsageError("name cannot be provided when a selector is specified")
    args.watch = args.watch or args.watch_only
    if args.watch and args.sort_by:
        raise UsageError("--sort-by: a watch cannot be sorted")
    if args.watch and len(names) > 1:
        raise UsageError("you may only specify a single resource to watch")


def nothing_found(args: argparse.Namespace) -> None:
    where = "" if args.all_namespaces or not args.kind.namespaced else f" in {namespace_of(args)} namespace."
    print(f"No resources found{where}", file=sys.stderr)


class Tables:
    """The agent's rows, aligned; in a watch the widths grow and the header is printed once."""

    def __init__(self, args: argparse.Namespace, names: list[str]) -> None:
        self._args = args
        self._names = names
        self._widths: list[int] = []
        self._header = not args.no_headers
        self._rows = 0

    def run(self, message: Object) -> int:
        if self._args.watch:
            return self._watch({**message, "name": self._names[0] if self._names else None})
        events, missing = fetch_each(self._args, self._wanted(), message)
        if self._args.sort_by:
            events = self._sorted(events, message)
        self._print(events)
        if missing is not None:
            raise missing
        if not self._rows:
            nothing_found(self._args)
        return 0

    def _sorted(self, events: list[Object], message: Object) -> list[Object]:
        """The rows in the order of their objects."""
        found, _ = fetch_each(self._args, self._wanted(), {**message, "output": "object"})
        ordered = sort_objects([event["object"] for event in found], self._args.sort_by)
        places = {
            (item["metadata"].get("namespace", ""), item["metadata"]["name"]): place
            for place, item in enumerate(ordered)
        }
        columns: list[str] = next((event["columns"] for event in events), [])
        rows = [pair for event in events for pair in zip(event["objects"], event["rows"], strict=True)]
        rows.sort(key=lambda pair: places.get(tuple(pair[0][:2]), len(places)))
        return [{"columns": columns, "rows": [row for _, row in rows]}]

    def _watch(self, message: Object) -> int:
        client = Client.of(self._args, "get")
        if message["name"] is not None:
            client.call({**message, "watch": False})  # a watch alone would wait for it
        for events in watched(client, message, self._args.watch_only):
            self._print([_with_type(event) for event in events] if self._args.output_watch_events else events)
        return 0

    def _wanted(self) -> list[str | None]:
        return list(self._names) or [None]

    def _print(self, events: list[Object]) -> None:
        lines: list[list[object]] = []
        for event in events:
            rows = event.get("rows") or []
            if getattr(self._args, "with_kind", False) and "NAME" in event["columns"]:  # several kinds are listed
                at = event["columns"].index("NAME")
                kind = self._args.kind.singular
                rows = [[*row[:at], f"{kind}/{row[at]}", *row[at + 1 :]] for row in rows]
            if rows and self._header:
                lines.append(event["columns"])
                self._header = False
            lines += rows
            self._rows += len(rows)
        if lines:
            sys.stdout.write(table(lines, self._widths))
            sys.stdout.flush()


class Objects:
    """Whole objects: one, or a v1 List; one document each in a watch."""

    def __init__(self, args: argparse.Namespace, names: list[str]) -> None:
        self._args = args
        self._names = names
        self._printer = printer(args.output, args.no_headers)
        self._write = writer(args.output)

    def run(self, message: Object) -> int:
        if self._args.watch:
            return self._watch({**message, "name": self._names[0] if self._names else None})
        events, missing = fetch_each(self._args, self._wanted(), message)
        objects = sort_objects([event["object"] for event in events], self._args.sort_by)
        if missing is not None and not objects:
            raise missing
        if len(self._names) == 1:
            self._write(self._printer(objects[0], False))
        elif self._args.output == "name":
            self._write("".join(self._printer(item, False) for item in objects))
        else:
            whole = {"apiVersion": "v1", "items": objects, "kind": "List", "metadata": {"resourceVersion": ""}}
            self._write(self._printer(whole, False))
        if missing is not None:
            raise missing
        return 0

    def _wanted(self) -> list[str | None]:
        return list(self._names) or [None]

    def _watch(self, message: Object) -> int:
        client = Client.of(self._args, "get")
        if message["name"] is not None:
            client.call({**message, "watch": False})
        for events in watched(client, message, self._args.watch_only):
            for event in events:
                item = event["object"]
                if self._args.output_watch_events and self._args.output in ("json", "yaml"):
                    item = {"type": event["type"], "object": item}
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


def drain(request: Request) -> list[Object]:
    events = []
    while (event := request.next()) is not None:
        events.append(event)
    return events


def fetch_each(
    args: argparse.Namespace, names: list[str | None], message: Object
) -> tuple[list[Object], NotFoundError | None]:
    """What there is of the names, and an error that names what is not there."""
    events: list[Object] = []
    missing: list[str] = []
    for name in names:
        try:
            events += fetch_events(args, {**message, "name": name, "watch": False})
        except NotFoundError as error:
            missing.append(str(error))
    return events, NotFoundError("; ".join(missing)) if missing else None


def fetch_events(args: argparse.Namespace, message: Object) -> list[Object]:
    request = Client.of(args, "get").request_if_pods(message)
    if request is None:
        if message.get("name"):
            raise NotFoundError(f'{message["kind"]} "{message["name"]}" not found')
        return []
    with request:
        return drain(request)


def fetch(args: argparse.Namespace, message: Object) -> list[Object]:
    """The objects that the agent has; none where no agent has ever kept a pod. Raises NotFoundError."""
    return [event["object"] for event in fetch_events(args, {**message, "watch": False}) if "object" in event]
