"""What volumes cost: a pod with ten next to the same pod without any, in turns in one instance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.bench.measure import Figure, milliseconds
from tests.bench.pods import Bench, instance

LABELS = {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}
CONFIG_MAP = {"name": "settings"}
#: two of each
SOURCES: tuple[dict[str, Any], ...] = (
    {"emptyDir": {}},
    {"configMap": CONFIG_MAP},
    {"secret": {"secretName": "keys"}},
    {"projected": {"sources": [{"configMap": CONFIG_MAP}, {"secret": {"name": "keys"}}, {"downwardAPI": LABELS}]}},
    {"downwardAPI": LABELS},
)
OBJECTS = (
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": CONFIG_MAP, "data": {f"key{n}": "value\n" for n in range(5)}},
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"user": "a", "password": "b"}},
)
BUDGET_MS = 15


def pod(name: str, sources: tuple[dict[str, Any], ...] = ()) -> str:
    volumes = [{"name": f"v{number}", **source} for number, source in enumerate(sources)]
    container = {
        "name": "main",
        "image": "busybox",
        "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"],
        "volumeMounts": [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes],
    }
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "volumes": volumes, "containers": [container]}
    metadata = {"name": name, "labels": {"app": name}}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def measure(runs: int) -> Iterator[Figure]:
    """From request until running; the last figure is what the budget is for: the medians' difference."""
    with instance() as bench:
        bench("run", "-d", bench.manifest("other"))  # another pod is there: what all share stands
        for thing in OBJECTS:
            bench.ask(verb="apply", files=[{"name": "-", "text": json.dumps(thing)}])
        without, with_ten = Figure("a pod without volumes", "ms"), Figure("a pod with ten volumes", "ms")
        for _ in range(runs + 1):
            without.samples.append(_started(bench, pod("without")))
            with_ten.samples.append(_started(bench, pod("with", SOURCES * 2)))
        for figure in (without, with_ten):
            del figure.samples[0]  # what is loaded once
        yield from (without, with_ten)
        yield Figure("ten volumes, slower by", "ms", [with_ten.median - without.median], budget=BUDGET_MS)


def _started(bench: Bench, text: str) -> float:
    took = milliseconds(
        lambda: bench.ask(verb="run", files=[{"name": "-", "text": text}], detach=True, until="running")
    )
    bench("delete", "pod", json.loads(text)["metadata"]["name"])
    return took
