"""Times and durations as Kubernetes reads and writes them (layer 1, pure). Reads no clock."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

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


_LAST_S = 253402300799  # 9999-12-31T23:59:59Z: RFC 3339 has years of four digits, and a grace period may be any int64


@lru_cache(maxsize=256)  # a status names the same moments again and again
def timestamp(seconds: float) -> str:
    """metav1.Time of seconds since 1970: UTC, whole seconds, `2026-01-31T12:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(min(seconds, _LAST_S)))


def seconds_of(text: str | None) -> float | None:
    """Seconds since 1970 of an RFC 3339 text; None where there is none. Raises ValueError."""
    return datetime.fromisoformat(text).timestamp() if text else None


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


def go_duration(seconds: float) -> str:
    """As Go prints a Duration, cut to whole milliseconds: 812ms, 1.5s, 1m20s, 5m0s, 1h0m0s."""
    millis = int(seconds * 1000 + 1e-6)
    if 0 < millis < 1000:
        return f"{millis}ms"
    hours, minutes, rest = millis // 3_600_000, millis // 60_000 % 60, millis % 60_000
    text = f"{rest // 1000}.{rest % 1000:03d}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def human_duration(seconds: float) -> str:
    """Two or three significant figures: 90s, 4m10s, 3h, 2d4h (apimachinery duration.HumanDuration)."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    if total < 120:
        return f"{max(total, 0)}s"
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if minutes < 10:
        return _two(minutes, "m", total % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 2920:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(first: int, unit: str, second: int, small: str) -> str:
    return f"{first}{unit}{second}{small}" if second else f"{first}{unit}"
