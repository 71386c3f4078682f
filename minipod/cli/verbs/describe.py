"""`minipod describe` (layer 6): asks for objects and their events; `show.describe_*` lay them out."""

from __future__ import annotations

import argparse
import sys
import time

from minipod.api.kinds import POD
from minipod.cli import wanted
from minipod.cli.client import Client
from minipod.cli.fetching import fetch
from minipod.cli.manifest_options import is_given
from minipod.cli.options import namespace_of
from minipod.cli.show.describe_pod import describe, event_text
from minipod.cli.show.event_columns import order
from minipod.cli.values import Object
from minipod.cli.wanted import Found, Wanted
from minipod.errors import NotFoundError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show a pod's spec, state, conditions and events, or another object. A name that is not there is the beginning "
        "of names. No secret is shown."
    )
    parser.add_argument("words", nargs="*", metavar="KIND NAME…", help="pod NAME…, cm/NAME…; without a name all")
    parser.add_argument(
        "--show-events",
        action="store_true",
        default=None,
        help="the events too (the default for one object; --show-events=false leaves them out)",
    )
    wanted.add_files(parser)
    parser.add_argument("-l", "--selector", metavar="KEY=VALUE,…", help="the objects with these labels")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="those of all namespaces")


def run(args: argparse.Namespace) -> int:
    if not args.words and not is_given(args):
        raise UsageError("describe: which pod? use for example: minipod describe pod NAME")
    asked = wanted.wanted(args, args.words, "describe", all_without_names=True)
    found, missing = wanted.fetched(args, asked)
    if missing is not None and len(args.words) == 2 and len(asked) == 1:
        return describe_matching(args, asked[0], missing)
    with_events = args.show_events if args.show_events is not None else len(found) == 1 and missing is None
    client = Client.of(args, "describe")
    sys.stdout.write("\n\n".join(text_of(args, client, each, with_events) for each in found))
    if missing is not None:
        raise missing
    if not found:
        where = "" if args.all_namespaces else f" in {namespace_of(args)} namespace."
        print(f"No resources found{where}", file=sys.stderr)
    return 0


def describe_matching(args: argparse.Namespace, asked: Wanted, missing: NotFoundError) -> int:
    """Every object whose name begins so (describe.go, DescribeMatchingResources). Raises NotFoundError."""
    prefix = asked.name or ""
    every, _ = wanted.fetched(args, [Wanted(asked.kind, asked.namespace, None)])
    found = [each for each in every if each.name.startswith(prefix)]
    if not found:
        raise missing
    client = Client.of(args, "describe")
    for each in found:
        print(text_of(args, client, each, args.show_events is not False))
    return 0


def text_of(args: argparse.Namespace, client: Client, each: Found, with_events: bool) -> str:
    now, thing = time.time(), each.object
    if each.kind is POD:
        return describe(thing, events_of(client, thing) if with_events else None, now)
    from minipod.cli.show import describe_objects

    users = pods_using(args, thing) if each.kind.name == "PersistentVolumeClaim" else []
    text = describe_objects.text_of(thing, users)
    if with_events and each.kind.name not in ("Secret", "Event"):
        shown = events_of(client, thing)
        text += "\n" + (event_text(shown, now) if shown else "Events:  <none>\n")
    return text


def pods_using(args: argparse.Namespace, claim: Object) -> list[str]:
    meta = claim["metadata"]
    message: Object = {"verb": "get", "kind": "pods", "namespace": meta.get("namespace", "default"), "output": "object"}
    return [
        pod["metadata"]["name"]
        for pod in fetch(args, message)
        for volume in pod["spec"].get("volumes") or []
        if (volume.get("persistentVolumeClaim") or {}).get("claimName") == meta["name"]
        or ("ephemeral" in volume and f"{pod['metadata']['name']}-{volume['name']}" == meta["name"])
    ]


def events_of(client: Client, thing: Object) -> list[Object]:
    meta = thing["metadata"]
    selector = f"involvedObject.kind={thing.get('kind', 'Pod')},involvedObject.name={meta['name']}"
    message = {"verb": "get", "kind": "events", "namespace": meta.get("namespace", "default"), "output": "object"}
    events, _ = client.call({**message, "field_selector": selector})
    found = [event["object"] for event in events]
    same = [event for event in found if (event.get("involvedObject") or {}).get("uid", meta["uid"]) == meta["uid"]]
    return sorted(same, key=order)
