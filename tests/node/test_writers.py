"""Many clients change the same objects at once: a ledger has every change that was confirmed (node, root)."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests import builders
from tests.node_fixtures import Node

CLIENTS = 64
CHANGES = 8  # of each client
NAMES = {"pod": "pods", "configmap": "configmaps"}


class Writer:
    """One client. `confirmed`: what the agent said was stored; `conflicts`: how often it said that it was not."""

    def __init__(self, node: Node, kind: str, number: int) -> None:
        self._node = node
        self._kind = kind
        self._number = number
        self._dice = random.Random(number)
        self.confirmed: dict[tuple[str, str], str] = {}
        self.conflicts = 0

    def run(self, barrier: threading.Barrier) -> None:
        ways: list[Callable[[str], Any]] = [
            self._label,
            self._annotate,
            self._patch_strategic,
            self._patch_json,
            self._edit,
            self._replace,
        ]
        barrier.wait()
        for count in range(CHANGES):
            way = self._dice.choice(ways)
            key = f"{way.__name__[1:].replace('_', '-')}-{self._number}-{count}"
            answer = way(key)
            if "ok" in answer:
                field = "labels" if way == self._label else "annotations"
                self.confirmed[field, key] = "1"
                continue
            # Refused only for one reason, and only those who say what they have seen are.
            assert way == self._replace, answer
            assert answer["error"]["kind"] == "Conflict", answer
            assert "the object has been modified; please apply your changes" in answer["error"]["message"]
            self.conflicts += 1

    @property
    def _target(self) -> dict[str, str]:
        return {"kind": NAMES[self._kind], "name": "shared"}

    def _ask(self, verb: str, **fields: Any) -> Any:
        return self._node.ask(verb, target=self._target, **fields)

    def _label(self, key: str) -> Any:
        return self._ask("label", field="labels", set={key: "1"})

    def _annotate(self, key: str) -> Any:
        return self._ask("annotate", field="annotations", set={key: "1"})

    def _patch_strategic(self, key: str) -> Any:
        return self._ask("patch", patch={"metadata": {"annotations": {key: "1"}}})

    def _patch_json(self, key: str) -> Any:
        return self._ask(
            "patch", type="json", patch=[{"op": "add", "path": f"/metadata/annotations/{key}", "value": "1"}]
        )

    def _edit(self, key: str) -> Any:
        original = self._get()
        edited = {**original, "metadata": _annotated(original["metadata"], key)}
        return self._ask("edit", original=original, edited=edited)

    def _replace(self, key: str) -> Any:
        seen = self._get()
        seen.pop("status", None)
        new = json.dumps({**seen, "metadata": _annotated(seen["metadata"], key)})
        return self._node.ask("apply", mode="replace", files=[{"name": "shared", "text": new}])

    def _get(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._node("get", self._kind, "shared", "-o", "json").stdout)
        return found


def _annotated(metadata: dict[str, Any], key: str) -> dict[str, Any]:
    return {**metadata, "annotations": {**metadata.get("annotations", {}), key: "1"}}


@pytest.mark.parametrize("kind", NAMES)
def test_every_confirmed_change_of_many_writers_is_there_at_the_end(node: Node, kind: str) -> None:
    if kind == "pod":
        pod = builders.pod("shared", builders.container("a", "sleep 1000"), terminationGracePeriodSeconds=0)
        node("run", "-d", "-", input=builders.manifest(pod))
        node("annotate", "pod", "shared", "first=1")
    else:
        thing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared", "annotations": {"first": "1"}}}
        node("create", "-f", "-", input=json.dumps(thing))
    writers = [Writer(node, kind, number) for number in range(CLIENTS)]
    barrier = threading.Barrier(CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as threads:
        for done in [threads.submit(writer.run, barrier) for writer in writers]:
            done.result()
    found = json.loads(node("get", kind, "shared", "-o", "json").stdout)["metadata"]
    ledger = {key: value for writer in writers for key, value in writer.confirmed.items()}
    lost = [key for key in ledger if found[key[0]].get(key[1]) != ledger[key]]
    conflicts = sum(writer.conflicts for writer in writers)
    assert lost == [], f"{len(lost)} of {len(ledger)} changes are lost, {conflicts} conflicts"
    assert len(ledger) + conflicts == CLIENTS * CHANGES
    assert len(found["annotations"]) + len(found.get("labels", {})) == len(ledger) + 1, "and nothing that was refused"
