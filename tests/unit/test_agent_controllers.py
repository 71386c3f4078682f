"""The agent's controllers when so much happens at once that the history does not hold all of it (unit)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from minipod.agent.node import Node
from minipod.agent.objects.claims import Claims
from minipod.agent.objects.refresh import Refresher
from minipod.agent.pods.table import Pods
from minipod.api.defaults import defaulted
from minipod.api.kinds import CONFIG_MAP, PERSISTENT_VOLUME_CLAIM
from minipod.api.types import (
    ConfigMap,
    ConfigMapVolumeSource,
    ObjectMeta,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    Pod,
    Volume,
    VolumeMount,
    VolumeResourceRequirements,
)
from minipod.errors import HostError
from minipod.plan.volumes import claims as plan
from tests.unit.agent_fakes import make_node, make_pod, run_virtually, until


def with_node(folder: Path, test: Callable[[Node, Pods], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        node = make_node(folder)
        node.history._max_changes = 5
        pods = Pods(node)
        try:
            await test(node, pods)
        finally:
            await pods.close()
            node.store.close()

    run_virtually(main)


def config_map(name: str, text: str) -> ConfigMap:
    return defaulted(ConfigMap(metadata=ObjectMeta(name=name, namespace="default"), data={"key": text}))


def claim(name: str) -> PersistentVolumeClaim:
    resources = VolumeResourceRequirements(requests={"storage": "1Gi"})
    spec = PersistentVolumeClaimSpec(access_modes=("ReadWriteOnce",), resources=resources)
    made = PersistentVolumeClaim(metadata=ObjectMeta(name=name, namespace="default"), spec=spec)
    admitted: PersistentVolumeClaim = plan.admitted(defaulted(made))
    return admitted


def change(node: Node, name: str, text: str) -> None:
    node.registry.update(CONFIG_MAP, "default", name, lambda old: replace(old, data={"key": text}))


def mounting(pod: Pod, volume: str) -> Pod:
    mounts = (VolumeMount(name=volume, mount_path="/v"),)
    containers = tuple(replace(container, volume_mounts=mounts) for container in pod.spec.containers)
    return replace(pod, spec=replace(pod.spec, containers=containers))


def flood(node: Node) -> None:
    """More changes than the history holds, in one turn of the loop."""
    node.registry.create(config_map("flood", "0"))
    for number in range(20):
        change(node, "flood", str(number))
    node.registry.delete(CONFIG_MAP, "default", "flood")


@pytest.mark.parametrize("flooded", [False, True])
def test_files_follow_an_object_whose_change_is_not_kept_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flooded: bool
) -> None:
    async def test(node: Node, pods: Pods) -> None:
        written: list[str] = []

        async def write(pod: Pod) -> bool:
            found = node.registry.find(ConfigMap, "default", "c")
            written.append(found.data["key"] if found is not None else "")
            return True

        monkeypatch.setattr(node.configuration, "write", write)
        node.registry.create(config_map("c", "first"))
        volumes = (Volume(name="v", config_map=ConfigMapVolumeSource(name="c")),)
        (worker,) = pods.create([mounting(make_pod(volumes=volumes), "v")])
        await until(lambda: worker.pod.status.phase == "Running")
        refresher = asyncio.ensure_future(Refresher(node, pods).run())
        await until(lambda: bool(written))
        await asyncio.sleep(1)
        written.clear()
        change(node, "c", "second")
        if flooded:
            flood(node)
        await until(lambda: "second" in written)
        refresher.cancel()

    with_node(tmp_path, test)


def test_a_claim_is_bound_though_its_creation_is_not_kept_any_more(tmp_path: Path) -> None:
    async def test(node: Node, pods: Pods) -> None:
        controller = asyncio.ensure_future(Claims(node, pods).run())
        await asyncio.sleep(0)
        node.registry.create(claim("data"))
        flood(node)
        await until(lambda: node.registry.get(PERSISTENT_VOLUME_CLAIM, "default", "data").status.phase == "Bound")
        controller.cancel()

    with_node(tmp_path, test)


def test_a_claim_that_cannot_be_removed_goes_once_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node, pods: Pods) -> None:
        claims = Claims(node, pods)
        run = asyncio.ensure_future(claims.run())
        node.registry.create(claim("c"))
        await asyncio.sleep(1)

        def full(thing: Any) -> None:
            raise HostError("no space left on the device")

        with monkeypatch.context() as patched:
            patched.setattr(node.registry, "remove", full)
            node.registry.delete(PERSISTENT_VOLUME_CLAIM, "default", "c")
            await asyncio.sleep(20)
            assert claims.trouble == "no space left on the device"
            assert node.registry.find(PersistentVolumeClaim, "default", "c") is not None
        await asyncio.sleep(6)
        assert claims.trouble == ""
        assert node.registry.find(PersistentVolumeClaim, "default", "c") is None
        run.cancel()
        await asyncio.wait([run])

    with_node(tmp_path, test)
