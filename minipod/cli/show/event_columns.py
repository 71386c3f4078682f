"""v1 Events as rows (layer 6): the table of `kubectl events`. Pure. That of `get events` is the agent's."""

from __future__ import annotations

from minipod.api.timestamps import human_duration, seconds_of
from minipod.cli.values import Object

HEADER = ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]


def row_of(event: Object, now: float) -> list[object]:
    subject = event.get("involvedObject") or {}
    return [
        interval(event, now),
        event.get("type", ""),
        event.get("reason", ""),
        f"{subject.get('kind', '')}/{subject.get('name', '')}",
        event.get("message", "").strip(),
    ]


def order(event: Object) -> tuple[float, int]:
    """Sorts events by when they happened last. Within a second by when they were written: the scheduler counts
    microseconds where all others count seconds, so their times alone would put it behind what came after it.
    """
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    second = next((found // 1 for text in times if (found := seconds_of(text)) is not None), 0.0)
    version = str(event["metadata"].get("resourceVersion") or "")
    return second, int(version) if version.isdecimal() else 0


def interval(event: Object, now: float) -> str:
    """`5s`, or `5s (x3 over 2m)` for an event that came again (kubectl getInterval)."""
    first = since(event.get("eventTime") or event.get("firstTimestamp"), now)
    series = event.get("series")
    if series:
        return f"{since(series.get('lastObservedTime'), now)} (x{series.get('count')} over {first})"
    if int(event.get("count") or 0) > 1:
        return f"{since(event.get('lastTimestamp'), now)} (x{event['count']} over {first})"
    return first


def since(text: str | None, now: float) -> str:
    moment = seconds_of(text)
    return "<unknown>" if moment is None else human_duration(now - moment // 1)
