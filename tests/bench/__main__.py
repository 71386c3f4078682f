"""`scripts/bench`: prints the table, writes JSON with --json FILE."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench import images, manifests, peers, pods, probes, volumes
from tests.bench.measure import Figure, milliseconds, run, table, to_json


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="How long minipod and its peers take here.")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    parser.add_argument("--runs", type=int, default=10, help="samples of each figure (default 10)")
    parser.add_argument("--images", action="store_true", help="only what pulls of a large image take, minutes")
    args = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root: sudo scripts/bench")
    figures = []
    for figure in images.measure(args.runs) if args.images else _all(args.runs):
        figures.append(figure)
        print(f"{figure.name}: {figure.median:.1f} {figure.unit}", file=sys.stderr)
    print(table(figures))
    if args.json:
        Path(args.json).write_text(to_json(figures), encoding="utf-8")
    return 0


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
