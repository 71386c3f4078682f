"""What probes cost the agent: many pods, each asked every second by a readiness and a liveness probe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.bench.measure import Figure
from tests.bench.pods import Bench, instance

PODS = 200
SETTLE_S = 5.0
WATCHED_S = 20.0

PROBED = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "echo well > /tmp/index.html; exec httpd -f -p 80 -h /tmp"]
    readinessProbe: {{httpGet: {{path: /index.html, port: 80}}, periodSeconds: 1}}
    livenessProbe: {{tcpSocket: {{port: 80}}, periodSeconds: 1}}
"""


def measure() -> Iterator[Figure]:
    """In an instance of its own; the time until all are ready is not counted."""
    with instance() as bench:
        path = f"{bench.base}/probed.yaml"
        Path(path).write_text("---\n".join(PROBED.format(name=f"probed-{number}") for number in range(PODS)))
        bench("run", "-d", "--until", "ready", path)
        time.sleep(SETTLE_S)
        yield from _watch(bench)


def _watch(bench: Bench) -> Iterator[Figure]:
    agent = psutil.Process(int(str(bench.ask(verb="status")["pid"])))
    before, cpu, begin = bench.ask(verb="status"), agent.cpu_times(), time.monotonic()
    time.sleep(WATCHED_S)
    after, now, end = bench.ask(verb="status"), agent.cpu_times(), time.monotonic()
    made = int(str(after["probes_made"])) - int(str(before["probes_made"]))
    late = int(str(after["probes_late"])) - int(str(before["probes_late"]))
    used = now.user + now.system - cpu.user - cpu.system
    each = f"{PODS} pods, http and tcp every second"
    yield Figure(f"agent CPU, {each}", "% of a core", [100 * used / (end - begin)], budget=25)
    yield Figure("agent CPU per 100 probes a second", "% of a core", [100 * used / made * 100])
    yield Figure(f"probes made a second, {each}", "1/s", [made / (end - begin)])
    yield Figure(f"probes late by more than 500 ms, {each}", "", [float(late)], budget=0)
