"""Times, durations and ages."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from minipod.api.timestamps import human_duration, parse_duration, parse_time, seconds_of, timestamp


def test_times_are_read_and_written_as_rfc_3339() -> None:
    assert parse_time("2026-01-31T12:00:00+02:00") == datetime(2026, 1, 31, 10, tzinfo=UTC)
    assert timestamp(61.9) == "1970-01-01T00:01:01Z"
    assert seconds_of("1970-01-01T00:01:00Z") == 60
    assert seconds_of("1970-01-01T01:01:00.25+01:00") == 60.25
    assert seconds_of(None) is None


@pytest.mark.parametrize(
    "text", ["", "2026-01-31", "2026-02-30T00:00:00Z", "2026-01-31 12:00:00Z", "now", "0001-01-01T00:00:00+01:00"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|day"):
        parse_time(text)


def test_durations_are_go_s() -> None:
    assert parse_duration("1h30m") == 5400
    assert parse_duration("-1.5s") == -1.5
    assert parse_duration("250ms") == 0.25
    assert parse_duration("0") == 0
    for text in ("", "5", "5x", "h", "1h 2m"):
        with pytest.raises(ValueError, match="duration"):
            parse_duration(text)


AGES = [
    (-5, "<invalid>"),
    (-1, "0s"),
    (-0.5, "0s"),
    (0, "0s"),
    (59.9, "59s"),
    (119, "119s"),
    (120, "2m"),
    (125, "2m5s"),
    (245, "4m5s"),
    (250, "4m10s"),
    (599, "9m59s"),
    (600, "10m"),
    (601, "10m"),
    (3600, "60m"),
    (10799, "179m"),
    (10800, "3h"),
    (11_000, "3h3m"),
    (4 * 3600, "4h"),
    (4 * 3600 + 60, "4h1m"),
    (14700, "4h5m"),
    (8 * 3600, "8h"),
    (9 * 3600, "9h"),
    (86_400, "24h"),
    (47 * 3600, "47h"),
    (48 * 3600, "2d"),
    (50 * 3600, "2d2h"),
    (53 * 3600, "2d5h"),
    (200_000, "2d7h"),
    (8 * 86400, "8d"),
    (9 * 86400, "9d"),
    (800_000, "9d"),
    (700 * 86400, "700d"),
    (2 * 365 * 86400, "2y"),
    (733 * 86400, "2y3d"),
    (800 * 86400, "2y70d"),
    (9 * 365 * 86400, "9y"),
    (4000 * 86400, "10y"),
]


def test_ages_are_kubectls() -> None:
    assert [(seconds, human_duration(seconds)) for seconds, _ in AGES] == AGES
