"""What is measured of minipod itself, in an instance of its own that is taken away again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

import minipod
from minipod.paths import Paths
from minipod.runtime.images.store import ImageStore
from tests.bench.measure import Figure, milliseconds, run

IDLE_S = 10.0
CHECKOUT = Path(__file__).resolve().parents[2]

IDLE = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "trap 'exit 0' TERM; sleep 1000 & wait"]
"""


class Bench:
    """`minipod ARGS` in an instance of its own."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.paths = Paths(f"{base}/r", f"{base}/s")
        self.program = [sys.executable, "-I", str(CHECKOUT / "minipod" / "__main__.py")]
        self.environment = {**os.environ, "MINIPOD_RUN_DIR": self.paths.root, "MINIPOD_DATA_DIR": self.paths.state}
        ImageStore(self.paths).ensure_default()

    def __call__(self, *args: str) -> str:
        return run(*self.program, *args, **self.environment)

    def manifest(self, name: str) -> str:
        path = f"{self.base}/{name}.yaml"
        Path(path).write_text(IDLE.format(name=name), encoding="utf-8")
        return path

    def ask(self, **request: object) -> dict[str, object]:
        """One request over the control socket, without the CLI: the last line of its answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.paths.agent_socket)
            connection.sendall(json.dumps({"version": minipod.__version__, **request}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                for line in stream:
                    answer: dict[str, object] = json.loads(line)
                    if "ok" in answer or "error" in answer:
                        return answer
        raise RuntimeError("the agent went away")

    def stop_agent(self) -> None:
        """Send the agent away and wait until it and its spawner are gone."""
        with contextlib.suppress(OSError):
            pid = self.ask(verb="status")["pid"]
            helpers = [psutil.Process(int(str(pid))), *self.spawners()]
            self.ask(verb="shutdown")
            psutil.wait_procs(helpers, timeout=10)

    def spawners(self) -> list[psutil.Process]:
        """This instance's spawner; it names the folder of exit records in its command line."""
        mark = f"{self.paths.root}/exits"
        return [p for p in psutil.process_iter(["cmdline"]) if any(mark in word for word in p.info["cmdline"] or [])]


@contextlib.contextmanager
def instance() -> Iterator[Bench]:
    base = tempfile.mkdtemp(prefix="mpb", dir="/tmp")
    bench = Bench(base)
    try:
        yield bench
    finally:
        with contextlib.suppress(RuntimeError):
            bench("delete", "pod", "--all", "-A", "--now")
        bench.stop_agent()
        shutil.rmtree(base)


def measure(runs: int) -> Iterator[Figure]:
    """Every figure, one after the other."""
    with instance() as bench:
        yield _cold(bench, runs)
        yield from _one_pod(bench, runs)
        yield _command("minipod --help", bench, runs, "--help")
        yield _command("minipod get pods", bench, runs, "get", "pods")
        yield from _many(bench, 50)
        yield from _at_once(bench, 50)


def _cold(bench: Bench, runs: int) -> Figure:
    figure = Figure("cold run -d --until running (no agent yet)", "ms", budget=400)
    path = bench.manifest("cold")
    for _ in range(max(3, runs // 2)):
        bench.stop_agent()
        figure.samples.append(milliseconds(lambda: bench("run", "-d", path, "--until", "running")))
        bench("delete", "pod", "cold")
    return figure


def _one_pod(bench: Bench, runs: int) -> Iterator[Figure]:
    warm = Figure("warm run -d --until running", "ms", budget=100)
    inside = Figure("inside the agent, request until running", "ms", budget=30)
    execute = Figure("exec POD -- true", "ms", budget=60)
    delete = Figure("delete (obeys TERM)", "ms", budget=100)
    path, text = bench.manifest("warm"), IDLE.format(name="inside")
    bench("run", "-d", bench.manifest("other"))  # another pod is there: what all share stands
    for _ in range(runs):
        warm.samples.append(milliseconds(lambda: bench("run", "-d", path, "--until", "running")))
        execute.samples.append(milliseconds(lambda: bench("exec", "warm", "--", "true")))
        delete.samples.append(milliseconds(lambda: bench("delete", "pod", "warm")))
        answer = bench.ask(verb="run", files=[{"name": "-", "text": text}], detach=True, until="running")
        inside.samples.append(float(str(answer["elapsed_ms"])))
        bench("delete", "pod", "inside")
    bench("delete", "pod", "other")
    yield from (warm, inside, execute, delete)


def _command(name: str, bench: Bench, runs: int, *args: str) -> Figure:
    figure = Figure(name, "ms", budget=60)
    figure.samples += [milliseconds(lambda: bench(*args)) for _ in range(runs)]
    return figure


def _many(bench: Bench, count: int) -> Iterator[Figure]:
    """Idle pods one after another, and what the helpers cost for each that is there."""
    start = Figure(f"{count} idle pods one after another, each", "ms")
    delete = Figure(f"{count} idle pods deleted one after another, each", "ms")
    memory = Figure("helper memory per idle pod (PSS, agent and spawner)", "KiB", budget=300)
    paths = [bench.manifest(f"idle-{number}") for number in range(count)]
    bench("run", "-d", paths[0])
    before = _helpers_kib(bench)
    for path in paths[1:]:
        start.samples.append(milliseconds(lambda path=path: bench("run", "-d", path)))  # type: ignore[misc]
    memory.samples.append((_helpers_kib(bench) - before) / (count - 1))
    for number in range(count):
        delete.samples.append(milliseconds(lambda number=number: bench("delete", "pod", f"idle-{number}")))  # type: ignore[misc]
    yield from (start, delete, memory)


def _at_once(bench: Bench, count: int) -> Iterator[Figure]:
    """The same number from one file, and what they cost while nothing happens."""
    path = f"{bench.base}/many.yaml"
    Path(path).write_text("---\n".join(IDLE.format(name=f"many-{number}") for number in range(count)))
    bench("run", "-d", bench.manifest("other"))
    started = milliseconds(lambda: bench("run", "-d", path, "--until", "running"))
    before = _helpers_cpu_s(bench)
    time.sleep(IDLE_S)
    idle = _helpers_cpu_s(bench) - before
    deleted = milliseconds(lambda: bench("delete", "pod", "--all"))
    yield Figure(f"{count} idle pods of one file, until all run", "ms", [started])
    yield Figure(f"{count} idle pods deleted at once", "ms", [deleted])
    yield Figure(f"CPU of agent and spawner with {count} idle pods", "% of a core", [100 * idle / IDLE_S])


def _helpers_cpu_s(bench: Bench) -> float:
    pid = bench.ask(verb="status")["pid"]
    times = [helper.cpu_times() for helper in (psutil.Process(int(str(pid))), *bench.spawners())]
    return float(sum(spent.user + spent.system for spent in times))


def _helpers_kib(bench: Bench) -> float:
    pid = bench.ask(verb="status")["pid"]
    helpers = [psutil.Process(int(str(pid))), *bench.spawners()]
    return float(sum(helper.memory_full_info().pss for helper in helpers)) / 1024
