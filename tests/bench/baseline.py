"""Figures of an earlier run on this machine, and whether those of now are worse. Measures nothing.

The file is outside of the checkout, one for each machine: figures of two machines say nothing about a change. A figure
is worse where its median is worse by more than some percent and the intervals in which both medians lie (95 %, by
order statistics, which need no assumption about the noise) do not overlap.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.measure import Figure, aligned

FEW = 5  # samples: with fewer than these there is no telling
PERCENT = 5.0
CONFIDENCE = 0.95
RATES = ("1/s",)  # units of which more is better
FLOOR = "python3 -c pass (the floor)"


def default_file() -> Path:
    """`~/.cache/minipod/bench/<machine>.json`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "minipod", "bench", f"{machine()}.json")


def machine() -> str:
    """The same as long as host, kernel release, processor and its count stay the same."""
    identity = Path("/etc/machine-id")
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    words = [identity.read_text() if identity.exists() else os.uname().nodename, os.uname().release, *cpu]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def save(file: Path, figures: Sequence[Figure]) -> None:
    """Figures that were not measured now stay as they were."""
    kept = load(file) if file.exists() else {}
    kept |= {figure.name: figure for figure in figures}
    rows = [{"name": figure.name, "unit": figure.unit, "samples": figure.samples} for figure in kept.values()]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(file: Path) -> dict[str, Figure]:
    """By name. Raises OSError, ValueError."""
    rows = json.loads(file.read_text(encoding="utf-8"))
    return {row["name"]: Figure(row["name"], row["unit"], [float(sample) for sample in row["samples"]]) for row in rows}


class Verdict(NamedTuple):
    """`word`: worse | better | same | unsure (the medians differ, the intervals overlap) | few (samples)."""

    name: str
    before: float
    now: float
    unit: str
    percent: float  # more is slower, larger, or a lower rate
    word: str


def compared(before: Mapping[str, Figure], now: Sequence[Figure], percent: float = PERCENT) -> Iterator[Verdict]:
    """Of each figure that both runs have."""
    for figure in now:
        old = before.get(figure.name)
        if old is not None and old.unit == figure.unit:
            yield _verdict(old, figure, percent)


def _verdict(old: Figure, new: Figure, percent: float) -> Verdict:
    sign = -1 if new.unit in RATES else 1
    change = sign * 100 * (new.median - old.median) / old.median if old.median else 0.0
    if min(len(old.samples), len(new.samples)) < FEW:
        word = "few"
    elif abs(change) <= percent:
        word = "same"
    elif _overlap(interval(old.samples), interval(new.samples)):
        word = "unsure"
    else:
        word = "worse" if change > 0 else "better"
    return Verdict(new.name, old.median, new.median, new.unit, change, word)


def interval(samples: Sequence[float]) -> tuple[float, float]:
    """In which the median lies: the k-th smallest and the k-th largest, k as large as the confidence allows."""
    ordered, count = sorted(samples), len(samples)
    outside, k = 2 * 0.5**count, 1
    while k < count // 2 and (wider := outside + 2 * math.comb(count, k) * 0.5**count) <= 1 - CONFIDENCE:
        outside, k = wider, k + 1
    return ordered[k - 1], ordered[-k]


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def report(verdicts: Sequence[Verdict], percent: float) -> str:
    rows = [("what", "before", "now", "unit", "change", "")]
    for found in verdicts:
        change = f"{found.percent:+.1f} %"
        rows.append((found.name, f"{found.before:.1f}", f"{found.now:.1f}", found.unit, change, found.word))
    lines = [aligned(rows)]
    floor = next((found for found in verdicts if found.name == FLOOR), None)
    if floor is not None and abs(floor.percent) > percent:
        lines.append(f"the floor itself differs by {floor.percent:+.1f} %: the machine is not as it was")
    worse = [found.name for found in verdicts if found.word == "worse"]
    lines.append(f"{len(worse)} of {len(verdicts)} figures are worse by more than {percent:g} %")
    return "\n".join(lines)
