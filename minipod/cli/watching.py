"""A list and its changes, for as long as the caller likes (layer 6): lists again where a watch cannot be continued.

As client-go's reflector: when the agent was killed or replaced, or this process read so slowly that changes are not
kept any more, it lists again, and what differs from what it knows comes as changes.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Iterator

from minipod.cli.client import AgentLostError, Client, Request
from minipod.cli.values import Object
from minipod.errors import ExpiredError

REPLACED_S = 30.0  # how long another agent is waited for when one has left on purpose
_LOOK_S = 0.1
_PAUSE_S = 5.0  # at most, between lists that come to nothing

Key = tuple[str, str]
LISTED = "listed"
"""The type of the one message that says that the initial list is complete."""


class Item:
    """One object as it was sent. `event`: type, and `object` or `columns` with one row in `rows`."""

    __slots__ = ("event", "key", "uid", "version")

    def __init__(self, event: Object, namespace: str, name: str, uid: str, version: str) -> None:
        self.event = event
        self.key = (namespace, name)
        self.uid = uid
        self.version = version


class Watching:
    """`message`: a `get`. `next` gives events of one object each, as the agent sends them, and once one `LISTED`."""

    def __init__(self, client: Client, message: Object) -> None:
        self._client = client
        self._message = {**message, "watch": True}
        self._known: dict[Key, Item] = {}
        self._list: dict[Key, Item] | None = None  # of a list that is not complete; None in a watch and in the first
        self._is_first = True
        self._ready: deque[Object] = deque()
        self._leaving = False
        self._failures = 0  # lists that were begun again since the last complete one
        self._request = client.request(self._message)

    def __enter__(self) -> Watching:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._request.channel.close()

    def next(self, deadline: float | None = None) -> Object | None:
        """The next event; None when the time (of time.monotonic) is up, or the agent ended the watch.

        Raises AgentLostError where the agent left and no other one came, and what the agent answers.
        """
        while not self._ready:
            try:
                event = received(self._request, deadline)
            except ExpiredError:
                self._list_again()
                continue
            except AgentLostError:
                if not self._another_comes(deadline):
                    return None
                self._list_again()
                continue
            if event is None:
                return None
            self._take(event)
        return self._ready.popleft()

    def _list_again(self) -> None:
        self._request.channel.close()
        if self._failures:
            time.sleep(min(_LOOK_S * 2**self._failures, _PAUSE_S))
        self._failures += 1
        self._list, self._leaving = {}, False
        # An agent of another version is not replaced by one that was there before it.
        self._request = self._client.request(self._message, replaces=False)

    def _another_comes(self, deadline: float | None) -> bool:
        """After a crash `Client.request` starts the next agent; one that was asked to leave may have no successor.

        False when the time is up. Raises AgentLostError.
        """
        until = time.monotonic() + REPLACED_S
        while self._leaving and (channel := self._client.try_connect()) is None:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return False
            if now >= until:
                raise AgentLostError("the agent left, and no other one came")
            time.sleep(_LOOK_S)
        if self._leaving and channel is not None:
            channel.close()
        return True

    def _take(self, event: Object) -> None:
        match event["event"]:
            case "leaving":
                self._leaving = True
            case "bookmark":
                self._end_list()
            case "object" | "table":
                for item in items_of(event):
                    if self._list is None:
                        self._show(item)
                    else:
                        self._list[item.key] = item

    def _show(self, item: Item) -> None:
        if item.event["type"] == "DELETED":
            self._known.pop(item.key, None)
        else:
            self._known[item.key] = item
        self._ready.append(item.event)

    def _end_list(self) -> None:
        found, self._list, self._failures = self._list, None, 0
        if found is not None:
            self._compare(found)
        if self._is_first:
            self._is_first = False
            self._ready.append({"event": LISTED, "type": LISTED})

    def _compare(self, found: dict[Key, Item]) -> None:
        """What differs from what was known before this list."""
        for key, old in list(self._known.items()):
            new = found.get(key)
            if new is None or new.uid != old.uid:
                del self._known[key]
                self._ready.append({**old.event, "type": "DELETED"})
        for key, item in found.items():
            before = self._known.get(key)
            if before is None or before.version != item.version:
                item.event["type"] = "ADDED" if before is None else "MODIFIED"
                self._known[key] = item
                self._ready.append(item.event)


def received(request: Request, deadline: float | None) -> Object | None:
    """The next event of the agent; None when the time is up or the answer complete. Raises AgentLostError."""
    while (event := request.poll()) is None:
        if request.result is not None:
            return None
        timeout_ms = None
        if deadline is not None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            timeout_ms = int(left_s * 1000) + 1
        poll = select.poll()
        poll.register(request, select.POLLIN)
        if poll.poll(timeout_ms):
            request.fill()
    return event


def items_of(event: Object) -> Iterator[Item]:
    """The objects of an `object` or `table` event."""
    if event["event"] == "object":
        meta = event["object"]["metadata"]
        place = (meta.get("namespace", ""), meta["name"], meta.get("uid", ""), meta.get("resourceVersion", ""))
        yield Item(event, *place)
        return
    for row, place in zip(event["rows"], event["objects"], strict=True):
        yield Item({**event, "rows": [row], "objects": [place]}, *place)
