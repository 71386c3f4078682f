"""Lists of objects and rows from the agent (layer 6). Starts no agent where none has ever kept an object."""

from __future__ import annotations

import argparse

from minipod.cli.client import Client, Request
from minipod.cli.values import Object
from minipod.errors import NotFoundError


def drain(request: Request) -> list[Object]:
    events = []
    while (event := request.next()) is not None:
        events.append(event)
    return events


def fetch_events(args: argparse.Namespace, message: Object) -> list[Object]:
    """What the agent sends for a `get`. Raises NotFoundError."""
    request = Client.of(args, "get").request_if_pods({**message, "watch": False})
    if request is None:
        if message.get("name"):
            raise NotFoundError(f'{message["kind"]} "{message["name"]}" not found')
        return []
    with request:
        return drain(request)


def fetch(args: argparse.Namespace, message: Object) -> list[Object]:
    """The objects. Raises NotFoundError."""
    return [event["object"] for event in fetch_events(args, message) if "object" in event]


def fetch_each(
    args: argparse.Namespace, names: list[str | None], message: Object
) -> tuple[list[Object], NotFoundError | None]:
    """What there is of the names, and an error that names what is not there."""
    events: list[Object] = []
    missing: list[str] = []
    for name in names:
        try:
            events += fetch_events(args, {**message, "name": name})
        except NotFoundError as error:
            missing.append(str(error))
    return events, NotFoundError("; ".join(missing)) if missing else None
