"""Host operations in threads: their order, and the deadline of those that look at a path of the host."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minipod.errors import ContainerError, ImageError, VolumeError
from minipod.plan.operation import HostOperation
from minipod.plan.volumes.host_paths import CheckHostPath
from minipod.plan.volumes.mounted import BindFolder
from minipod.plan.volumes.sub_path import MakeSubPath
from minipod.runtime import host_work

done: list[str] = []


class Note(HostOperation, frozen=True):
    text: str

    def execute(self) -> None:
        done.append(f"{self.text} {threading.current_thread() is threading.main_thread()}")


class Refuse(HostOperation, frozen=True):
    def execute(self) -> None:
        raise VolumeError("refused")


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., object]]:
    """Stands for a stat that does not return, until the test has ended."""
    over = threading.Event()
    monkeypatch.setattr(host_work, "ANSWER_S", 0.01)
    yield lambda *_: over.wait()
    over.set()


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()


def test_operations_are_executed_in_their_order_and_not_on_the_loop(tmp_path: Path) -> None:
    place = tmp_path / "made"
    asyncio.run(host_work.execute([Note("first"), CheckHostPath("data", str(place)), Note("last")]))
    assert done == ["first False", "last False"]
    assert place.is_dir()


def test_what_fails_ends_the_list() -> None:
    with pytest.raises(VolumeError, match="refused"):
        asyncio.run(host_work.execute([Note("first"), Refuse(), Note("last")]))
    assert done == ["first False"]


@pytest.mark.parametrize("operation", [CheckHostPath("data", "/mnt/a"), BindFolder("data", "/mnt/b", "/unused")])
def test_a_volume_whose_path_does_not_answer_is_named_with_the_remedy(
    operation: HostOperation, hang: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(operation), "execute", hang)
    message = (
        rf'MountVolume.SetUp failed for volume "data" : {host_work.place(operation)}: does not answer within 0\.01 s: '
        "unmount"
    )
    with pytest.raises(VolumeError, match=message):
        asyncio.run(host_work.execute([operation, Note("last")]))
    assert done == []


def test_a_volume_whose_sub_path_does_not_answer_fails_the_container(
    hang: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the host is in the message: the container's user may read it."""
    monkeypatch.setattr(MakeSubPath, "execute", hang)
    operation = MakeSubPath(volume="data", container="main", source="/mnt/secret", sub_path="x")
    with pytest.raises(ContainerError) as failure:
        asyncio.run(host_work.execute([operation]))
    assert str(failure.value) == (
        'failed to prepare subPath for volumeMount "data" of container "main": the volume does not answer'
    )
    assert failure.value.reason == "CreateContainerConfigError"


def test_an_image_in_a_folder_that_does_not_answer_is_an_error_of_the_image(hang: Callable[..., object]) -> None:
    with pytest.raises(ImageError, match=r'failed to pull image "dir:/mnt/root": /mnt/root: does not answer'):
        asyncio.run(host_work.look_at_image("dir:/mnt/root", hang))
    assert asyncio.run(host_work.look_at_image("busybox", lambda name: f"{name} is there", "busybox")) == (
        "busybox is there"
    )
