"""Commands in a running container: what is known before anything is launched."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from minipod.errors import ContainerError
from minipod.paths import Paths
from minipod.plan.configs import ContainerConfig, SecurityContext
from minipod.runtime.container import Container
from minipod.runtime.execs import Execs
from minipod.runtime.records import ContainerRecord
from minipod.runtime.spawner.versions import Spawners
from minipod.runtime.status import ContainerState, ContainerStatus, ContainerUser
from tests.unit.test_container_plan import SANDBOX, V1


def running(uid: int) -> Container:
    security = SecurityContext(run_as_non_root=True, privileged=True)
    config = ContainerConfig(id="c", name="c", image="i", directory="/d", security=security)
    user = ContainerUser(uid, 0)
    status = ContainerStatus(
        id="c", sandbox_id="s", config=config, state=ContainerState.RUNNING, created_at_ns=0, user=user
    )
    container = Container(ContainerRecord(status=status, sandbox=SANDBOX), "/nowhere")
    container.pidfd = 99
    return container


@pytest.mark.parametrize("tty", [None, (24, 80)])
def test_no_command_runs_as_root_in_a_container_that_must_not(tty: Any) -> None:
    """Whatever a record says: the spawner, of which there is none here, is not asked."""
    paths = Paths("/run/x", "/lib/x")
    execs = Execs(Spawners(paths, lambda _: None, lambda: None), V1, paths)
    with pytest.raises(ContainerError, match=r"runAsNonRoot and would run as root \(uid 0\)"):
        asyncio.run(execs.start(running(0), ("sh",), {}, tty))
    with pytest.raises(ContainerError, match=r"runAsNonRoot and would run as root \(uid 0\)"):
        asyncio.run(execs.run(running(0), ("sh",), 1, 1))
