"""v1 Events as rows (layer 6): the tables of `kubectl events` and `kubectl get events`. Pure."""

from __future__ import annotations

from minipod.api.timestamps import human_duration, seconds_of
from minipod.cli.values import Object

HEADER = ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
GET_WIDE_HEADER = [*HEADER[:4], "SUBOBJECT", "SOURCE", "MESSAGE", "FIRST SEEN", "COUNT", "NAME"]


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
        component = source.get("component") or event.get("reportingComponent", "")
        place = source.get("host") or event.get("reportingInstance", "")
        row += [subject.get("fieldPath", ""), f"{component}, {place}" if place else component, message]
        return [*row, first, event.get("count") or 1, event["metadata"]["name"]]


def last_seen(event: Object) -> float:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((found for text in times if (found := seconds_of(text)) is not None), 0.0)


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
    return "<unknown>" if moment is None else human_duration(now - moment)
