"""What starting, looking up and deleting one pod takes beside many idle ones. `scripts/bench --crowd 0,200,1000`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from tests.bench.measure import Figure, milliseconds
from tests.bench.pods import Bench, instance

IDLE_S = 10.0
BATCH = 50  # pods of one file: more at once would measure the queue

CROWD = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: busybox
    command: [sleep, "1000000"]
    resources: {{requests: {{memory: 1Ki}}}}
"""


def measure(counts: Sequence[int], runs: int) -> Iterator[Figure]:
    """`counts`: ascending numbers of idle pods."""
    with instance() as bench:
        there = 0
        for count in counts:
            there = _fill(bench, there, count)
            yield from _one_more(bench, count, runs)
            if count:
                yield _idle(bench, count)


def _fill(bench: Bench, there: int, wanted: int) -> int:
    while there < wanted:
        upto = min(there + BATCH, wanted)
        text = "---\n".join(CROWD.format(name=f"idle-{number}", namespace="crowd") for number in range(there, upto))
        path = Path(bench.base) / "crowd.yaml"
        path.write_text(text, encoding="utf-8")
        bench("run", "-d", str(path), "--until", "running", "--timeout", "300s")
        there = upto
    return there


def _one_more(bench: Bench, count: int, runs: int) -> Iterator[Figure]:
    start = Figure(f"start of one pod beside {count} idle ones, inside the agent", "ms")
    delete = Figure(f"deletion of one pod beside {count} idle ones", "ms")
    find = Figure(f"get of one pod beside {count} idle ones", "ms")
    bench("run", "-d", bench.manifest("other"))  # another pod is there: what all share stands
    text = CROWD.format(name="one", namespace="default")
    processes = _helpers(bench)
    before = _cpu_s(processes)
    for _ in range(runs):
        answer = bench.ask(verb="run", files=[{"name": "-", "text": text}], detach=True, until="running")
        start.samples.append(float(str(answer["elapsed_ms"])))
        find.samples.append(milliseconds(lambda: bench.ask(verb="get", kind="pods", namespace="default", name="one")))
        delete.samples.append(
            milliseconds(lambda: bench.ask(verb="delete", kind="pods", namespace="default", names=["one"]))
        )
    used = (_cpu_s(processes) - before) / runs * 1000
    bench("delete", "pod", "other", "--now")
    yield from (start, delete, find)
    yield Figure(f"CPU of agent and spawner for one pod beside {count} idle ones", "ms", [used])


def _idle(bench: Bench, count: int) -> Figure:
    processes = _helpers(bench)
    before = _cpu_s(processes)
    time.sleep(IDLE_S)
    return Figure(
        f"CPU of agent and spawner beside {count} idle pods",
        "% of a core",
        [100 * (_cpu_s(processes) - before) / IDLE_S],
    )


def _helpers(bench: Bench) -> list[psutil.Process]:
    return [psutil.Process(int(str(bench.ask(verb="status")["pid"]))), *bench.spawners()]


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return float(sum(spent.user + spent.system for spent in times))
