"""Random changes of random objects: each is made or refused, and identity never changes (unit, virtual clock)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from minipod.api.kinds import kind_named
from minipod.control.verbs.changes import as_data
from tests.unit.agent_client import Agent, with_agent

REQUESTS = 300  # of each seed
IDENTITY = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp")

CLAIM = {"accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}}}
VOLUME = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/tmp/x"}}
CONTAINER = {"name": "a", "image": "busybox", "env": [{"name": "A", "value": "1"}], "ports": [{"containerPort": 80}]}
POD = {
    "containers": [CONTAINER, {"name": "b", "image": "busybox", "resources": {"limits": {"cpu": "1"}}}],
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "volumes": [{"name": "x", "emptyDir": {}}],
    "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a"]}],
}
OBJECTS: list[dict[str, Any]] = [
    {"kind": "ConfigMap", "metadata": {"name": "o", "labels": {"a": "b"}}, "data": {"a": "1"}},
    {"kind": "Secret", "metadata": {"name": "o"}, "data": {"a": "MQ=="}},
    {"kind": "PersistentVolumeClaim", "metadata": {"name": "o"}, "spec": CLAIM},
    {"kind": "PersistentVolume", "metadata": {"name": "o"}, "spec": VOLUME},
    {"kind": "Namespace", "metadata": {"name": "o"}},
    {"kind": "Pod", "metadata": {"name": "o"}, "spec": POD},
]
WORDS: list[Any] = [None, True, 0, 1, -1, 1.5, 10**30, "", "a", "o", "1Gi", "delete", "replace", "merge", "é", [], {}]
KEYS = (
    *(
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$deleteFromPrimitiveList/finalizers",
        "$setElementOrder/",
    ),
    *("metadata", "labels", "uid", "finalizers", "generation", "deletionTimestamp", "resourceVersion", "kind", "name"),
    *("spec", "containers", "ports", "containerPort", "protocol", "env", "resources", "limits", "ephemeralContainers"),
    *("data", "binaryData", "stringData", "immutable", "status", "conditions", "type", "claimRef", "capacity", "", "x"),
)


class Chance:
    """Makes documents: nonsense, and what differs a little from an object."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def happens(self, probability: float) -> bool:
        return self.dice.random() < probability

    def value(self, depth: int = 0) -> Any:
        if depth > 4 or self.happens(0.4):
            return self.dice.choice(WORDS)
        if self.happens(0.3):
            return [self.value(depth + 1) for _ in range(self.dice.randrange(4))]
        return {self.dice.choice(KEYS): self.value(depth + 1) for _ in range(self.dice.randrange(4))}

    def changed(self, here: Any) -> Any:
        if self.happens(0.08):
            return self.value(1)
        if isinstance(here, dict):
            fields = {key: self.changed(value) for key, value in here.items() if not self.happens(0.05)}
            return fields | ({self.dice.choice(KEYS): self.value(1)} if self.happens(0.15) else {})
        if isinstance(here, list):
            return [self.changed(value) for value in here if not self.happens(0.1)]
        return here

    def part(self, here: Any) -> Any:
        if isinstance(here, dict):
            return {key: self.part(value) for key, value in here.items() if self.happens(0.4)}
        return [self.part(value) for value in here if self.happens(0.6)] if isinstance(here, list) else here

    def operations(self, here: Any) -> list[Any]:
        paths = [*paths_of(here), "/metadata/labels/-", "/x", "x", "/spec/containers/01", "/spec/containers/-1"]
        names = ("add", "remove", "replace", "move", "copy", "test", "other")
        return [
            {
                key: value
                for key, value in {
                    "op": self.dice.choice(names),
                    "path": self.dice.choice(paths),
                    "from": self.dice.choice(paths),
                    "value": self.value(2),
                }.items()
                if not self.happens(0.05)
            }
            for _ in range(self.dice.randrange(1, 4))
        ]

    def request(self, target: dict[str, str], here: dict[str, Any]) -> dict[str, Any]:
        way = self.dice.choice(("json", "strategic", "merge", "edit", "apply", "create", "replace"))
        if way in ("apply", "create", "replace"):
            text = json.dumps(self.changed(here))
            return {"verb": "apply", "mode": way, "files": [{"name": "f", "text": text}], "dry_run": self.happens(0.3)}
        if way == "edit":
            original = here if self.happens(0.7) else self.changed(here)
            return {"verb": "edit", "target": target, "original": original, "edited": self.changed(here)}
        patch = self.operations(here) if way == "json" else self.changed(self.part(here))
        places = ("", "", "status", "resize", "ephemeralcontainers") if here["kind"] == "Pod" else ("",)
        kind = {"type": way, "subresource": self.dice.choice(places), "dry_run": self.happens(0.3)}
        return {"verb": "patch", "target": target, "patch": patch, **kind}


def paths_of(here: Any, path: str = "") -> list[str]:
    items: list[tuple[Any, Any]] = list(here.items()) if isinstance(here, dict) else []
    items += enumerate(here) if isinstance(here, list) else []
    inner = (f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}" for key, _ in items)
    return [path, *(found for place, (_, value) in zip(inner, items, strict=True) for found in paths_of(value, place))]


@pytest.mark.parametrize("seed", range(4))
def test_a_change_is_made_or_refused_and_never_another_object(tmp_path: Path, seed: int) -> None:
    async def test(agent: Agent) -> None:
        chance, outcomes = Chance(seed), dict[str, int]()
        manifests = [json.dumps({"apiVersion": "v1", **thing}) for thing in OBJECTS]
        files = [{"name": "f", "text": "\n---\n".join(manifests)}]
        *_, last = await agent.ask(verb="apply", files=files)
        assert "ok" in last, last
        for _ in range(REQUESTS):
            kind = kind_named(chance.dice.choice(OBJECTS)["kind"])
            before = as_data(agent.node.registry.get(kind, "default", "o"))
            target = {"kind": kind.plural, "name": "o", "namespace": before["metadata"].get("namespace", "")}
            request = chance.request(target, before)
            *_, answer = await agent.ask(**request)
            outcome = answer["error"]["kind"] if "error" in answer else "ok"
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            assert outcome in ("ok", "Manifest", "Usage", "Conflict", "NotFound"), (request, answer)
            after = as_data(agent.node.registry.get(kind, "default", "o"))
            for name in IDENTITY:
                assert after["metadata"].get(name) == before["metadata"].get(name), (request, answer)
            if outcome != "ok" or request.get("dry_run"):
                assert after.get("spec") == before.get("spec"), (request, answer)
                assert after["metadata"].get("generation") == before["metadata"].get("generation"), (request, answer)
        assert outcomes["ok"] > REQUESTS / 10, outcomes
        assert outcomes["Manifest"] > REQUESTS / 10, outcomes

    with_agent(tmp_path, test)
