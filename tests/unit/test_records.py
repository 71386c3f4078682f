"""What the runtime keeps of its containers on disk, also on a full one."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minipod.plan.configs import ContainerConfig, SandboxConfig
from minipod.runtime.container import Container
from minipod.runtime.records import ContainerRecord, load_all
from minipod.runtime.status import ContainerState, ContainerStatus


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow beyond 10 bytes; Python ignores SIGXFSZ."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def container(folder: Path) -> Container:
    sandbox = SandboxConfig(
        id="s", name="web", namespace="default", uid="u", hostname="web", log_directory="/l", cgroup_parent="/p"
    )
    config = ContainerConfig(id="c", name="main", image="busybox", directory=f"{folder}/d")
    status = ContainerStatus(id="c", sandbox_id="s", config=config, state=ContainerState.RUNNING, created_at_ns=1)
    return Container(ContainerRecord(status=status, sandbox=sandbox), f"{folder}/c")


def test_a_full_disk_keeps_no_container_from_ending(tmp_path: Path) -> None:
    made = container(tmp_path)
    made.save()
    with full_disk():
        made.update(state=ContainerState.EXITED, exit_code=3)
    assert made.status.exit_code == 3
    assert made.unsaved
    assert os.listdir(tmp_path / "c") == ["container.json"], "nothing half-written is left"
    assert load_all(str(tmp_path), "container.json", ContainerRecord)["c"].status.state == ContainerState.RUNNING
    made.update(message="later")
    assert not made.unsaved
    assert load_all(str(tmp_path), "container.json", ContainerRecord)["c"].status.exit_code == 3


def test_a_new_record_that_cannot_be_saved_names_its_file(tmp_path: Path) -> None:
    with full_disk(), pytest.raises(OSError, match=r"c/container\.json"):
        container(tmp_path).save()
