"""Commands in running containers (layer 3): exec and exec_sync. What they may do is the container's own."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import signal

from minipod.errors import ContainerError
from minipod.paths import Paths
from minipod.plan.configs import HostFacts
from minipod.plan.container import exec_operations
from minipod.plan.process import AssumeUser, Exec
from minipod.runtime.container import RUNNING, Container, seccomp_filter
from minipod.runtime.spawner_client import ChildExit, SpawnError
from minipod.runtime.spawners import Spawners
from minipod.runtime.status import ExecResult

_OUTPUT_LIMIT = 16 << 20  # bytes a stream of exec_sync may say (CRI's maximum message)


class CannotExecute(ContainerError):  # noqa: N818 - what it says
    """The command did not get to exec. Its exit status is a shell's, podman's and docker's: 127 for a program that is
    not there, 126 for one that cannot be executed."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_status = 127 if number == errno.ENOENT else 126


class ExecSession:
    """A command that was started. `tty_fd` is the pty's master, the caller's to close; -1 without one."""

    def __init__(self, pid: int, pidfd: int, tty_fd: int, end: asyncio.Future[ChildExit]) -> None:
        self.pid = pid
        self.tty_fd = tty_fd
        self._pidfd = pidfd
        self._end = end

    async def wait(self) -> int:
        """Its exit status; 128+n for an end by signal n."""
        try:
            return (await asyncio.shield(self._end)).code
        finally:
            if self._pidfd >= 0 and self._end.done():
                os.close(self._pidfd)
                self._pidfd = -1

    def signal(self, number: int) -> None:
        """To the command; one that has ended is not an error."""
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                pass


class Execs:
    """The commands under way, by key."""

    def __init__(self, spawners: Spawners, facts: HostFacts, paths: Paths) -> None:
        self._spawners = spawners
        self._facts = facts
        self._paths = paths
        self._ends: dict[str, asyncio.Future[ChildExit]] = {}

    def ended(self, ended: ChildExit) -> None:
        """The spawner has told an end that is no container's."""
        future = self._ends.pop(ended.key, None)
        if future is not None and not future.done():
            future.set_result(ended)

    async def start(
        self,
        container: Container,
        command: tuple[str, ...],
        fds: dict[str, int],
        tty: tuple[int, int] | None,
    ) -> ExecSession:
        """Raises ContainerError: the container is not running, there is no such program …"""
        status, user = container.status, container.status.user
        if status.state != RUNNING or container.pidfd < 0 or user is None:
            raise ContainerError(f'container "{status.config.name}" is not running')
        clone, operations = exec_operations(
            status.config,
            container.record.sandbox,
            AssumeUser(uid=user.uid, gid=user.gid, groups=user.supplemental_groups, home=container.record.home),
            command,
            container.record.environment,
            container.record.cwd,
            self._facts,
            seccomp_filter(status.config, self._paths),
            tty,
        )
        key = f"{status.id[:12]}.exec.{secrets.token_hex(4)}"
        end: asyncio.Future[ChildExit] = asyncio.get_running_loop().create_future()
        self._ends[key] = end
        try:
            spawned = await self._spawners.current.spawn(
                key,
                clone,
                list(operations),
                stdio="terminal" if tty is not None else "fds",
                keep=False,
                fds={"target": container.pidfd, **fds},
            )
        except BaseException as error:
            self._ends.pop(key, None)
            if isinstance(error, SpawnError) and error.operation == Exec.__name__:
                raise CannotExecute(str(error), error.errno) from error
            raise
        return ExecSession(spawned.pid, spawned.fds.pop("pidfd", -1), spawned.fds.pop("terminal", -1), end)

    async def run(self, container: Container, command: tuple[str, ...], timeout_s: float) -> ExecResult:
        """To its end, with its output. Raises TimeoutError, after having killed it."""
        readers, writers = {}, {}
        for name in ("stdout", "stderr"):
            readers[name], writers[name] = os.pipe2(os.O_CLOEXEC)
        try:
            session = await self.start(container, command, writers, None)
        except BaseException:
            for fd in readers.values():
                os.close(fd)
            raise
        finally:
            for fd in writers.values():
                os.close(fd)
        outputs = [asyncio.ensure_future(_read_all(readers[name])) for name in ("stdout", "stderr")]
        try:
            async with asyncio.timeout(timeout_s or None):
                code = await session.wait()
                stdout, stderr = await asyncio.gather(*outputs)
        except TimeoutError:
            session.signal(signal.SIGKILL)
            await session.wait()
            raise
        finally:
            for output in outputs:
                output.cancel()
        return ExecResult(code, stdout, stderr)


async def _read_all(fd: int) -> bytes:
    """Until the end or the limit; closes `fd`."""
    loop = asyncio.get_running_loop()
    chunks: list[bytes] = []
    done = loop.create_future()
    os.set_blocking(fd, False)

    def readable() -> None:
        try:
            chunk = os.read(fd, 65536)
        except BlockingIOError:
            return
        if chunk and sum(map(len, chunks)) < _OUTPUT_LIMIT:
            chunks.append(chunk)
        elif not chunk and not done.done():
            done.set_result(None)

    loop.add_reader(fd, readable)
    try:
        await done
    finally:
        loop.remove_reader(fd)
        os.close(fd)
    return b"".join(chunks)
