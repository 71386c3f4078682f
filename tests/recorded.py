"""The pods that a real cluster ran (tests/data/behaviour.json), and what of them is compared with what is seen here.

Order, states, reasons, codes, counts and the conditions at rest must be the cluster's; it was slower by up to a few
seconds, so times are only compared where a rule makes them. Knows neither the core nor the kernel.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tests.conftest import CHECKOUT

RECORDED: dict[str, Any] = json.loads((CHECKOUT / "tests" / "data" / "behaviour.json").read_text())
# For up to a second after a restart the kubelet shows a container as started although its new startup probe has not
# run: a race that is not reproduced.
RACES = {"startup-blocks"}
# The first is no pod's, the second tells of this host's network; the others follow the clock.
UNCOUNTED = ("MissingClusterDNS", "Network", "Unhealthy", "BackOff")


def history_until_deleted(name: str) -> list[dict[str, Any]]:
    """What was recorded of a pod, up to the deletion of those that were not waited for."""
    recorded = RECORDED[name]
    return [
        entry
        for entry in recorded["history"]
        if recorded["deleteSeconds"] is not None or entry["t"] < recorded["seconds"]
    ]


def states(history: Iterable[Mapping[str, Any]]) -> list[tuple[float, str]]:
    """Phases and container states without repetitions, as they follow each other once the kubelet knows the pod."""
    result: list[tuple[float, str]] = []
    for entry in history:
        conditions = entry.get("conditions", {})
        if entry.get("deleted") or not (entry["containers"] or "SchedulingGated" in str(conditions)):
            continue
        facts = {key: entry.get(key) for key in ("phase", "terminating", "reason", "init", "containers")}
        text = json.dumps(facts, sort_keys=True)
        if not result or result[-1][1] != text:
            result.append((entry["t"], text))
    return result


def events(triples: Iterable[tuple[str, str, int]]) -> dict[tuple[str, str], set[int]]:
    """(reason, field path) -> counts; of those that are compared."""
    counts: dict[tuple[str, str], set[int]] = {}
    for reason, path, count in triples:
        if reason not in UNCOUNTED:
            counts.setdefault((reason, path), set()).add(count)
    return counts


def recorded_events(name: str) -> dict[tuple[str, str], set[int]]:
    return events((e["reason"], e["fieldPath"] or "", e["count"] or 1) for e in RECORDED[name]["events"])


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
