"""Commands in a running container: what is known before anything is launched."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from typing import Any

import pytest
from msgspec.structs import replace

from minipod.errors import ContainerError
from minipod.paths import Paths
from minipod.plan.configs import ContainerConfig, SecurityContext
from minipod.runtime.container import Container
from minipod.runtime.ended import ContainerEndedError
from minipod.runtime.execs import CannotExecute, Execs
from minipod.runtime.records import ContainerRecord
from minipod.runtime.spawner.client import SpawnError
from minipod.runtime.spawner.versions import Spawners
from minipod.runtime.status import ContainerState, ContainerStatus, ContainerUser
from tests.unit.test_container_plan import SANDBOX, V1


def running(uid: int, non_root: bool = True) -> Container:
    security = SecurityContext(run_as_non_root=non_root, privileged=True)
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


class DeadEnd:
    """A spawner in whose eyes the container's process is gone already."""

    def __init__(self, failure: SpawnError) -> None:
        self._failure = failure
        self.current = self

    async def launch(self, *_args: object) -> None:
        raise self._failure

    async def launch_to_end(self, *_args: object) -> None:
        raise self._failure

    async def spawn(self, *_args: object, **_options: object) -> None:
        raise self._failure


def execs_that_fail(failure: SpawnError) -> Execs:
    return Execs(DeadEnd(failure), V1, Paths("/run/x", "/lib/x"))  # type: ignore[arg-type]


@pytest.mark.parametrize("to_end", [False, True])
def test_a_command_in_a_container_that_is_ending_fails_with_its_exit_code(to_end: bool) -> None:
    """Its process is gone, its status does not say so yet: `setns fd 20: No such process` would say nothing."""

    async def main() -> None:
        child = subprocess.Popen(["true"])
        container = running(0, non_root=False)
        container.pidfd = os.pidfd_open(child.pid)
        child.wait()
        execs = execs_that_fail(SpawnError("setns fd 20: No such process", errno.ESRCH, "JoinNamespaces"))
        command = execs.run(container, ("sh",), 9, 9) if to_end else execs.start(container, ("sh",), {}, None)
        waiting = asyncio.ensure_future(command)
        await asyncio.sleep(0.01)
        assert not waiting.done()  # the exit code is on its way
        container.record = replace(
            container.record, status=replace(container.status, state=ContainerState.EXITED, exit_code=3)
        )
        container.ended.set()
        with pytest.raises(ContainerEndedError, match=r'^container "c" has ended \(exit code 3\)$') as failure:
            await waiting
        assert failure.value.exit_status == 1
        with pytest.raises(ContainerEndedError, match="exit code 3"):
            await execs.start(container, ("sh",), {}, None)
        os.close(container.pidfd)

    asyncio.run(main())


def test_what_fails_in_a_container_that_runs_fails_as_it_did() -> None:
    async def main() -> None:
        container = running(0, non_root=False)
        container.pidfd = os.pidfd_open(os.getpid())
        with pytest.raises(CannotExecute, match="no such program"):
            await execs_that_fail(SpawnError("no such program", errno.ENOENT, "Exec")).start(
                container, ("sh",), {}, None
            )
        os.close(container.pidfd)

    asyncio.run(main())
