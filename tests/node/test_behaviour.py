"""The pods that a real cluster ran, all at once on one agent and a real kernel (node, root; about a minute and a half).

They are watched as a client watches them, by `get -w -o json`: every status that was told counts.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from typing import Any

from tests.node_fixtures import Node
from tests.patience import SLOWNESS
from tests.recorded import RACES, RECORDED, events, history_until_deleted, recorded_events, snapshot, states

END_S = 30.0 * SLOWNESS  # for the last deletions
START_S = 2.0 * SLOWNESS  # by which a pod of many that start at once may be behind
# Where the machine's speed decides: whether the first container has ended when the second is started; whether a
# back-off that ends as the pod is deleted has ended before.
TOO_QUICK = {"two-mixed-never", "poststart-fails"}


class Replay:
    """Every pod's history and events, in the shape of the recorded ones."""

    def __init__(self, node: Node) -> None:
        self.history: dict[str, list[dict[str, Any]]] = {name: [] for name in RECORDED}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self._node = node
        self._began: dict[str, float] = {}

    def run(self) -> None:
        self._node("get", "pods")  # the agent is there
        deletions: list[subprocess.Popen[str]] = []
        watch = self._node.popen("get", "pods", "-w", "-o", "json", stderr=subprocess.DEVNULL)
        reader = threading.Thread(target=self._read, args=(watch,))
        reader.start()
        try:
            deadlines = [(self._start(name) + RECORDED[name]["seconds"], name) for name in RECORDED]
            for at, name in sorted(deadlines):
                time.sleep(max(0.0, at - time.monotonic()))
                self._look_at_events(name)
                deletions.append(self._node.popen("delete", "pod", name, stdout=subprocess.DEVNULL))
            for deletion in deletions:
                assert deletion.wait(END_S) == 0
            for name in RECORDED:
                if RECORDED[name]["deleteSeconds"] is not None:  # those of its deletion too
                    self._look_at_events(name)
        finally:
            for deletion in deletions:
                deletion.kill()
                deletion.wait()
            watch.terminate()
            watch.wait()
            reader.join()
            assert watch.stdout is not None
            watch.stdout.close()

    def _look_at_events(self, name: str) -> None:
        told = self._node("events", "--for", f"pod/{name}", "-o", "json").stdout
        self.events[name] = json.loads(told)["items"] if told else []

    def _start(self, name: str) -> float:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": RECORDED[name]["spec"]}
        self._began[name] = time.monotonic()
        self._node("run", "-d", "--until", "created", "-", input=json.dumps(pod))
        return self._began[name]

    def _read(self, watch: subprocess.Popen[str]) -> None:
        assert watch.stdout is not None
        for line in watch.stdout:
            now = time.monotonic()
            pod = json.loads(line)
            name = pod["metadata"]["name"]
            entry = {"t": round(now - self._began[name], 2), **snapshot(pod)}
            history = self.history[name]
            if not history or {**history[-1], "t": 0} != {**entry, "t": 0}:
                history.append(entry)


def test_pods_go_through_the_same_states_rest_in_the_same_and_record_the_same_as_on_a_cluster(node: Node) -> None:
    replay = Replay(node)
    replay.run()
    differences = [line for name in sorted(RECORDED) for line in compare(name, replay.history[name])]
    differences += [line for name in sorted(RECORDED) for line in compare_events(name, replay.events[name])]
    assert not differences, "\n".join(differences)


def compare(name: str, history: list[dict[str, Any]]) -> list[str]:
    """What is different in one pod's life, in words."""
    lines = []
    if name not in RACES | TOO_QUICK:
        theirs, ours = states(history_until_deleted(name)), states(history)
        for number, (their_t, state) in enumerate(theirs):
            if number >= len(ours) or ours[number][1] != state:
                found = ours[number] if number < len(ours) else "nothing"
                lines.append(f"{name}: state {number}\n   there {their_t} {state}\n   here  {found}")
                break
            if ours[number][0] > their_t + START_S:
                lines.append(f"{name}: state {number} at {ours[number][0]} s, there at {their_t} s: {state}")
    return lines + compare_rest(name, history)


def compare_rest(name: str, history: list[dict[str, Any]]) -> list[str]:
    """The conditions in which it rested."""
    recorded = RECORDED[name]
    last = [entry for entry in recorded["history"] if not entry.get("deleted")][-1]
    if recorded["deleteSeconds"] is None and last["t"] > recorded["seconds"] + 1:
        return []  # it was still going up and down
    before = [e for e in history if recorded["deleteSeconds"] is not None or e["t"] < recorded["seconds"]]
    if not before:
        return [f"{name}: nothing was told"]
    return [
        f"{name}: at rest {key}\n   there {last[key]}\n   here  {before[-1][key]}"
        for key in ("phase", "conditions")
        if before[-1][key] != last[key]
    ]


def compare_events(name: str, items: list[dict[str, Any]]) -> list[str]:
    if name in RACES | TOO_QUICK:
        return []
    theirs = recorded_events(name)
    ours = events((e["reason"], e["involvedObject"].get("fieldPath", ""), e.get("count") or 1) for e in items)
    lines = [f"{name}: no event {key}" for key in sorted(theirs.keys() - ours.keys())]
    lines += [f"{name}: event {key} too many" for key in sorted(ours.keys() - theirs.keys())]
    both = sorted(ours.keys() & theirs.keys())
    return lines + [
        f"{name}: event {key}: there {theirs[key]}, here {ours[key]}" for key in both if not ours[key] <= theirs[key]
    ]
