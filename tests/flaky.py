"""Tests that fail first and pass when they are run again: printed, and kept in a file, so that they are mended one day.

`.ci/run` runs what failed once more, with `--again`. A run without it remembers in pytest's cache which tests failed
and why; one with it says which of these have passed now and adds a line for each to `build/flaky.jsonl`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

KEPT = "minipod/failed"
MAX_MESSAGE = 200
TITLE = "failed first, passed when run again"


class Flaky:
    """A pytest plugin, one a session."""

    def __init__(self, config: pytest.Config, seed: str, file: Path) -> None:
        self._config = config
        self._is_again: bool = config.getoption("--again")
        self._seed = seed
        self._file = file
        self._failed: dict[str, str] = {}
        self._ran: set[str] = set()

    @property
    def _cache(self) -> pytest.Cache | None:
        """None with -p no:cacheprovider, and in a worker of pytest-xdist: what started it gets all reports."""
        return None if hasattr(self._config, "workerinput") else getattr(self._config, "cache", None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._ran.add(report.nodeid)
        if report.failed and report.nodeid not in self._failed:
            self._failed[report.nodeid] = _message(report)

    def pytest_sessionfinish(self) -> None:
        if self._cache is None:
            return
        if not self._is_again:
            self._cache.set(KEPT, {"seed": self._seed, "tests": self._failed})
        elif lines := self._flaky():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        lines = self._flaky() if self._is_again else []
        if lines:
            terminalreporter.section(TITLE)
            for line in lines:
                terminalreporter.line(f"{line['test']}: {line['message']}")
            terminalreporter.line(f"kept in {self._file}")

    def _flaky(self) -> list[dict[str, str]]:
        """Of each that failed before and has passed now its first message."""
        before = self._cache.get(KEPT, {}) if self._cache is not None else {}
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return [
            {"test": name, "message": message, "when": when, "seed": before["seed"]}
            for name, message in before.get("tests", {}).items()
            if name in self._ran and name not in self._failed
        ]


def _message(report: pytest.TestReport) -> str:
    """The last line of an assertion or an exception, as pytest's own summary shows it."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text: str = crash.message if crash is not None else report.longreprtext
    return next(iter(text.strip().splitlines()), "")[:MAX_MESSAGE]
