"""`minipod ps` (layer 6): containers with images and ports, for those who look for docker's or crictl's `ps`."""

from __future__ import annotations

import argparse
import re
import sys
import time

from minipod.api.timestamps import human_duration, seconds_of
from minipod.cli.fetching import fetch_each
from minipod.cli.options import namespace_of
from minipod.cli.pods import SPEC_LISTS, STATUS_LISTS
from minipod.cli.show.table import table
from minipod.cli.values import Object
from minipod.errors import UsageError

SHORT_ID = 12
COLUMNS = {
    "CONTAINER ID": "ID",
    "IMAGE": "Image",
    "CREATED": "CreatedAt",
    "STATUS": "Status",
    "PORTS": "Ports",
    "POD": "Pod",
    "NAME": "Name",
}
FIELDS = (*COLUMNS.values(), "Namespace", "State")
_FIELD = re.compile(r"{{\s*\.(\w+)\s*}}")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "List the containers of pods, with images and ports of the host: those that run, or all."
    parser.add_argument("-a", "--all", action="store_true", help="also those that do not run")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="those of all namespaces")
    parser.add_argument("-l", "--selector", metavar="KEY=VALUE,…", help="only those of pods with these labels")
    parser.add_argument("-q", "--quiet", action="store_true", help="only the ids")
    parser.add_argument("--no-trunc", action="store_true", help="whole ids")
    parser.add_argument("--format", metavar="FORMAT", help=f"json, or fields: '{{{{.Name}}}}': {', '.join(FIELDS)}")
    parser.add_argument("--no-headers", action="store_true", help="leave out the table's first line")


def run(args: argparse.Namespace) -> int:
    if args.quiet and args.format:
        raise UsageError("ps: --quiet and --format cannot be used together")
    message: Object = {
        "verb": "get",
        "kind": "pods",
        "namespace": None if args.all_namespaces else namespace_of(args),
        "selector": args.selector or "",
        "output": "object",
    }
    events, _ = fetch_each(args, [None], message)
    found = [entry for event in events for entry in containers_of(event["object"], time.time())]
    shown = [entry for entry in found if args.all or entry["State"] == "running"]
    if not args.no_trunc and args.format != "json":
        shown = [{**entry, "ID": entry["ID"][:SHORT_ID]} for entry in shown]
    sys.stdout.write(text_of(shown, args))
    return 0


def text_of(entries: list[Object], args: argparse.Namespace) -> str:
    """As --quiet and --format want it. Raises UsageError for a field that there is not."""
    if args.quiet:
        return "".join(f"{entry['ID']}\n" for entry in entries if entry["ID"])
    if args.format == "json":
        import json

        return json.dumps(entries, indent=4, ensure_ascii=False) + "\n"
    if args.format:
        template = args.format.removeprefix("table ").replace("\\t", "\t")
        unknown = [name for name in _FIELD.findall(template) if name not in FIELDS]
        if unknown or "{{" in _FIELD.sub("", template):
            raise UsageError(f"ps: --format {args.format!r}: json, or {{{{.FIELD}}}} with {', '.join(FIELDS)}")
        parts = _FIELD.split(template)  # text and fields in turn
        return "".join(_filled(parts, entry) + "\n" for entry in entries)
    columns = {"NAMESPACE": "Namespace", **COLUMNS} if args.all_namespaces else COLUMNS
    rows = [] if args.no_headers else [list(columns)]
    rows += [[entry[field] for field in columns.values()] for entry in entries]
    return table(rows)


def _filled(parts: list[str], entry: Object) -> str:
    return "".join(entry[part] if index % 2 else part for index, part in enumerate(parts))


def containers_of(pod: Object, now_s: float) -> list[Object]:
    """Every container that has a status, in the order of the spec, by the names of `FIELDS`."""
    statuses = {entry["name"]: entry for key in STATUS_LISTS for entry in pod.get("status", {}).get(key) or []}
    found = []
    for container in (container for key in SPEC_LISTS for container in pod["spec"].get(key) or []):
        status = statuses.get(container["name"], {})
        state, text, since = _state(status, now_s)
        found.append(
            {
                "ID": status.get("containerID", "").rpartition("//")[2],
                "Image": container["image"],
                "CreatedAt": since,
                "Status": text,
                "State": state,
                "Ports": ", ".join(map(port_text, container.get("ports") or [])),
                "Pod": pod["metadata"]["name"],
                "Namespace": pod["metadata"].get("namespace", "default"),
                "Name": container["name"],
            }
        )
    return found


def _state(status: Object, now_s: float) -> tuple[str, str, str]:
    """(running | exited | waiting, docker's words for it, since when)."""
    state = status.get("state") or {}

    def ago(stamp: object) -> str:
        return human_duration(now_s - (seconds_of(str(stamp)) or now_s))

    if (running := state.get("running")) is not None:
        ready = "" if status.get("ready", True) else " (not ready)"
        since = ago(running.get("startedAt"))
        return "running", f"Up {since}{ready}", f"{since} ago"
    if (ended := state.get("terminated")) is not None:
        code, when = ended.get("exitCode", 0), ago(ended.get("finishedAt"))
        return "exited", f"Exited ({code}) {when} ago", f"{ago(ended.get('startedAt'))} ago"
    return "waiting", (state.get("waiting") or {}).get("reason", "Waiting"), "-"


def port_text(port: Object) -> str:
    """As docker shows a port: `0.0.0.0:18080->80/tcp`; without one of the host `80/tcp`."""
    there = f"{port['containerPort']}/{port.get('protocol', 'TCP').lower()}"
    if not port.get("hostPort"):
        return there
    return f"{port.get('hostIP') or '0.0.0.0'}:{port['hostPort']}->{there}"
