"""Objects beside the pod, as a client of the agent applies, changes and deletes them, on a fake runtime (unit)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minipod.agent.manifests import Manifest, Manifests, load
from minipod.agent.node import Node
from minipod.agent.objects.claims import Claims
from minipod.agent.pods.table import Pods
from minipod.api.kinds import CONFIG_MAP, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, kind_named
from minipod.api.types import ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret
from minipod.control.verbs.applier import Applier, Mode, in_order
from minipod.errors import ConflictError, ManifestError, NotFoundError
from tests.unit.agent_fakes import make_node, run_virtually

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web"},
    "spec": {"containers": [{"name": "main", "image": "busybox"}]},
}


def config_map(data: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data, **more}


def loaded(*objects: dict[str, Any]) -> Manifests:
    return load([Manifest("f", "\n---\n".join(map(json.dumps, objects)))], None, pods=False)


class Host:
    def __init__(self, folder: Path) -> None:
        self.node: Node = make_node(folder)
        self.pods = Pods(self.node)
        self.claims = Claims(self.node, self.pods)

    def apply(self, thing: dict[str, Any], mode: Mode = "apply") -> str:
        (manifest,) = loaded(thing).objects
        return Applier(self.node.registry).carry_out(manifest, mode).result

    async def close(self) -> None:
        await self.pods.close()
        self.node.store.close()


def with_host(folder: Path, test: Any) -> None:
    async def main() -> None:
        host = Host(folder)
        try:
            await test(host)
        finally:
            await host.close()

    run_virtually(main)


def test_apply_creates_then_changes_then_says_that_nothing_changed(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        assert host.apply(config_map({"a": "1"})) == "created"
        assert host.apply(config_map({"a": "1"})) == "unchanged"
        before = host.node.registry.get(CONFIG_MAP, "default", "c")
        assert host.apply(config_map({"a": "2"})) == "configured"
        after = host.node.registry.get(CONFIG_MAP, "default", "c")
        assert after.metadata.uid == before.metadata.uid
        assert int(after.metadata.resource_version) > int(before.metadata.resource_version)
        assert after.metadata.annotations == {}

    with_host(tmp_path, test)


def test_apply_leaves_what_others_wrote_and_removes_what_it_had_written(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        host.apply(config_map({"mine": "1", "gone": "2"}))
        stored = host.node.registry.get(CONFIG_MAP, "default", "c")
        host.node.registry.replace(msgspec.structs.replace(stored, data={**stored.data, "theirs": "3"}), stored)
        host.apply(config_map({"mine": "4"}))
        assert host.node.registry.get(CONFIG_MAP, "default", "c").data == {"mine": "4", "theirs": "3"}

    with_host(tmp_path, test)


def test_what_apply_saw_of_a_pod_goes_with_the_pod(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        host.apply(POD)
        stored = host.node.registry.get(kind_named("Pod"), "default", "web")
        assert host.node.registry.applied(stored)
        host.pods.delete("default", "web")
        await host.pods.find("default", "web").forgotten
        assert host.node.registry.applied(stored) == {}

    with_host(tmp_path, test)


def test_a_key_that_left_string_data_leaves_the_secret(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "1", "b": "2"}}
        host.apply(secret)
        host.apply(secret | {"stringData": {"a": "1"}})
        found = host.node.registry.find(Secret, "default", "s")
        assert found is not None
        assert found.data == {"a": b"1"}
        assert found.string_data == {}

    with_host(tmp_path, test)


def test_create_wants_nothing_there_and_replace_something(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        with pytest.raises(NotFoundError, match='configmaps "c" not found'):
            host.apply(config_map({}), "replace")
        assert host.apply(config_map({"a": "1"}), "create") == "created"
        with pytest.raises(ConflictError, match="already exists"):
            host.apply(config_map({"a": "1"}), "create")
        assert host.apply(config_map({"b": "1"}), "replace") == "replaced"
        assert host.node.registry.get(CONFIG_MAP, "default", "c").data == {"b": "1"}

    with_host(tmp_path, test)


def test_what_is_immutable_stays(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        host.apply(config_map({"a": "1"}, immutable=True))
        with pytest.raises(ManifestError, match='ConfigMap "c" is invalid: data: Forbidden'):
            host.apply(config_map({"a": "2"}, immutable=True))
        with pytest.raises(ManifestError, match="immutable: Forbidden"):
            host.apply(config_map({"a": "1"}))

    with_host(tmp_path, test)


def test_a_pod_may_get_another_image_and_nothing_else(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        assert host.apply(POD) == "created"
        assert host.apply(POD) == "unchanged"
        image: Any = {**POD, "spec": {"containers": [{"name": "main", "image": "busybox:2"}]}}
        assert host.apply(image) == "configured"
        command: Any = {**POD, "spec": {"containers": [{"name": "main", "image": "busybox", "command": ["x"]}]}}
        with pytest.raises(ManifestError, match=r'Pod "web" is invalid: spec: Forbidden.*image'):
            host.apply(command)

    with_host(tmp_path, test)


def test_what_pods_need_is_made_before_them_whatever_the_order(tmp_path: Path) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "d"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    kinds = [one.kind for one in in_order(loaded(POD, config_map({}), claim).objects)]
    assert kinds == ["PersistentVolumeClaim", "ConfigMap", "Pod"]


def test_a_claim_is_bound_to_a_folder_and_frees_it_when_it_is_deleted(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        host.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "d"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Mi"}},
                    "storageClassName": "local-retain",
                },
            }
        )
        host.claims.reconcile()
        claim = host.node.registry.find(PersistentVolumeClaim, "default", "d")
        assert claim is not None
        assert claim.status.phase == "Bound"
        host.node.registry.delete(PERSISTENT_VOLUME_CLAIM, "default", "d")
        host.claims.reconcile()
        assert host.node.registry.find(PersistentVolumeClaim, "default", "d") is None
        (volume,) = host.node.registry.all(PersistentVolume)
        assert volume.status.phase == "Released"
        host.node.registry.delete(PERSISTENT_VOLUME, "", volume.metadata.name)
        host.claims.reconcile()
        assert host.node.registry.all(PersistentVolume) == []

    with_host(tmp_path, test)


def test_objects_are_there_for_the_next_agent(tmp_path: Path) -> None:
    async def first(host: Host) -> None:
        host.apply(config_map({"a": "1"}))

    async def second(host: Host) -> None:
        assert [one.data for one in host.node.registry.all(ConfigMap)] == [{"a": "1"}]
        assert host.apply(config_map({"a": "1"})) == "unchanged"

    with_host(tmp_path, first)
    with_host(tmp_path, second)


def test_a_secrets_values_are_not_in_what_is_wrong_with_it() -> None:
    wrong = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": 12345, "b": "hunter2!"}}
    with pytest.raises(ManifestError) as caught:
        loaded(wrong)
    text = f"{caught.value} {caught.value.errors}"
    assert "12345" not in text
    assert "hunter2" not in text
