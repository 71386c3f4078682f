"""The spawner's commands in running containers (layer 3): programs of `kernel.launcher`, started and waited for.

The program is started in the host's namespaces, forks itself into the container's and ends; the fork becomes the
command, as the spawner's own child. Until its report is read nobody knows its pid, so an end may come before.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Container
from typing import Any

from minipod.kernel.launcher import REPORT, REPORT_FD, index_of
from minipod.kernel.null import open_null
from minipod.runtime.spawner.inbox import close_all, receive_report

STREAMS = ("stdin", "stdout", "stderr")
#: what the spawner and Python ignore, exec would hand on
_TO_DEFAULT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
_NAME = ["exec"]  # its command line until it executes the command
_TARGET_FD = REPORT_FD + 1
_REPORTS_MAX = 4 * REPORT.size
_MAX_ERRNO = 4095  # of the kernel
_NO_REPORT = ("what it reports is not of this command", errno.EPROTO)

#: (message, descriptors, to whom): an agent that came later is told nothing of another's requests
Send = Callable[[dict[str, Any], list[int], socket.socket], None]


def outcome(reports: bytes) -> tuple[int, tuple[str, int] | None]:
    """The command's pid, 0 where there was no fork; and what failed: message and errno.

    The program tells the pid and its fork what it failed at, in whatever order the two come to it. The fork is in the
    container by then, where one with SYS_PTRACE may have it write anything: what disagrees is believed in nothing.
    """
    if len(reports) % REPORT.size or len(reports) > _REPORTS_MAX:
        return 0, _NO_REPORT
    results = dict(REPORT.iter_unpack(reports))
    pids = {result for result in results if result > 0}
    failure: tuple[str, int] | None = None
    for result, place in results.items():
        if -result > _MAX_ERRNO:
            return 0, _NO_REPORT
        if result <= 0:
            failure = f"call {index_of(place)}: {os.strerror(-result)}", -result
    if len(pids) > 1:
        return 0, _NO_REPORT
    pid = pids.pop() if pids else 0
    return pid, failure if pid or failure else ("killed before exec", 0)


def is_child(pid: int) -> bool:
    """Of this process, and not reaped yet: until then its pid is nobody else's."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (ChildProcessError, OverflowError):
        return False
    return True


class _Launch:
    """One command: what was asked by whom, and how far it is."""

    def __init__(self, key: str, request_id: int, to_end: bool, agent: socket.socket, report: socket.socket) -> None:
        self.report = report  # open until it has exec'ed or failed
        self.terminal: list[int] = []  # the master of its pty, where it has one
        self.key = key
        self.request_id = request_id
        self.to_end = to_end
        self.agent = agent
        self.began_at_ns = time.time_ns()
        self.started_at_ns = 0
        self.pid = 0
        self.reports = b""
        self.is_unwanted = False


class Launches:
    """All that are under way."""

    def __init__(self, poll: select.epoll, send: Send, others: Container[int]) -> None:
        """`others`: pids of the spawner's children that are no command."""
        # The program finds its descriptors at 3 and 4, so nothing that is handed to it may ever be there.
        held = [open_null()]
        while held[-1] <= _TARGET_FD:
            held.append(os.dup(held[-1]))
        self.null_fd = held[-1]
        self._poll = poll
        self._send = send
        self._others = others
        self._by_report: dict[int, _Launch] = {}
        self._by_pid: dict[int, _Launch] = {}
        self._early: dict[int, dict[str, Any]] = {}  # ends whose pid nobody has told yet
        self._nobodys: set[int] = set()  # pids whose end is of no interest

    def __bool__(self) -> bool:
        return bool(self._by_report or self._by_pid)

    def begin(self, key: str, request_id: int, named: dict[str, int], *, to_end: bool, agent: socket.socket) -> None:
        """`named`: program, target (a pidfd of the container) and streams; what nobody gave is /dev/null."""
        report, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        report.setblocking(False)
        streams = [named.get(name, self.null_fd) for name in STREAMS]
        sources = (*streams, theirs.fileno(), named["target"])
        try:
            launcher = os.posix_spawn(
                f"/proc/self/fd/{named['program']}",
                _NAME,
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(sources)],
                setsigdef=_TO_DEFAULT,
                setsigmask=(),
            )
        except BaseException:
            report.close()
            raise
        finally:
            theirs.close()
        self._nobodys.add(launcher)
        self._by_report[report.fileno()] = _Launch(key, request_id, to_end, agent, report)
        self._poll.register(report.fileno(), select.EPOLLIN)

    def read(self, report_fd: int) -> bool:
        """What came on this descriptor; False where it is not one of a command."""
        launch = self._by_report.get(report_fd)
        if launch is None:
            return False
        while True:
            try:
                data, fds, _ = receive_report(launch.report)
            except BlockingIOError:
                return True
            launch.terminal += fds
            launch.reports += b"" if fds else data
            if not data or len(launch.reports) > _REPORTS_MAX or len(launch.terminal) > 1:
                break
        # The end of the report: it has exec'ed, or failed.
        self._poll.unregister(report_fd)
        launch.report.close()
        del self._by_report[report_fd]
        self._reported(launch)
        close_all(launch.terminal)
        if not self._by_report:
            self._early.clear()  # what is left is none of ours: orphans that were reparented
        return True

    def _reported(self, launch: _Launch) -> None:
        launch.pid, failure = outcome(launch.reports)
        early = self._early.pop(launch.pid, None)
        known = launch.pid in self._others or launch.pid in self._by_pid
        if launch.pid and early is None and (known or not is_child(launch.pid)):
            launch.pid, failure = 0, _NO_REPORT
        if failure is not None:
            if launch.pid and early is None:
                self._nobodys.add(launch.pid)
            message, number = failure
            error = {"message": message, "errno": number, "reason": "", "op": "launch"}
            self._send({"id": launch.request_id, "error": error}, [], launch.agent)
            return
        launch.started_at_ns = time.time_ns()
        ended = early is not None and early["finished_at_ns"] >= launch.began_at_ns
        if not ended:
            self._by_pid[launch.pid] = launch
            if launch.is_unwanted:
                os.killpg(launch.pid, signal.SIGKILL)
        if not launch.to_end:
            self._tell_started(launch)
        if ended and early is not None:
            self._tell_end(launch, early)

    def _tell_started(self, launch: _Launch) -> None:
        answer = {"id": launch.request_id, "pid": launch.pid, "started_at_ns": launch.started_at_ns, "facts": {}}
        fds = {"terminal": launch.terminal[0]} if launch.terminal else {}
        if launch.pid in self._by_pid:  # else it is gone, and its pid may be another's
            with contextlib.suppress(OSError):  # no descriptor is free
                fds["pidfd"] = os.pidfd_open(launch.pid)
        self._send({**answer, "fds": list(fds)}, list(fds.values()), launch.agent)
        if "pidfd" in fds:
            os.close(fds["pidfd"])

    def ended(self, pid: int, code: int, number: int) -> None:
        """A child that is none of the spawner's containers has been reaped."""
        if pid in self._nobodys:
            self._nobodys.remove(pid)
            return
        end = {"pid": pid, "code": code, "signal": number, "finished_at_ns": time.time_ns()}
        launch = self._by_pid.pop(pid, None)
        if launch is not None:
            self._tell_end(launch, end)
        elif self._by_report:
            self._early[pid] = end

    def _tell_end(self, launch: _Launch, end: dict[str, Any]) -> None:
        told = {"key": launch.key, "started_at_ns": launch.started_at_ns, **end}
        answer = {"id": launch.request_id, "exit": told} if launch.to_end else {"exit": told}
        self._send(answer, [], launch.agent)

    def kill(self, key: str) -> None:
        """A command that may not have been started yet. Until it is reaped, its pid is its own.

        It leads a session: what it has started goes with it, but for what has made a session or group of its own.
        """
        for launch in (*self._by_report.values(), *self._by_pid.values()):
            if launch.key == key:
                launch.is_unwanted = True
                if launch.pid:
                    os.killpg(launch.pid, signal.SIGKILL)
