"""scripts/faults: rounds of faults until the time or the number is reached, then what came of them. Needs root."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minipod.paths import Paths
from minipod.runtime.images.store import ImageStore
from tests import guard
from tests.faults import storms
from tests.faults.instance import Instance
from tests.faults.schedule import ALL, draw
from tests.faults.soak import soak
from tests.faults.storms import Report

ROUNDS_OF_ONE = 10  # on one instance; then its agent leaves, and nothing may be left


class Totals:
    """Counts what was done, under a lock: several instances report to it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._next = 0
        self.deadline = time.monotonic() + 60 * options.minutes if options.minutes else None
        self.figures: Counter[str] = Counter()
        self.by_kind: Counter[str] = Counter()
        self.excused: Counter[str] = Counter()
        self.failed: list[str] = []

    def stop(self, *_: object) -> None:
        """No round after those that are being played."""
        self.deadline = 0.0

    def next_seed(self) -> str | None:
        """Of the round that is to come; None: no other."""
        with self._lock:
            over = self.deadline is not None and time.monotonic() > self.deadline
            if over or (self._options.rounds and self._next >= self._options.rounds):
                return None
            self._next += 1
            return self._options.seed if self._options.rounds == 1 else f"{self._options.seed}.{self._next - 1}"

    def add(self, report: Report) -> None:
        with self._lock:
            self.figures.update(rounds=1, pods=len(report.round.pods))
            self.figures.update({name: getattr(report, name) for name in ("kills", "refused", "lines", "attempts")})
            self.by_kind.update(finding.kind for finding in report.findings)
            self.excused.update(finding.kind for finding in report.excused)
            mark = "FAILED" if report.findings else "ok"
            print(f"{report.round.seed:>14} {report.round.storm:<9} {mark:<6} {report.took_s:5.1f} s", flush=True)
            if self._options.verbose and not report.findings:
                print("\n".join(f"  {line}" for line in report.happened), flush=True)
            if report.findings:
                self.failed.append(report.round.seed)
                print(words_of(report, tuple(self._options.only)), flush=True)

    def leak(self, words: list[str]) -> None:
        with self._lock:
            self.by_kind["leak"] += 1
            self.failed.append("an instance")
            print("left behind by an instance:\n  " + "\n  ".join(words), flush=True)


def words_of(report: Report, only: tuple[str, ...]) -> str:
    """A failed round: what is wrong, what was done when, the agent's last lines, and how to repeat it."""
    again = f"scripts/faults --rounds 1 --seed {report.round.seed}"
    again += "".join(f" --only {name}" for name in only)
    pods = ", ".join(
        f"{pod.name} ({pod.kind}: {'/'.join(c.name for c in pod.containers)})" for pod in report.round.pods
    )
    return "\n".join((
        *(f"  ! {finding}" for finding in report.findings),
        f"  pods: {pods}",
        *(f"  {line}" for line in report.happened),
        "  agent.log:",
        *(f"  | {line}" for line in report.log.splitlines()),
        f"  again: {again}",
    ))  # fmt: skip


def work(slot: int, images: str, options: argparse.Namespace, totals: Totals) -> None:
    """Rounds on one instance after the other, until there are no more."""
    instance, played = Instance(slot, images), 0
    while (seed := totals.next_seed()) is not None:
        plan = draw(seed, tuple(options.only))
        if plan.host != instance.host:
            _end(instance, totals)
            instance = Instance(slot, images, plan.host)
        report = storms.play(instance, plan)
        totals.add(report)
        played += 1
        if report.findings or played % ROUNDS_OF_ONE == 0:  # what one round has left is not found again after the next
            _end(instance, totals)
            instance = Instance(slot, images)
    _end(instance, totals)


def _end(instance: Instance, totals: Totals) -> None:
    left = instance.end()
    if left:
        totals.leak(left)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    made.add_argument("--minutes", type=float, default=0, metavar="N", help="for so long")
    made.add_argument("--rounds", type=int, default=0, metavar="N", help="so many rounds (default: 20, or the time)")
    made.add_argument("--seed", default=None, metavar="S", help="what repeats a run, or with --rounds 1 a round")
    made.add_argument("--only", action="append", default=[], choices=ALL, help="this kind; repeatable")
    made.add_argument(
        "--soak", type=int, default=0, metavar="N", help="instead: creates and deletes N pods, 20 at a time"
    )
    made.add_argument("--verbose", action="store_true", help="what was done when, of rounds that pass too")
    made.add_argument("--jobs", type=int, default=4, metavar="N", help="instances at the same time (4)")
    return made


@contextmanager
def _images() -> Iterator[str]:
    """An image store with busybox in it."""
    with tempfile.TemporaryDirectory(prefix="mpi") as folder:
        ImageStore(Paths(f"{folder}/root", folder)).load_layout(guard.write_marked_busybox(Path(folder, "layout")))
        yield f"{folder}/images"


def _soak(pods: int) -> int:
    with _images() as images:
        instance = Instance(0, images)
        began = time.monotonic()
        found = soak(instance, pods, lambda line: print(f"{time.monotonic() - began:6.0f} s {line}", flush=True))
        left = instance.end()
    print("\n".join(map(str, [*found, *left])) or "nothing has grown, nothing is left")
    return 1 if found or left else 0


def main() -> int:
    options = parser().parse_args()
    if os.geteuid() != 0:
        print("scripts/faults: needs root", file=sys.stderr)
        return 2
    options.rounds = options.rounds or (0 if options.minutes else 20)
    options.seed = options.seed or secrets.token_hex(4)
    totals, began = Totals(options), time.monotonic()
    if options.soak:
        return _soak(options.soak)
    print(f"seed {options.seed}", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, totals.stop)
    with _images() as images:
        threads = [
            threading.Thread(target=work, args=(slot, images, options, totals))
            for slot in range(min(options.jobs, options.rounds or options.jobs))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(", ".join(f"{count} {name}" for name, count in totals.figures.items()), end="; ")
    print(f"{time.monotonic() - began:.0f} s; lost where both died at once: {dict(totals.excused)}")
    print(f"failures: {dict(totals.by_kind) or 'none'} {' '.join(totals.failed)}")
    return 1 if totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())
