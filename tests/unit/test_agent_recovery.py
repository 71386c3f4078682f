"""The next agent, after a boot too: pods continue, whatever of them cannot be made or removed (unit)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from minipod.agent import processes
from minipod.api.types import EmptyDirVolumeSource, Pod, Volume
from minipod.errors import HostError, VolumeError
from tests.unit.agent_fakes import FakeRuntime, make_pod, until
from tests.unit.test_agent_pods import Agent, phase, virtually


def test_after_a_reboot_the_pod_starts_anew_with_its_init_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(processes, "boot_id", lambda: "one")
        first = await Agent(tmp_path).recover()
        volumes = (Volume(name="data", empty_dir=EmptyDirVolumeSource()),)
        worker = first.start(make_pod("web", "a", init=["prepare"], volumes=volumes))
        await until(lambda: first.runtime.is_running("prepare"))
        first.runtime.end(first.runtime.find("prepare").id, 0)
        await until(lambda: phase(worker) == "Running")
        await first.crash()
        (tmp_path / "volume-data").unlink()
        monkeypatch.setattr(processes, "boot_id", lambda: "two")
        second = await Agent(tmp_path, FakeRuntime()).recover()
        await until(lambda: second.runtime.is_running("prepare"))
        assert (tmp_path / "volume-data").exists()
        second.runtime.end(second.runtime.find("prepare").id, 0)
        again = second.pods.find("default", "web")
        await until(lambda: second.runtime.is_running("a"))
        await until(lambda: phase(again) == "Running")
        assert again.pod.status.container_statuses[0].restart_count == 1

    virtually(main())


def test_after_a_reboot_a_volume_that_cannot_be_made_is_tried_again_and_the_pod_can_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(processes, "boot_id", lambda: "one")
        first = await Agent(tmp_path).recover()
        volumes = (Volume(name="data", empty_dir=EmptyDirVolumeSource()),)
        for name in ("web", "other"):
            first.start(make_pod(name, "a", volumes=volumes))
        await until(lambda: len(first.pods.running()) == 2)
        await first.crash()
        monkeypatch.setattr(processes, "boot_id", lambda: "two")
        second = Agent(tmp_path, FakeRuntime())

        async def missing(pod: Pod) -> Any:
            raise VolumeError("the server does not answer")

        second.node.find_sources, works = missing, second.node.find_sources
        await second.recover()
        await until(lambda: second.events().count("FailedMount") == 2)
        await asyncio.sleep(10)
        second.pods.delete("default", "other")
        second.node.find_sources = works
        await until(lambda: len(second.pods) == 1 and second.pods.running() == ["default/web"])
        await second.crash()

    virtually(main())


def test_what_recovery_cannot_remove_keeps_no_pod_from_the_next_agent(tmp_path: Path) -> None:
    async def main() -> None:
        first = await Agent(tmp_path).recover()
        worker = first.start(make_pod("web", "a"))
        await until(lambda: first.runtime.is_running("a"))
        first.runtime.fail["remove_container"] = HostError("device or resource busy")
        for code in (1, 2):
            first.runtime.end(first.runtime.find("a").id, code)
            await until(lambda: first.runtime.is_running("a"))
        assert len(first.runtime.containers) > 1
        await first.crash()
        second = await Agent(tmp_path, first.runtime).recover()
        again = second.pods.find("default", "web")
        await until(lambda: phase(again) == "Running")
        second.pods.delete("default", "web")
        await asyncio.sleep(60)
        assert "FailedKillPod" in second.events(), "it says why it is not gone"
        second.runtime.fail.clear()
        await again.forgotten
        assert worker.uid == again.uid
        await second.crash()

    virtually(main())


@pytest.mark.parametrize(("boot", "runs"), [("one", False), ("two", True)])
def test_pods_that_were_stopped_run_again_after_the_next_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: str, runs: bool
) -> None:
    async def main() -> None:
        monkeypatch.setattr(processes, "boot_id", lambda: "one")
        first = await Agent(tmp_path).recover()
        first.start(make_pod("web", "a"))
        await until(lambda: first.runtime.is_running("a"))
        first.pods.halt(None)
        await until(lambda: not first.pods.running())
        await first.crash()
        monkeypatch.setattr(processes, "boot_id", lambda: boot)
        second = await Agent(tmp_path, FakeRuntime()).recover()
        assert second.pods.halted is not runs
        await asyncio.sleep(1000)
        assert second.runtime.is_running("a") == runs

    virtually(main())
