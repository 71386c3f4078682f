"""Commands in running containers (layer 3): exec and exec_sync. What they may do is the container's own.

A command is launched by a program of system calls (`plan.launch`). A command that cannot be started that way, such as a
program that does not exist, is forked, which yields a precise error.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import signal
from collections.abc import Awaitable, Callable

from minipod.errors import ContainerError
from minipod.failpoint import reached
from minipod.kernel import launcher
from minipod.kernel.chance import random_hex
from minipod.kernel.process import last_capability, permitted_capabilities
from minipod.paths import Paths
from minipod.plan.cgroup import container_cgroup_path
from minipod.plan.configs import HostFacts
from minipod.plan.container import ExecPlace, exec_operations
from minipod.plan.launch import launch_calls
from minipod.plan.operation import ChildOperation
from minipod.plan.process.entry import CheckProgram
from minipod.plan.process.identity import AssumeUser, Exec
from minipod.plan.process.namespaces import Clone
from minipod.plan.process.passwd import refuse_root
from minipod.runtime.container import Container, seccomp_filter
from minipod.runtime.ended import unless_ended
from minipod.runtime.offload import off_loop
from minipod.runtime.orphans import end_by_pidfd, until_readable
from minipod.runtime.spawner.client import ChildExit, Spawned, SpawnError
from minipod.runtime.spawner.versions import Spawners
from minipod.runtime.start_failure import described
from minipod.runtime.status import ContainerState, ExecResult
from minipod.runtime.tasks import Tasks

OUTPUT_LIMIT = 16 << 20  # bytes kept of a stream of exec_sync (CRI's maximum message)
_DRAIN_S = 0.5  # for processes that a command left running: they may hold its streams open for ever
_LISTEN_AFTER_S = 0.02  # most commands have ended by then, and a pipe takes 64 KiB
_DROP_BYTES = 1 << 20  # read at once of output that is dropped
_DROP_PAUSE_S = 0.005
_PROGRAMS_MAX = 8  # a container has at most three probes and two hooks

Terminal = tuple[int, int] | None

log = logging.getLogger(__name__)


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

    def pidfd(self) -> int:
        """A copy for the caller; -1 where there is none."""
        return os.dup(self._pidfd) if self._pidfd >= 0 else -1

    def signal(self, number: int) -> None:
        """Signals the command; no error if it has ended."""
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
        self._sessions: dict[str, ExecSession] = {}  # that have begun and not ended
        self._watches = Tasks()
        self._can_launch = launcher.is_known()
        self._programs: dict[str, dict[tuple[str, ...], int]] = {}  # by container, of repeated commands: probes

    def ended(self, ended: ChildExit) -> None:
        """Handles an exit of a child that is no container's first process."""
        future = self._ends.pop(ended.key, None)
        self._sessions.pop(ended.key, None)
        reached("exec.ended")
        if future is not None and not future.done():
            future.set_result(ended)

    def spawner_lost(self) -> None:
        """A spawner has died: the ends of its commands are seen by their pidfds."""
        self._watches.begin(self._watch_all())

    async def _watch_all(self) -> None:
        for key, session in self._sessions.items():  # also of a command whose start was the last that it answered
            self._watches.begin(self._watch(key, session))

    async def _watch(self, key: str, session: ExecSession) -> None:
        ended, pidfd = None, session.pidfd()
        if pidfd >= 0:
            try:
                await until_readable(pidfd)
                ended = await end_by_pidfd(key, session.pid, pidfd)
            finally:
                os.close(pidfd)
        future = self._ends.pop(key, None)
        self._sessions.pop(key, None)
        if future is None or future.done():
            return
        if ended is not None:
            future.set_result(ended)
        else:
            future.set_exception(ContainerError("the spawner has died: how the command ended cannot be known"))

    async def close(self) -> None:
        await self._watches.cancel()

    def forget(self, container_id: str) -> None:
        """The container has ended: closes the programs that were kept for its commands."""
        for fd in self._programs.pop(container_id, {}).values():
            os.close(fd)

    async def start(
        self, container: Container, command: tuple[str, ...], fds: dict[str, int], tty: Terminal
    ) -> ExecSession:
        """Raises CannotExecute, ContainerEndedError, ContainerError: the container has not started …"""
        async with unless_ended(container):
            return await self._started(container, command, fds, tty)

    async def _started(
        self, container: Container, command: tuple[str, ...], fds: dict[str, int], tty: Terminal
    ) -> ExecSession:
        await self._compile_filter(container)
        program_fd = self._program(container, command, tty)
        try:
            if program_fd >= 0:
                with contextlib.suppress(SpawnError):
                    fds_there = {"program": program_fd, "target": container.pidfd, **fds}
                    return await self._session(container, lambda key: self._spawners.current.launch(key, fds_there))
        finally:
            if program_fd >= 0:
                os.close(program_fd)
        return await self._forked(container, command, fds, tty)

    async def _compile_filter(self, container: Container) -> None:
        """Has the filter of a Localhost profile, which may take seconds, in the cache before `_operations` reads it."""
        if container.status.config.security.seccomp_localhost:
            await off_loop(seccomp_filter, container.status.config, self._paths)

    async def _forked(
        self, container: Container, command: tuple[str, ...], fds: dict[str, int], tty: Terminal
    ) -> ExecSession:
        clone, operations = self._operations(container, command, tty)
        stdio, there = "terminal" if tty is not None else "fds", {"target": container.pidfd, **fds}
        try:
            return await self._session(
                container,
                lambda key: self._spawners.current.spawn(
                    key, clone, list(operations), stdio=stdio, keep=False, fds=there
                ),
            )
        except SpawnError as error:
            if error.operation in (CheckProgram.__name__, Exec.__name__):
                raise CannotExecute(str(error), error.errno) from error
            group = container_cgroup_path(container.record.sandbox.cgroup_parent, container.status.id)
            text = described(error, group, self._facts)
            raise SpawnError(text, error.errno, error.operation, error.reason) from error

    async def _session(self, container: Container, begin: Callable[[str], Awaitable[Spawned]]) -> ExecSession:
        key = _new_key(container)
        end: asyncio.Future[ChildExit] = asyncio.get_running_loop().create_future()
        self._ends[key] = end
        try:
            spawned = await begin(key)
            reached("exec.launched")
        except BaseException:
            self._ends.pop(key, None)
            raise
        session = ExecSession(spawned.pid, spawned.fds.pop("pidfd", -1), spawned.fds.pop("terminal", -1), end)
        if key in self._ends:  # else it has ended already
            self._sessions[key] = session
        return session

    def _operations(
        self, container: Container, command: tuple[str, ...], tty: Terminal
    ) -> tuple[Clone, tuple[ChildOperation, ...]]:
        status, user = container.status, container.status.user
        if status.state != ContainerState.RUNNING or container.pidfd < 0 or user is None:
            raise ContainerError(f'container "{status.config.name}" is not running')
        refuse_root(user.uid, status.config.security.run_as_non_root)
        record = container.record
        place = ExecPlace(
            root=record.root,
            user=AssumeUser(uid=user.uid, gid=user.gid, groups=user.supplemental_groups, home=record.home),
            environment=record.environment,
            cwd=record.cwd,
        )
        seccomp = seccomp_filter(status.config, self._paths)
        return exec_operations(status.config, record.sandbox, place, command, self._facts, seccomp, tty)

    def _program(self, container: Container, command: tuple[str, ...], tty: Terminal) -> int:
        """A descriptor, owned by the caller, of the program that becomes this command; -1 where it must be forked."""
        clone, operations = self._operations(container, command, tty)
        calls = None
        if self._can_launch:
            calls = launch_calls(clone, operations, last_capability(), permitted_capabilities())
        if calls is None:
            return -1
        try:
            return launcher.sealed(launcher.program(calls))
        except OSError as error:  # vm.memfd_noexec
            log.warning("commands in containers are forked, not launched: %s", error)
            self._can_launch = False
            return -1

    def _kept_program(self, container: Container, command: tuple[str, ...]) -> int:
        programs = self._programs.setdefault(container.status.id, {})
        if command in programs:
            return programs[command]
        program_fd = self._program(container, command, None)
        if program_fd >= 0:
            if len(programs) == _PROGRAMS_MAX:
                os.close(programs.pop(next(iter(programs))))
            programs[command] = program_fd
        return program_fd

    async def run(
        self, container: Container, command: tuple[str, ...], timeout_s: float, output_limit: int
    ) -> ExecResult:
        """Runs the command to its end; returns status and output. On a timeout kills it and raises TimeoutError."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s if timeout_s else None
        stdout, stderr = _Output(output_limit), _Output(output_limit)
        streams = {"stdout": stdout.writer_fd, "stderr": stderr.writer_fd}
        try:
            async with unless_ended(container):
                code = await self._launched_to_end(container, command, streams, timeout_s or None)
                async with asyncio.timeout_at(deadline):
                    if code is None:
                        code = await self._forked_to_end(container, command, streams)
            drained_at = loop.time() + _DRAIN_S
            return ExecResult(code, await stdout.text(drained_at), await stderr.text(drained_at))
        finally:
            stdout.close()
            stderr.close()

    async def _launched_to_end(
        self, container: Container, command: tuple[str, ...], streams: dict[str, int], timeout_s: float | None
    ) -> int | None:
        """Its exit status; None where it must be forked. Killed when the wait is cancelled or times out.

        A loop that was blocked may find the command's end and the timeout together: then the command ended in time.
        """
        if command not in self._programs.get(container.status.id, {}):
            await self._compile_filter(container)
        kept_fd = self._kept_program(container, command)
        if kept_fd < 0:
            return None
        client, key = self._spawners.current, _new_key(container)
        # Duplicates: both may be closed, and their numbers reused, before the request is sent.
        own = {"program": os.dup(kept_fd), "target": os.dup(container.pidfd)}
        fds = {**own, **streams}
        work = asyncio.ensure_future(client.launch_to_end(key, fds))
        try:
            await asyncio.wait((work,), timeout=timeout_s)
            if work.done():
                return work.result().code
            raise TimeoutError
        except SpawnError:
            return None  # it is forked, if only for the error message
        finally:
            if not work.done():
                work.cancel()
                with contextlib.suppress(SpawnError):
                    await client.kill(key)
            for fd in own.values():
                os.close(fd)

    async def _forked_to_end(self, container: Container, command: tuple[str, ...], streams: dict[str, int]) -> int:
        session = await self._forked(container, command, streams, None)
        try:
            return await session.wait()
        except asyncio.CancelledError:
            session.signal(signal.SIGKILL)
            await session.wait()
            raise


def _new_key(container: Container) -> str:
    return f"{container.status.id[:12]}.exec.{random_hex(4)}"


class _Output:
    """One output stream of a command: a pipe that is read to its end; output beyond the limit is dropped."""

    def __init__(self, limit: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd, self.writer_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._fd, False)
        self._chunks: list[bytes] = []
        self._left = limit
        self._end: asyncio.Future[None] = self._loop.create_future()
        self._is_listening = False
        self._timer = self._loop.call_later(_LISTEN_AFTER_S, self._listen)

    def _listen(self) -> None:
        self._is_listening = True
        self._loop.add_reader(self._fd, self._read)

    def _listen_no_more(self) -> None:
        if self._is_listening:
            self._is_listening = False
            self._loop.remove_reader(self._fd)

    def _listen_later(self) -> None:
        """Dropped output is read in large pieces, not after each write: the pipe fills, and the command waits."""
        if self._is_listening:
            self._listen_no_more()
            self._timer = self._loop.call_later(_DROP_PAUSE_S, self._listen)

    def _read(self) -> None:
        """Reads as much as a pipe holds, so that a command with endless output does not block the loop."""
        for _ in range(2):
            try:
                chunk = os.read(self._fd, 65536 if self._left else _DROP_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                self._listen_no_more()
                self._end.set_result(None)
                return
            if not self._left:
                self._listen_later()
                return
            self._chunks.append(chunk[: self._left])
            self._left -= len(self._chunks[-1])
            if not self._left:
                with contextlib.suppress(OSError):  # the user's limit (pipe(7))
                    fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, _DROP_BYTES)

    async def text(self, until: float) -> bytes:
        """The output, once all writers have closed it or at the time `until`. The command has ended, so that all of its
        own output is in the pipe."""
        self._close_writer()
        self._timer.cancel()
        if not self._end.done():
            self._read()
        if not self._end.done():
            self._listen()
            await asyncio.wait((self._end,), timeout=until - self._loop.time())
        return b"".join(self._chunks)

    def _close_writer(self) -> None:
        if self.writer_fd >= 0:
            os.close(self.writer_fd)
            self.writer_fd = -1

    def close(self) -> None:
        self._close_writer()
        self._timer.cancel()
        self._listen_no_more()
        os.close(self._fd)
