"""Timing whole commands and requests, and their report. Knows nothing of minipod."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Figure:
    """One row: samples in `unit`, and what the project has promised, if anything."""

    name: str
    unit: str
    samples: list[float] = field(default_factory=list)
    budget: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "unit": self.unit,
            "median": round(self.median, 3),
            "min": round(min(self.samples), 3),
            "max": round(max(self.samples), 3),
            "runs": len(self.samples),
            "budget": self.budget,
        }


def milliseconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1000


def run(*command: str, **environment: str) -> str:
    """The command's standard output. Raises CalledProcessError with what it wrote on standard error."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=environment or None
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout


def table(figures: Sequence[Figure]) -> str:
    """Aligned columns, one row a figure."""
    rows = [("what", "median", "min", "max", "unit", "budget")]
    for figure in figures:
        budget = (
            "" if figure.budget is None else f"≤ {figure.budget:g}" + (" !" if figure.median > figure.budget else "")
        )
        low, middle, high = (f"{value:.1f}" for value in (min(figure.samples), figure.median, max(figure.samples)))
        rows.append((figure.name, middle, low, high, figure.unit, budget))
    return aligned(rows)


def aligned(rows: Sequence[tuple[str, str, str, str, str, str]]) -> str:
    """Names and what follows the numbers to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:4], widths[1:4], strict=True)),
        ]
        lines.append("  ".join([*cells, row[4].ljust(widths[4]), row[5]]).rstrip())
    return "\n".join(lines)


def to_json(figures: Sequence[Figure]) -> str:
    return json.dumps([figure.as_json() for figure in figures], indent=1, ensure_ascii=False) + "\n"
