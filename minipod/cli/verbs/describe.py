"""`minipod describe` (layer 6): asks for objects and their events; `show.describe_*` lay them out."""

from __future__ import annotations

import argparse
import sys
import time

from minipod.api.kinds import POD, Kind
from minipod.api.timestamps import seconds_of
from minipod.cli.client import Client
from minipod.cli.options import namespace_of
from minipod.cli.pods import get_pod
from minipod.cli.resources import is_pods, resources
from minipod.cli.show.describe_pod import describe, event_text
from minipod.cli.values import Object
from minipod.cli.verbs.get import fetch, fetch_each
from minipod.errors import NotFoundError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Show a pod's spec, state, conditions and events, or another object. No secret is shown."
    parser.add_argument("words", nargs="*", metavar="KIND NAME…", help="pod NAME…, cm/NAME…; without a name all")
    parser.add_argument(
        "--show-events",
        action="store_true",
        default=True,
        help="the events too (the default; --show-events=false leaves them out)",
    )


def run(args: argparse.Namespace) -> int:
    client = Client.of(args, "describe")
    namespace = namespace_of(args)
    found = resources(args.words, "describe")
    if not is_pods(found):
        return describe_all(args, found)
    names = found[0][1]
    if names:
        pods = [get_pod(client, namespace, name) for name in names]
    else:
        message = {"verb": "get", "kind": "pods", "namespace": namespace, "name": None, "output": "object"}
        pods = fetch(args, message)
    if not pods:
        raise NotFoundError(f"no pods found in {namespace} namespace")
    texts = [describe(pod, events_of(client, pod) if args.show_events else None, time.time()) for pod in pods]
    sys.stdout.write("\n\n".join(texts))
    return 0


def describe_all(args: argparse.Namespace, found: list[tuple[Kind, list[str]]]) -> int:
    """Every object that is meant, with an empty line or two in between; then what is missing."""
    from minipod.cli.show.describe_objects import text_of

    client = Client.of(args, "describe")
    texts: list[str] = []
    missing: NotFoundError | None = None
    for kind, names in found:
        message: Object = {"verb": "get", "kind": kind.plural, "namespace": namespace_of(args), "output": "object"}
        events, lost = fetch_each(args, list(names) or [None], message)
        missing = missing or lost
        for event in events:
            thing = event["object"]
            if kind is POD:
                shown = events_of(client, thing) if args.show_events else None
                texts.append(describe(thing, shown, time.time()))
                continue
            users = pods_using(args, thing) if kind.name == "PersistentVolumeClaim" else []
            text = text_of(thing, users)
            if args.show_events and kind.name not in ("Secret", "Event"):
                shown = events_of(client, thing)
                text += "\n" + (event_text(shown, time.time()) if shown else "Events:  <none>\n")
            texts.append(text)
    sys.stdout.write("\n\n".join(texts))
    if missing is not None:
        raise missing
    if not texts:
        raise NotFoundError(f"no {found[0][0].plural} found in {namespace_of(args)} namespace")
    return 0


def pods_using(args: argparse.Namespace, claim: Object) -> list[str]:
    meta = claim["metadata"]
    message: Object = {"verb": "get", "kind": "pods", "namespace": meta.get("namespace", "default"), "output": "object"}
    events, _ = fetch_each(args, [None], message)
    return [
        event["object"]["metadata"]["name"]
        for event in events
        for volume in event["object"]["spec"].get("volumes") or []
        if (volume.get("persistentVolumeClaim") or {}).get("claimName") == meta["name"]
        or ("ephemeral" in volume and f"{event['object']['metadata']['name']}-{volume['name']}" == meta["name"])
    ]


def events_of(client: Client, pod: Object) -> list[Object]:
    meta = pod["metadata"]
    selector = f"involvedObject.kind={pod.get('kind', 'Pod')},involvedObject.name={meta['name']}"
    message = {"verb": "get", "kind": "events", "namespace": meta.get("namespace", "default"), "output": "object"}
    events, _ = client.call({**message, "field_selector": selector})
    found = [event["object"] for event in events]
    same = [event for event in found if (event.get("involvedObject") or {}).get("uid", meta["uid"]) == meta["uid"]]
    # describe.go DescribeEvents: by lastTimestamp alone; the scheduler's event has none and comes first
    return sorted(same, key=lambda event: seconds_of(event.get("lastTimestamp")) or 0.0)
