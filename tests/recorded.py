"""The pods that a real cluster ran (tests/data/behaviour*.json), and what of them is compared with what is seen here.

Recorded with Kubernetes 1.36.2, containerd 2.1.9 and runc 1.3.6 on one node of 2 cpus with cgroup v1. Order, states,
reasons, codes, counts and the conditions at rest must be the cluster's; it was slower by up to a few seconds, so
a state may come earlier here, but hardly later. Knows neither the core nor the kernel.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from tests.conftest import CHECKOUT

DATA = CHECKOUT / "tests" / "data"
RECORDED: dict[str, Any] = {
    name: pod
    for file in ("behaviour.json", "behaviour-more.json")
    for name, pod in json.loads((DATA / file).read_text()).items()
}
# Whether a container that ends at once has ended when the next one is reported as started: on a cluster it had once,
# and once not.
RACES = {
    "sidecar-crashing-main-ends",
    "sidecar-crashing-main-ends-late",
    "sidecar-exits-zero-never",
    "two-mixed-never",
}
# The first is about this host's network; the others follow the clock.
UNCOUNTED = ("Network", "Unhealthy", "BackOff")
# By how much a pod may be ahead of the cluster's when both are deleted: the kubelet looks again after 10 to 15 s where
# the back-off is over after 10.
LEAD_S = 6.0


def history_until_deleted(name: str) -> list[dict[str, Any]]:
    """What was recorded of a pod, up to the deletion of those that were not waited for."""
    recorded = RECORDED[name]
    return [
        entry
        for entry in recorded["history"]
        if recorded["deleteSeconds"] is not None or entry["t"] < recorded["seconds"]
    ]


State = tuple[float, str]


def states(history: Iterable[Mapping[str, Any]]) -> list[State]:
    """Phases and container states without repetitions, as they follow each other once the kubelet knows the pod."""
    result: list[State] = []
    for entry in history:
        conditions = entry.get("conditions", {})
        if entry.get("deleted") or not (entry["containers"] or "SchedulingGated" in str(conditions)):
            continue
        facts = {key: entry.get(key) for key in ("phase", "terminating", "reason", "init", "containers")}
        text = json.dumps(facts, sort_keys=True)
        if not result or result[-1][1] != text:
            result.append((entry["t"], text))
    return result


def _parted(seen: list[State]) -> tuple[list[State], list[State]]:
    """The states before the deletion, and after it."""
    first = next((number for number, (_, state) in enumerate(seen) if '"terminating": true' in state), len(seen))
    return seen[:first], seen[first:]


def is_ahead(name: str, history: Iterable[Mapping[str, Any]]) -> bool:
    """The cluster was slower: it had not come as far when the pod was deleted. What follows cannot be compared."""
    return len(_parted(states(history))[0]) > len(_parted(states(history_until_deleted(name)))[0])


def compare_states(name: str, history: Iterable[Mapping[str, Any]], late_s: float) -> list[str]:
    """What is different in one pod's states, in words. `late_s`: by which one may come later than on the cluster."""
    before, after = _parted(states(history_until_deleted(name)))
    seen, ended = _parted(states(history))
    last_s = RECORDED[name]["seconds"] - late_s
    while len(before) > len(seen) and before[-1][0] > last_s:  # it may come after the deletion, so not at all
        del before[-1]
        after = []
    lines = _compare_part(name, before, seen, late_s)
    for at, state in seen[len(before) :]:
        if at < RECORDED[name]["seconds"] - LEAD_S:
            lines.append(f"{name}: not on the cluster: {at} s {state}")
    if not lines and after and len(seen) == len(before):
        lines = _compare_part(name, after, ended, late_s)
        lines += [f"{name}: not on the cluster: {at} s {state}" for at, state in ended[len(after) :]]
    return lines


def _compare_part(name: str, theirs: list[State], ours: list[State], late_s: float) -> list[str]:
    for number, (their_t, state) in enumerate(theirs):
        if number >= len(ours) or ours[number][1] != state:
            found = ours[number] if number < len(ours) else "nothing"
            return [f"{name}: state {number}\n   there {their_t} {state}\n   here  {found}"]
        if ours[number][0] > their_t + late_s:
            return [f"{name}: state {number} at {ours[number][0]} s, there at {their_t} s: {state}"]
    return []


def compare_rest(name: str, history: Iterable[Mapping[str, Any]], late_s: float) -> list[str]:
    """The phase and the conditions in which it rested."""
    recorded = RECORDED[name]
    last = [entry for entry in recorded["history"] if not entry.get("deleted")][-1]
    if recorded["deleteSeconds"] is None and last["t"] > recorded["seconds"] + 1:
        return []  # it was still going up and down
    over = recorded["seconds"] + late_s if recorded["deleteSeconds"] is None else math.inf
    before = [entry for entry in history if entry["t"] < over]
    if not before:
        return [f"{name}: nothing was seen"]
    return [
        f"{name}: at rest {key}\n   there {last[key]}\n   here  {before[-1][key]}"
        for key in ("phase", "conditions")
        if before[-1][key] != last[key]
    ]


def compare_events(name: str, ours: dict[tuple[str, str], set[int]]) -> list[str]:
    theirs = recorded_events(name)
    lines = [f"{name}: no event {key}" for key in sorted(theirs.keys() - ours.keys())]
    lines += [f"{name}: event {key} too many" for key in sorted(ours.keys() - theirs.keys())]
    both = sorted(ours.keys() & theirs.keys())
    return lines + [
        f"{name}: event {key}: there {theirs[key]}, here {ours[key]}" for key in both if not ours[key] <= theirs[key]
    ]


def events(triples: Iterable[tuple[str, str, int]]) -> dict[tuple[str, str], set[int]]:
    """(reason, field path) -> counts; of those that are compared."""
    counts: dict[tuple[str, str], set[int]] = {}
    for reason, path, count in triples:
        if reason not in UNCOUNTED:
            counts.setdefault((reason, path), set()).add(count)
    return counts


def recorded_events(name: str) -> dict[tuple[str, str], set[int]]:
    """Without those of a cluster that had no DNS."""
    recorded = [event for event in RECORDED[name]["events"] if event["reason"] != "MissingClusterDNS"]
    return events((e["reason"], e["fieldPath"] or "", e["count"] or 1) for e in recorded)


def snapshot(pod: Mapping[str, Any]) -> dict[str, Any]:
    """A v1 Pod as JSON, in the shape of the recorded ones."""
    status = pod.get("status", {})
    entry = {
        "phase": status.get("phase", ""),
        "conditions": {
            c["type"]: c["status"] + (f":{c['reason']}" if c.get("reason") else "")
            for c in status.get("conditions", ())
        },
        "init": {c["name"]: _container(c) for c in status.get("initContainerStatuses", ())},
        "containers": {c["name"]: _container(c) for c in status.get("containerStatuses", ())},
        "terminating": "deletionTimestamp" in pod["metadata"],
    }
    if status.get("reason"):
        entry["reason"] = status["reason"]
    return entry


def _container(status: Mapping[str, Any]) -> dict[str, Any]:
    result = {
        "restartCount": status["restartCount"],
        "ready": status.get("ready", False),
        "started": status.get("started", False),
    }
    for name, part in status.get("state", {}).items():
        result["state"] = name
        if name != "running" and part.get("reason"):
            result["reason"] = part["reason"]
        if name == "terminated":
            result["exitCode"] = part["exitCode"]
            if part.get("message") and part["reason"] not in ("ContainerStatusUnknown", "StartError"):
                result["message"] = part["message"]
    last = status.get("lastState", {}).get("terminated")
    if last is not None:
        result["lastTerminated"] = {"reason": last["reason"], "exitCode": last["exitCode"]}
    return result
