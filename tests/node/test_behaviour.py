"""The pods that a real cluster ran, all on one agent and a real kernel (node, root; about a minute and a half).

They are watched as a client watches them, by `get -w -o json`: every status that was told counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tests.node_fixtures import Node
from tests.patience import SLOWNESS
from tests.recorded import (
    RACES,
    RECORDED,
    compare_events,
    compare_rest,
    compare_states,
    events,
    is_ahead,
    snapshot,
)

LATE_S = 1.0 * SLOWNESS  # on processors that others leave alone
# So many at once would wait for the processors, not for the kubelet's rules.
STALL_TICK_S = 0.1
GROUP, GAP_S = 3, 1.4 * SLOWNESS


class Replay:
    """Every pod's history and events, in the shape of the recorded ones."""

    def __init__(self, node: Node) -> None:
        self.history: dict[str, list[dict[str, Any]]] = {name: [] for name in RECORDED}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self._node = node
        self._began: dict[str, float] = {}

    def run(self) -> None:
        self._node("get", "pods")  # the agent is there
        watch = self._node.popen("get", "pods", "-w", "-o", "json", stderr=subprocess.DEVNULL)
        reader = threading.Thread(target=self._read, args=(watch,))
        reader.start()
        longest_first = sorted(RECORDED, key=lambda name: -RECORDED[name]["seconds"])
        groups = [longest_first[n : n + GROUP] for n in range(0, len(RECORDED), GROUP)]
        begin = time.monotonic()
        try:
            with ThreadPoolExecutor(len(RECORDED) + len(groups)) as pool:
                lives = [pool.submit(self._live, group, begin + n * GAP_S, pool) for n, group in enumerate(groups)]
                for life in [single for group in lives for single in group.result()]:
                    life.result()
            self._look_at_events()
            self._node("delete", "pods", "--all", "--grace-period=0", "--force")
        finally:
            watch.terminate()
            watch.wait()
            reader.join()
            assert watch.stdout is not None
            watch.stdout.close()

    def _live(self, names: list[str], start_at: float, pool: ThreadPoolExecutor) -> list[Future[None]]:
        """Starts some pods together; what is to be done for each of them afterwards."""
        pods = [
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": n}, "spec": RECORDED[n]["spec"]} for n in names
        ]
        _sleep_until(start_at)
        self._node("create", "-f", "-", input="\n---\n".join(map(json.dumps, pods)))
        return [pool.submit(self._go_on, name) for name in names]

    def _go_on(self, name: str) -> None:
        recorded = RECORDED[name]
        began = self._began.setdefault(name, time.monotonic())
        for later in recorded.get("later", ()):
            _sleep_until(began + later["t"])
            self._node("create", "-f", "-", input=json.dumps(later["object"]))
        if recorded["deleteSeconds"] is not None:
            _sleep_until(began + recorded["seconds"])
            answer = self._node.ask("delete", kind="pods", namespace="default", names=[name])
            assert answer is not None
            assert "error" not in answer

    def _look_at_events(self) -> None:
        for event in json.loads(self._node("events", "-o", "json").stdout)["items"]:
            self.events.setdefault(event["involvedObject"]["name"], []).append(event)

    def _read(self, watch: subprocess.Popen[str]) -> None:
        assert watch.stdout is not None
        for line in watch.stdout:
            now = time.monotonic()
            pod = json.loads(line)
            name = pod["metadata"]["name"]
            entry = {"t": round(now - self._began.setdefault(name, now), 2), **snapshot(pod)}
            history = self.history[name]
            if not history or {**history[-1], "t": 0} != {**entry, "t": 0}:
                history.append(entry)


class Stalls:
    """How long the machine itself held somebody up who writes a little and sleeps a little."""

    def __init__(self, folder: str) -> None:
        self.longest_s = 0.0
        self._path = f"{folder}/stalls"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Stalls:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        os.unlink(self._path)

    def _watch(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT)
        before = time.monotonic()
        while not self._over.wait(STALL_TICK_S):
            os.pwrite(fd, b"x", 0)
            os.fsync(fd)
            now = time.monotonic()
            self.longest_s = max(self.longest_s, now - before - STALL_TICK_S)
            before = now
        os.close(fd)


def _sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.monotonic()))


def test_pods_go_through_the_same_states_rest_in_the_same_and_record_the_same_as_on_a_cluster(node: Node) -> None:
    replay = Replay(node)
    with Stalls(node.paths.state) as stalls:
        replay.run()
    others = os.getloadavg()[0] / (os.cpu_count() or 1) / 2  # this test alone has a load of about two a processor
    late_s = LATE_S * max(1.0, others) + stalls.longest_s
    differences = [line for name in sorted(RECORDED) for line in compare(name, replay, late_s)]
    assert not differences, "\n".join(differences)


def compare(name: str, replay: Replay, late_s: float) -> list[str]:
    """What is different in one pod's life, in words."""
    history = replay.history[name]
    if RECORDED[name]["deleteSeconds"] is None:
        history = [entry for entry in history if entry["t"] < RECORDED[name]["seconds"] + late_s]
    lines = [] if name in RACES else compare_states(name, history, late_s)
    if is_ahead(name, history):
        return lines
    told = events(
        (e["reason"], e["involvedObject"].get("fieldPath", ""), e.get("count") or 1)
        for e in replay.events.get(name, ())
    )
    return lines + compare_rest(name, history, late_s) + compare_events(name, told)
