"""What probes of each kind cost: many pods, each asked every second by a readiness and a liveness probe."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests import health_server
from tests.bench.measure import Figure
from tests.bench.pods import Bench, instance

PODS = 200
FEW = 50  # of the kinds that nothing was promised for
SETTLE_S = 5.0
WATCHED_S = 20.0
GRPC_PORT = 20850

PROBED = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  hostNetwork: {host}
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "{serve}"]
    readinessProbe: {{{ready}, periodSeconds: 1}}
    livenessProbe: {{{alive}, periodSeconds: 1}}
"""
WEB = "echo well > /tmp/index.html; exec httpd -f -p 80 -h /tmp"
WAIT = "touch /tmp/healthy; trap 'exit 0' TERM; sleep 100000 & wait"
HTTP, TCP = "httpGet: {path: /index.html, port: 80}", "tcpSocket: {port: 80}"
EXEC, GRPC = "exec: {command: [cat, /tmp/healthy]}", f"grpc: {{port: {GRPC_PORT}}}"


def measure() -> Iterator[Figure]:
    """Each in an instance of its own; the time until all are ready is not counted."""
    yield from _probed("http and tcp", PODS, WEB, HTTP, TCP, budget=25)
    yield from _probed("exec", PODS, WAIT, EXEC, EXEC, budget=25)
    yield from _probed("http", FEW, WEB, HTTP, HTTP)
    yield from _probed("tcp", FEW, WEB, TCP, TCP)
    with _health_server():  # one for all: the pods are in the host's network
        yield from _probed("grpc", FEW, WAIT, GRPC, GRPC)


@contextmanager
def _health_server() -> Iterator[None]:
    with tempfile.NamedTemporaryFile() as file:
        server = subprocess.Popen([sys.executable, "-I", health_server.__file__, str(GRPC_PORT), file.name])
        try:
            yield
        finally:
            server.kill()
            server.wait()


def _probed(kind: str, pods: int, serve: str, ready: str, alive: str, budget: float | None = None) -> Iterator[Figure]:
    with instance() as bench:
        path, host = f"{bench.base}/probed.yaml", str(ready is GRPC).lower()
        Path(path).write_text(
            "---\n".join(
                PROBED.format(name=f"probed-{number}", serve=serve, ready=ready, alive=alive, host=host)
                for number in range(pods)
            )
        )
        bench("run", "-d", "--until", "ready", path)
        time.sleep(SETTLE_S)
        yield from _watch(bench, kind, f"{pods} pods, {kind} every second", budget)


def _watch(bench: Bench, kind: str, each: str, budget: float | None) -> Iterator[Figure]:
    agent = psutil.Process(int(str(bench.ask(verb="status")["pid"])))
    helpers = [agent, *bench.spawners()]
    before, begin = bench.ask(verb="status"), time.monotonic()
    cpu, cpu_of_all = _seconds([agent]), _seconds(helpers)
    time.sleep(WATCHED_S)
    used, used_by_all = _seconds([agent]) - cpu, _seconds(helpers) - cpu_of_all
    after, elapsed = bench.ask(verb="status"), time.monotonic() - begin
    made = int(str(after["probes_made"])) - int(str(before["probes_made"]))
    late = int(str(after["probes_late"])) - int(str(before["probes_late"]))
    if budget is not None:
        yield Figure(f"agent CPU, {each}", "% of a core", [100 * used / elapsed], budget=budget)
        yield Figure(f"probes made a second, {each}", "1/s", [made / elapsed])
        yield Figure(f"probes late by more than 500 ms, {each}", "", [float(late)], budget=0)
    yield Figure(f"agent CPU per 100 {kind} probes a second", "% of a core", [10000 * used / made])
    if kind == "exec":
        yield Figure("CPU per exec probe, agent, spawner and command", "ms", [1000 * used_by_all / made])


def _seconds(processes: list[psutil.Process]) -> float:
    """CPU time of these processes and of their children that have ended."""
    return sum(sum(process.cpu_times()[:4]) for process in processes)
