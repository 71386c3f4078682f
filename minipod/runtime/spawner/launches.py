"""The spawner's commands in running containers (layer 3): programs of `kernel.launcher`, started and waited for.

The program is started in the host's namespaces, forks itself into the container's and ends; the fork becomes the
command, as the spawner's own child. Its pid is known when its report is read, so its exit may be seen before that.
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

#: (message, descriptors, recipient): an agent that connected later gets no answers to another agent's requests
Send = Callable[[dict[str, Any], list[int], socket.socket], None]


def outcome(reports: bytes) -> tuple[int, tuple[str, int] | None]:
    """The command's pid, 0 where there was no fork; and the failure: message and errno.

    The program reports the pid, and its fork the call that failed, in either order. By then the fork is in the
    container, where a process with SYS_PTRACE may make it write anything: contradictory reports are discarded.
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
    """Whether it is a child of this process that is not reaped yet: until then its pid is not used again."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (ChildProcessError, OverflowError):
        return False
    return True


class _Launch:
    """One command: the request, the agent that sent it, and its progress."""

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
    """All commands that have been launched and have not ended."""

    def __init__(self, poll: select.epoll, send: Send, others: Container[int]) -> None:
        """`others`: pids of the spawner's children that are no command."""
        # The program finds its descriptors at 3 and 4, so no descriptor passed to it may have these numbers.
        held = [open_null()]
        while held[-1] <= _TARGET_FD:
            held.append(os.dup(held[-1]))
        self.null_fd = held[-1]
        self._poll = poll
        self._send = send
        self._others = others
        self._by_report: dict[int, _Launch] = {}
        self._by_pid: dict[int, _Launch] = {}
        self._early: dict[int, dict[str, Any]] = {}  # exits of pids that no report has named yet
        self._ignored: set[int] = set()  # pids whose exit is not reported

    def __bool__(self) -> bool:
        return bool(self._by_report or self._by_pid)

    def begin(self, key: str, request_id: int, named: dict[str, int], *, to_end: bool, agent: socket.socket) -> None:
        """`named`: program, target (a pidfd of the container) and streams; missing streams are /dev/null."""
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
        self._ignored.add(launcher)
        self._by_report[report.fileno()] = _Launch(key, request_id, to_end, agent, report)
        self._poll.register(report.fileno(), select.EPOLLIN)

    def read(self, report_fd: int) -> bool:
        """Reads the descriptor's reports; False where it is not a command's."""
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
        # The end of the report: the command has exec'ed, or failed.
        self._poll.unregister(report_fd)
        launch.report.close()
        del self._by_report[report_fd]
        self._reported(launch)
        close_all(launch.terminal)
        if not self._by_report:
            self._early.clear()  # the rest are orphans that were reparented to the spawner
        return True

    def _reported(self, launch: _Launch) -> None:
        launch.pid, failure = outcome(launch.reports)
        early = self._early.pop(launch.pid, None)
        known = launch.pid in self._others or launch.pid in self._by_pid
        if launch.pid and early is None and (known or not is_child(launch.pid)):
            launch.pid, failure = 0, _NO_REPORT
        if failure is not None:
            if launch.pid and early is None:
                self._ignored.add(launch.pid)
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
            self._report_started(launch)
        if ended and early is not None:
            self._report_exit(launch, early)

    def _report_started(self, launch: _Launch) -> None:
        answer = {"id": launch.request_id, "pid": launch.pid, "started_at_ns": launch.started_at_ns, "facts": {}}
        fds = {"terminal": launch.terminal[0]} if launch.terminal else {}
        if launch.pid in self._by_pid:  # else it is gone, and its pid may be another's
            with contextlib.suppress(OSError):  # no descriptor is free
                fds["pidfd"] = os.pidfd_open(launch.pid)
        self._send({**answer, "fds": list(fds)}, list(fds.values()), launch.agent)
        if "pidfd" in fds:
            os.close(fds["pidfd"])

    def ended(self, pid: int, code: int, number: int) -> None:
        """A child that is not a container's process has been reaped."""
        if pid in self._ignored:
            self._ignored.remove(pid)
            return
        end = {"pid": pid, "code": code, "signal": number, "finished_at_ns": time.time_ns()}
        launch = self._by_pid.pop(pid, None)
        if launch is not None:
            self._report_exit(launch, end)
        elif self._by_report:
            self._early[pid] = end

    def _report_exit(self, launch: _Launch, end: dict[str, Any]) -> None:
        record = {"key": launch.key, "started_at_ns": launch.started_at_ns, **end}
        answer = {"id": launch.request_id, "exit": record} if launch.to_end else {"exit": record}
        self._send(answer, [], launch.agent)

    def kill(self, key: str) -> None:
        """Kill a command, also one that has not started yet. Until it is reaped, its pid is not used again.

        It leads a session: its process group is killed, without processes that made a session or group of their own.
        """
        for launch in (*self._by_report.values(), *self._by_pid.values()):
            if launch.key == key:
                launch.is_unwanted = True
                if launch.pid:
                    os.killpg(launch.pid, signal.SIGKILL)
