"""Times as Kubernetes writes them (layer 1, pure): metav1.Time, MicroTime, and Go's durations. Never reads a clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))",
    re.ASCII,
)


def parse_time(text: str) -> datetime:
    """An RFC 3339 text as an aware datetime in UTC; raises ValueError."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no RFC 3339 time such as 2026-01-31T12:00:00Z")
    year, month, day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = match.groups()
    micros = int(((fraction or "") + "000000")[:6])
    moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), micros, tzinfo=UTC)
    if sign:
        if int(zone_hours) > 24 or int(zone_minutes) > 60:
            raise ValueError(f"{text[:40]!r} has a time zone out of range")
        offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
        try:
            moment = moment - offset if sign == "+" else moment + offset
        except OverflowError:
            raise ValueError(f"{text[:40]!r} is no time between the years 1 and 9999") from None
    return moment


def format_time(moment: datetime) -> str:
    """metav1.Time: whole seconds, UTC: `2026-01-31T12:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(moment: datetime) -> str:
    """metav1.MicroTime: `2026-01-31T12:00:00.000001Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def time_of(seconds: float) -> str:
    """metav1.Time of seconds since 1970."""
    return format_time(datetime.fromtimestamp(int(seconds), UTC))


def micro_time_of(seconds: float) -> str:
    """metav1.MicroTime of seconds since 1970."""
    return format_micro_time(datetime.fromtimestamp(seconds, UTC))


def seconds_of(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 text; raises ValueError."""
    return parse_time(text).timestamp()


_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds of a Go duration (`1h30m`, `250ms`, `-1.5s`, `0`); raises ValueError."""
    bare = text[1:] if text[:1] in ("+", "-") else text
    parts = list(_DURATION_PART.finditer(bare))
    if bare != "0" and (not parts or "".join(part.group() for part in parts) != bare):
        raise ValueError(f"{text[:40]!r} is no duration; write for example 30s, 5m or 1h30m")
    seconds = sum(float(part.group(1)) * _UNITS[part.group(2)] for part in parts)
    return -seconds if text[:1] == "-" else seconds


def human_duration(seconds: float) -> str:
    """An age as kubectl's columns show it: `5s`, `3m20s`, `4d` (apimachinery/pkg/util/duration)."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    whole = max(whole, 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        rest = whole % 60
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        rest = minutes % 60
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        rest = hours % 24
        return f"{days}d{rest}h" if rest else f"{days}d"
    if days < 730:
        return f"{days}d"
    years, rest = days // 365, days % 365
    return f"{years}y{rest}d" if days < 2920 and rest else f"{years}y"
