"""`scripts/bench`: prints the table, writes JSON with --json FILE, compares with an earlier run on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench import baseline, crowd, images, manifests, peers, pods, probes, volumes
from tests.bench.measure import Figure, milliseconds, run, table, to_json


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="How long minipod and its peers take here.")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    parser.add_argument("--runs", type=int, default=10, help="samples of each figure (default 10)")
    parser.add_argument("--images", action="store_true", help="only what pulls of a large image take, minutes")
    words = "only what one pod takes beside so many idle ones: 0,200,1000; minutes"
    parser.add_argument("--crowd", type=_numbers, metavar="N,…", help=words)
    parser.add_argument("--save-baseline", action="store_true", help="keep the figures for later runs on this machine")
    parser.add_argument("--compare", action="store_true", help="with the figures kept; status 1 where one is worse")
    words = f"how much worse is worse (default {baseline.PERCENT:g})"
    parser.add_argument("--percent", type=float, default=baseline.PERCENT, metavar="N", help=words)
    parser.add_argument("--baseline", type=Path, metavar="FILE", help=f"default: {baseline.default_file()}")
    args = parser.parse_args()
    file = args.baseline or baseline.default_file()
    if args.compare and not file.exists():
        parser.error(f"nothing to compare with: {file} is not there; run --save-baseline first")
    if os.geteuid() != 0:
        parser.error("needs root: sudo scripts/bench")
    figures = []
    for figure in _chosen(args):
        figures.append(figure)
        print(f"{figure.name}: {figure.median:.1f} {figure.unit}", file=sys.stderr)
    print(table(figures))
    if args.json:
        Path(args.json).write_text(to_json(figures), encoding="utf-8")
    status = 0
    if args.compare:
        verdicts = list(baseline.compared(baseline.load(file), figures, args.percent))
        print(f"\nagainst {file}:\n{baseline.report(verdicts, args.percent)}")
        status = int(any(found.word == "worse" for found in verdicts))
    if args.save_baseline:
        baseline.save(file, figures)
        print(f"kept in {file}", file=sys.stderr)
    return status


def _numbers(text: str) -> list[int]:
    return sorted(int(number) for number in text.split(","))


def _chosen(args: argparse.Namespace) -> Iterator[Figure]:
    if args.crowd is not None:
        return crowd.measure(args.crowd, args.runs)
    return images.measure(args.runs) if args.images else _all(args.runs)


def _all(runs: int) -> Iterator[Figure]:
    yield Figure(
        "python3 -c pass (the floor)",
        "ms",
        [milliseconds(lambda: run(sys.executable, "-I", "-c", "pass")) for _ in range(runs)],
    )
    yield from manifests.measure(runs)
    yield from pods.measure(runs)
    yield from volumes.measure(runs)
    yield from probes.measure()
    with pods.instance() as bench:
        try:
            yield from peers.measure(runs, bench)
        except (RuntimeError, OSError) as error:
            print(f"peers: {error}", file=sys.stderr)


sys.exit(main())
