"""What the executor does for each of the lifecycle's actions, and how it answers; also where everything fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from minipod.agent.node import Node
from minipod.agent.pods.executor import Executor
from minipod.api.types import EmptyDirVolumeSource, Pod, Volume
from minipod.errors import ContainerError, ImageError, SandboxError
from minipod.lifecycle import model
from minipod.runtime.status import ContainerState
from tests.unit.agent_fakes import FakeRuntime, make_node, make_pod, run_virtually

VOLUMES = (Volume(name="data", empty_dir=EmptyDirVolumeSource()),)
START = model.StartContainer(name="main", kind="main", attempt=0)


def with_uid(pod: Pod) -> Pod:
    return replace(pod, metadata=replace(pod.metadata, uid="own"))


class Scene:
    """An executor of one pod, and what it reported."""

    def __init__(self, folder: Path, pod: Pod | None = None) -> None:
        self.folder = folder
        self.runtime = FakeRuntime()
        self.node: Node = make_node(folder, self.runtime)
        self.pod = pod or with_uid(make_pod(volumes=VOLUMES))
        self.reported: list[model.Event] = []
        self.executor = Executor(self.node, self.pod.metadata.uid, lambda: self.pod, self.reported.append)

    async def __call__(self, *actions: model.Action) -> list[str]:
        """The names of the answers to these actions."""
        self.reported.clear()
        for action in actions:
            await self.executor.execute(action)
        return [type(event).__name__ for event in self.reported]

    @property
    def last(self) -> Any:
        return self.reported[-1]


def scene(folder: Path, work: Any) -> None:
    async def main() -> None:
        await work(Scene(folder))

    run_virtually(main)


def test_volumes_are_set_up_and_torn_down(tmp_path: Path) -> None:
    async def work(on: Scene) -> None:
        assert await on(model.SetUpVolumes()) == ["VolumesReady"]
        assert (tmp_path / "volume-data").exists()
        assert await on(model.CreateSandbox(attempt=0), model.TearDown()) == ["SandboxReady", "TornDown"]
        assert not (tmp_path / "volume-data").exists()
        assert on.runtime.sandboxes == {}
        assert on.node.store.operations(on.pod.metadata.uid) is None

    scene(tmp_path, work)


def test_what_a_set_up_will_do_is_saved_before_it_is_done(tmp_path: Path) -> None:
    """A crash in between leaves something that the next agent can undo."""

    async def work(on: Scene) -> None:
        on.pod = with_uid(make_pod(volumes=(Volume(name="not/there", empty_dir=EmptyDirVolumeSource()),)))
        assert await on(model.SetUpVolumes()) == ["VolumesFailed"]
        assert "no such file" in on.last.message
        assert on.node.store.operations(on.pod.metadata.uid) is not None

    scene(tmp_path, work)


def test_a_new_sandbox_takes_the_place_of_the_pods_older_ones_and_of_no_others(tmp_path: Path) -> None:
    async def work(on: Scene) -> None:
        await on(model.CreateSandbox(attempt=0))
        other = Executor(on.node, "another", lambda: make_pod("other"), on.reported.append)
        await other.execute(model.CreateSandbox(attempt=0))
        assert await on(START, model.CreateSandbox(attempt=1)) == [
            *("ImageReady", "ContainerCreated", "ContainerStarted", "SandboxReady")
        ]
        assert [status.config.attempt for status in on.executor.sandboxes()] == [1]
        assert len(on.runtime.sandboxes) == 2
        assert on.executor.containers() == []
        assert (on.last.ips, on.last.id) == (("10.0.0.2", "fd00::2"), on.executor.sandboxes()[0].id)

    scene(tmp_path, work)


def test_a_container_is_started_with_a_report_of_each_step(tmp_path: Path) -> None:
    async def work(on: Scene) -> None:
        await on(model.CreateSandbox(attempt=0))
        assert await on(START) == ["ImageReady", "ContainerCreated", "ContainerStarted"]
        assert on.last.container_id == on.runtime.find("main").id
        assert on.last.pid == 4242

    scene(tmp_path, work)


@pytest.mark.parametrize(
    ("verb", "error", "answers", "reason"),
    [
        ("create_container", ContainerError("x", "CreateContainerConfigError"), 1, "CreateContainerConfigError"),
        ("create_container", ContainerError("x"), 1, "CreateContainerError"),
        ("create_container", OSError(28, "full"), 1, "CreateContainerError"),
        ("create_container", ImageError("gone"), 1, "ErrImagePull"),
        ("start_container", ContainerError("x", "RunContainerError"), 2, None),
    ],
)
def test_after_a_step_that_fails_there_is_no_other(
    tmp_path: Path, verb: str, error: Exception, answers: int, reason: str | None
) -> None:
    async def work(on: Scene) -> None:
        await on(model.CreateSandbox(attempt=0))
        on.runtime.fail[verb] = error
        found = await on(START)
        assert found[:answers] == ["ImageReady", "ContainerCreated"][:answers]
        assert len(found) == answers + 1
        if isinstance(error, ImageError):
            assert found[-1] == "ImageFailed"
        elif reason is None:
            assert found[-1] == "ContainerStartFailed"
            assert on.last.container_id == on.runtime.find("main").id
        else:
            assert (found[-1], on.last.reason) == ("ContainerCreateFailed", reason)

    scene(tmp_path, work)


def test_without_a_sandbox_no_container_is_configured(tmp_path: Path) -> None:
    async def work(on: Scene) -> None:
        assert await on(START) == ["ImageReady", "ContainerCreateFailed"]
        assert on.last.reason == "CreateContainerConfigError"
        assert "its sandbox is gone" in on.last.message

    scene(tmp_path, work)


def test_a_container_that_is_not_known_any_more_has_ended_in_an_unknown_way(tmp_path: Path) -> None:
    async def work(on: Scene) -> None:
        assert await on(model.KillContainer(name="main", container_id="gone", grace_s=1)) == ["ContainerExited"]
        assert (on.last.exit_code, on.last.reason) == (137, "ContainerStatusUnknown")

    scene(tmp_path, work)


def test_only_an_end_is_reported_as_one(tmp_path: Path) -> None:
    async def work(on: Scene) -> None:
        await on(model.CreateSandbox(attempt=0), START)
        on.reported.clear()
        status = on.runtime.find("main")
        assert status.state == ContainerState.RUNNING
        on.executor.report_exit(status)
        assert on.reported == []
        assert await on(model.KillContainer(name="main", container_id=status.id, grace_s=1)) == ["ContainerExited"]
        assert on.last.exit_code == 143

    scene(tmp_path, work)


FAILURES = [
    (model.SetUpVolumes(), "VolumesFailed"),
    (model.CreateSandbox(attempt=0), "SandboxFailed"),
    (START, "ContainerCreateFailed"),
    (model.KillContainer(name="main", container_id="c", grace_s=1), "ContainerKillFailed"),
    (model.RunHook(name="main", container_id="c", hook="preStop"), "HookDone"),
    (model.ResizePod(), "ResizeDone"),
    (model.StopSandbox(id="s"), "SandboxStopped"),
    (model.TearDown(), "TearDownFailed"),
    (model.RemoveContainer(name="main", container_id="c"), None),
]


@pytest.mark.parametrize(("action", "answer"), FAILURES, ids=[type(action).__name__ for action, _ in FAILURES])
@pytest.mark.parametrize("error", [SandboxError("broken"), OSError(5, "broken"), ValueError("broken")])
def test_an_action_that_breaks_is_answered_all_the_same(
    tmp_path: Path, action: model.Action, answer: str | None, error: Exception
) -> None:
    """Also by an error that is nobody's: a pod without an answer would wait for ever."""

    async def work(on: Scene) -> None:
        def broken(*_: object, **__: object) -> Any:
            raise error

        on.executor._do = broken  # type: ignore[method-assign]
        assert await on(action) == ([] if answer is None else [answer])
        if answer is not None and hasattr(on.last, "message"):
            assert "broken" in on.last.message

    scene(tmp_path, work)


def test_an_action_that_is_none_raises_nothing(tmp_path: Path) -> None:
    async def work(on: Scene) -> None:
        assert await on(model.Forget()) == []

    scene(tmp_path, work)
