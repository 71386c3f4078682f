"""Times, durations and ages."""

from __future__ import annotations

import pytest

from minipod.api import timestamps


def test_times_are_read_and_written_as_rfc_3339() -> None:
    moment = timestamps.parse_time("2026-01-31T12:00:00+02:00")
    assert timestamps.format_time(moment) == "2026-01-31T10:00:00Z"
    assert timestamps.seconds_of("1970-01-01T00:01:00Z") == 60
    assert timestamps.micro_time_of(0.000001) == "1970-01-01T00:00:00.000001Z"
    assert timestamps.time_of(61.9) == "1970-01-01T00:01:01Z"


@pytest.mark.parametrize(
    "text", ["", "2026-01-31", "2026-02-30T00:00:00Z", "2026-01-31 12:00:00Z", "now", "0001-01-01T00:00:00+01:00"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|day"):
        timestamps.parse_time(text)


def test_durations_are_go_s() -> None:
    assert timestamps.parse_duration("1h30m") == 5400
    assert timestamps.parse_duration("-1.5s") == -1.5
    assert timestamps.parse_duration("250ms") == 0.25
    assert timestamps.parse_duration("0") == 0
    for text in ("", "5", "5x", "h", "1h 2m"):
        with pytest.raises(ValueError, match="duration"):
            timestamps.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "age"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (601, "10m"),
        (10_800, "3h"),
        (11_000, "3h3m"),
        (86_400, "24h"),
        (200_000, "2d7h"),
        (800_000, "9d"),
        (-5, "<invalid>"),
    ],
)
def test_ages_are_kubectl_s(seconds: float, age: str) -> None:
    assert timestamps.human_duration(seconds) == age
