"""scripts/bench against figures that were kept: what is worse, and what only noise."""

from __future__ import annotations

import random
import statistics
from pathlib import Path

import pytest

from tests.bench import baseline
from tests.bench.measure import Figure


def figure(*samples: float, unit: str = "ms", name: str = "start") -> Figure:
    return Figure(name, unit, list(samples))


def word(before: Figure, now: Figure, percent: float = 5) -> str:
    (verdict,) = baseline.compared({before.name: before}, [now], percent)
    return verdict.word


@pytest.mark.parametrize(
    ("before", "now", "wanted"),
    [
        (figure(10, 10.1, 9.9, 10, 10, 10.2), figure(12, 12.1, 11.9, 12, 12, 12.2), "worse"),
        (figure(12, 12.1, 11.9, 12, 12, 12.2), figure(10, 10.1, 9.9, 10, 10, 10.2), "better"),
        (figure(10, 10.1, 9.9, 10, 10, 10.2), figure(10.3, 10.4, 10.3, 10.3, 10.3, 10.4), "same"),
        (figure(10, 30, 9, 10, 10, 11), figure(12, 9, 12, 12, 12, 13), "unsure"),
        (figure(10), figure(20), "few"),
        (figure(100, 100, 100, 100, 100, 100, unit="1/s"), figure(50, 50, 50, 50, 50, 50, unit="1/s"), "worse"),
        (figure(0, 0, 0, 0, 0), figure(0, 0, 0, 0, 0), "same"),
    ],
)
def test_worse_is_more_than_percent_and_more_than_noise(before: Figure, now: Figure, wanted: str) -> None:
    assert word(before, now) == wanted


def test_noise_alone_is_seldom_worse() -> None:
    dice = random.Random(7)

    def run() -> Figure:
        return figure(*(10 * dice.lognormvariate(0, 0.2) for _ in range(10)))

    words = [word(run(), run(), percent=0) for _ in range(400)]
    assert words.count("worse") <= 8, "both intervals would have to miss, on the sides that face away"
    slower = [word(run(), figure(*(2 * sample for sample in run().samples)), percent=5) for _ in range(100)]
    assert slower.count("worse") >= 90


@pytest.mark.parametrize("count", [1, 2, 5, 6, 9, 10, 30])
def test_the_interval_holds_the_median(count: int) -> None:
    samples = [random.Random(count).random() for _ in range(count)]
    low, high = baseline.interval(samples)
    assert min(samples) <= low <= statistics.median(samples) <= high <= max(samples)


def test_the_interval_of_ten_is_that_of_the_tables() -> None:
    assert baseline.interval([float(number) for number in range(1, 11)]) == (2, 9)
    assert baseline.interval([float(number) for number in range(1, 21)]) == (6, 15)


def test_figures_are_kept_and_those_not_measured_now_stay(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "kept.json"
    baseline.save(file, [figure(1, 2, 3), figure(4, name="stop")])
    baseline.save(file, [figure(5, 6)])
    assert baseline.load(file) == {"start": figure(5, 6), "stop": figure(4, name="stop")}


def test_the_report_says_what_is_worse_and_that_the_machine_is_slower() -> None:
    before = {found.name: found for found in (figure(*[10.0] * 6), figure(*[20.0] * 6, name=baseline.FLOOR))}
    now = [figure(*[15.0] * 6), figure(*[30.0] * 6, name=baseline.FLOOR)]
    lines = baseline.report(list(baseline.compared(before, now)), 5).splitlines()
    assert lines[1].split() == ["start", "10.0", "15.0", "ms", "+50.0", "%", "worse"]
    assert lines[-2:] == [
        "the floor itself differs by +50.0 %: the machine is not as it was",
        "2 of 2 figures are worse by more than 5 %",
    ]


def test_a_machine_has_one_name() -> None:
    assert baseline.machine() == baseline.machine()
    assert baseline.default_file().name == f"{baseline.machine()}.json"
