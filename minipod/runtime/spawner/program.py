"""The spawner (layer 3): a small program that forks, waits and keeps descriptors. It executes plans, decides nothing.

One thread, few modules, no asyncio. It is the parent and subreaper of every container, writes each end to
`<exits>/<key>` before it reports it, and holds the read ends of stdout and stderr, so that neither dies with the agent.
It ends when it has neither an agent nor a living child, and what the ended ones left is on disk (`evidence`).

Messages are JSON over SOCK_SEQPACKET, descriptors with them; `client` is the other end:

    {"id", "do": "spawn", "key", "clone", "ops", "stdio": "pipes"|"fds"|"terminal", "stdin", "keep", "fds": [names]}
        -> {"id", "pid", "started_at_ns", "facts", "fds": [names]} or {"id", "error": {message, errno, reason, op}}
    {"id", "do": "launch", "key", "to_end", "fds": ["program", "target", stdin, stdout, stderr: those there are]}
        -> as spawn; with `to_end` {"id", "exit": {…}} when it has ended; an error says only that it did not start
    {"id", "do": "kill", "key"} -> {"id"}    a command that was launched
    {"id", "do": "list", "after": key} -> {"id", "children": [{key, pid, started_at_ns, facts, exit}], "more"}
        by key, those that sort after `after`; with `more` there are others after the last one
    {"id", "do": "adopt", "key"} -> as spawn, to an agent that did not ask for it, once it has executed
    {"id", "do": "reattach", "key"} -> {"id", "fds": [names]}
    {"id", "do": "hold", "key", "pid", "started_at_ns", "fds": ["pidfd", those there are]} -> {"id"}
        the child of a spawner that has died: from now on it is this one's, but for its parent
    {"id", "do": "close_stdin", "key"} -> {"id"}    another has the writing end now, alone
    {"id", "do": "forget", "key"} -> {"id"}
    and, whenever a child that was reported as started has ended: {"exit": {key, pid, code, signal, started_at_ns,
        finished_at_ns, known}}, without `known` where it is

Anything else is answered with an error where its id can be read; otherwise the agent is disconnected.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from minipod.errors import ContainerError
from minipod.failpoint import reached
from minipod.kernel import process
from minipod.kernel.memory import give_back
from minipod.kernel.peer import is_own_user
from minipod.plan import cgroup
from minipod.plan.operation import ChildContext, ChildOperation
from minipod.plan.process import entry, kernel_mounts, namespaces, rootfs
from minipod.plan.process import identity as plan_process
from minipod.plan.process.namespaces import Clone, EnterPidNamespace
from minipod.runtime.spawner import PROCESS_NAME
from minipod.runtime.spawner.adopted import Adopted
from minipod.runtime.spawner.child import Child, part_of_list
from minipod.runtime.spawner.evidence import RETRY_S, Evidence
from minipod.runtime.spawner.inbox import BadMessage, Inbox, close_all, receive_report, widen
from minipod.runtime.spawner.launches import STREAMS, Launches, is_child
from minipod.runtime.spawner.messages import DESCRIPTION_LIMIT, encode, error_fields, prepare, report_of, struct_of
from minipod.runtime.spawner.mounts import empty_mount_namespace
from minipod.runtime.spawner.requests import Request, request_of
from minipod.runtime.spawner.stdio import make_stdio

_PAUSE_S = 0.1  # after an accept(2) that failed
_LONELY_S = 10.0  # how long a spawner without children waits for an agent


#: Every operation that a child may have to execute, by its name on the wire. Nothing is imported after the fork.
CHILD_OPERATIONS: dict[str, type[ChildOperation]] = {
    name: kind
    for module in (cgroup, entry, kernel_mounts, namespaces, plan_process, rootfs)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, ChildOperation) and kind is not ChildOperation
}


class Spawner:
    """The loop. All state is here; one agent at a time is connected."""

    def __init__(self, listener: socket.socket, exits: str) -> None:
        self.listener = listener
        self.evidence = Evidence(exits)
        self.agent: socket.socket | None = None
        self.inbox = Inbox()
        self.by_pid: dict[int, Child] = {}
        self.by_key: dict[str, Child] = {}
        self.by_status_fd: dict[int, Child] = {}
        self.mounts_fd = empty_mount_namespace()
        self.last_capability = process.last_capability()
        self.arguments = process.argument_area()
        prepare(Clone, *CHILD_OPERATIONS.values())  # a fault is one of the start, not of the first of its kind
        self.poll = select.epoll()
        self.launches = Launches(self.poll, self._send_to, self.by_pid)
        self.adopted = Adopted(self.poll, self._report_end)
        self.by_key.update({child.key: child for child in self.evidence.saved()})
        self.wakeup, wakeup_writer = socket.socketpair()
        self.wakeup.setblocking(False)
        wakeup_writer.setblocking(False)
        self.wakeup_writer = wakeup_writer
        signal.set_wakeup_fd(wakeup_writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for sock in (self.listener, self.wakeup):
            self.poll.register(sock.fileno(), select.EPOLLIN)

    # --- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until there is neither an agent nor a living child, and nothing that only this process knows."""
        self.deadline = time.monotonic() + _LONELY_S
        while not self._may_leave():
            ended = False
            for fd, _ in self.poll.poll(self._timeout()):
                if fd == self.wakeup.fileno():
                    self.wakeup.recv(4096)  # SIGCHLD: waitid(2) looks at every child, so only when one has ended
                    ended = True
                elif fd == self.listener.fileno():
                    self._accept()
                elif self.agent is not None and fd == self.agent.fileno():
                    self._serve(self.agent)
                    if self.agent is not None:
                        self.deadline = 0.0  # after an agent that has sent a request no other is awaited
                elif fd in self.by_status_fd:
                    self._read_status(self.by_status_fd[fd])
                elif not self.launches.read(fd):
                    self.adopted.read(fd)
            if ended:
                self._reap()
            self.adopted.retry()
            self.evidence.retry()

    def _has_children(self) -> bool:
        return bool(self.by_pid or self.by_status_fd or self.launches or self.adopted)

    def _is_lonely(self) -> bool:
        return self.agent is None and not self._has_children()

    def _may_leave(self) -> bool:
        over = self._is_lonely() and time.monotonic() >= self.deadline
        return over and self.evidence.save(self.by_key.values())

    def _timeout(self) -> float | None:
        """Seconds until something has to be tried again; None: only an event changes anything."""
        if self.adopted.is_pending:
            return process.EXIT_PAUSE_S
        left = self.deadline - time.monotonic()
        if self._is_lonely():
            return left if left > 0 else RETRY_S
        return RETRY_S if self.evidence.unrecorded else None

    def _accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError as error:  # no descriptor is free; the socket stays readable
            print(f"spawner: accept: {error.strerror}", file=sys.stderr, flush=True)
            time.sleep(_PAUSE_S)
            return
        if not is_own_user(connection):
            connection.close()
            return
        if self.agent is not None:
            self._drop_agent()
        widen(connection)
        for child in self.by_key.values():
            if child.exit is not None:
                self.evidence.restore(child)
        self.agent = connection
        self.poll.register(connection.fileno(), select.EPOLLIN)

    def _drop_agent(self) -> None:
        if self.agent is not None:
            self.poll.unregister(self.agent.fileno())
            self.agent.close()
            self.agent = None

    def _serve(self, agent: socket.socket) -> None:
        fds: list[int] = []
        try:
            data, fds = self.inbox.receive(agent)
            if data:
                self._answer(*request_of(data, fds), agent)
            else:
                self._drop_agent()
        except OSError:
            self._drop_agent()
        except BadMessage as error:
            self._refuse(error)
        finally:
            close_all(fds)

    def _refuse(self, error: BadMessage) -> None:
        if error.number is not None:
            self._send({"id": error.number, "error": error_fields(error, "")})
            return
        print(f"spawner: the agent is dropped: {error}"[:DESCRIPTION_LIMIT], file=sys.stderr, flush=True)
        self._drop_agent()

    def _answer(self, request: Request, named: dict[str, int], agent: socket.socket) -> None:
        try:
            if request.do == "launch":
                self.launches.begin(request.key, request.id, named, to_end=request.to_end, agent=agent)
            elif request.do == "spawn":
                self._spawn(request, named, agent)
            elif request.do == "list":
                self._send({"id": request.id, **part_of_list(self.by_key, request.after)})
            elif request.do == "adopt":
                self._adopt(request, agent)
            elif request.do == "reattach":
                self._reattach(request)
            elif request.do == "hold":
                self._hold(request, named)
                self._send({"id": request.id})
            elif request.do == "close_stdin":
                self._close_stdin(request.key)
                self._send({"id": request.id})
            elif request.do == "forget":
                self._forget(request.key)
                self._send({"id": request.id})
            elif request.do == "kill":
                self.launches.kill(request.key)
                self._send({"id": request.id})
        except Exception as error:  # one request must never take the spawner down
            self._send({"id": request.id, "error": error_fields(error, request.do)})

    def _send(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        if self.agent is None:
            return
        try:
            socket.send_fds(self.agent, [encode(message)], fds or [])
        except OSError:
            self._drop_agent()

    def _send_to(self, message: dict[str, Any], fds: list[int], agent: socket.socket | None) -> None:
        if agent is self.agent:
            self._send(message, fds)

    # --- requests --------------------------------------------------------------------------------------------------

    def _adopt(self, request: Request, agent: socket.socket) -> None:
        child = self.by_key.get(request.key)
        if child is None:
            raise ValueError(f"{request.key} is not known")
        child.request_id, child.agent = request.id, agent
        if child.status is None:  # else it is answered when it has executed
            self._report_started(child)

    def _reattach(self, request: Request) -> None:
        child = self.by_key.get(request.key)
        self._send_descriptors({"id": request.id}, child, self.agent)

    def _send_descriptors(self, answer: dict[str, Any], child: Child | None, agent: socket.socket | None) -> None:
        fds = child.descriptors() if child else {}
        self._send_to({**answer, "fds": list(fds)}, list(fds.values()), agent)
        if child is not None and child.is_own and child.status is None:
            child.close_pidfd()

    def _hold(self, request: Request, named: dict[str, int]) -> None:
        """Nothing happens where it is there already."""
        if request.key in self.by_key:
            return
        child = Child.of_another(request.key, request.pid, request.started_at_ns, named)
        self.by_key[request.key] = child
        self.adopted.take(child)

    def _close_stdin(self, key: str) -> None:
        child = self.by_key.get(key)
        if child is not None and "stdin" in child.held:
            os.close(child.held.pop("stdin"))

    def _forget(self, key: str) -> None:
        child = self.by_key.pop(key, None)
        if child is not None:
            self.adopted.drop(child)
            child.close_held()
        self.evidence.forget(key)
        reached("spawner.forgotten")

    def _spawn(self, request: Request, named: dict[str, int], agent: socket.socket) -> None:
        if request.key in self.by_key:
            raise ValueError(f"{request.key} is there already")
        operations = [_operation(value) for value in request.ops]
        if not operations:
            raise ValueError("nothing to execute")
        status, child_status = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            ours, theirs = make_stdio(request, named, self.launches.null_fd)
        except BaseException:
            status.close()
            child_status.close()
            raise
        status.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        passed = {name: fd for name, fd in named.items() if name not in STREAMS}
        if any(isinstance(operation, entry.EnterMounts) for operation in operations):
            passed["mounts"] = self.mounts_fd
        context = ChildContext({**passed, "status": child_status.fileno()})
        context.facts["last_capability"] = self.last_capability

        try:
            pid, pidfd = _clone(
                request.clone, lambda: _child(operations, context, child_status, theirs, self.arguments)
            )
        except BaseException:
            close_all((*ours.values(), *theirs.values()))
            status.close()
            raise
        finally:
            child_status.close()
        reached("spawner.cloned")
        for fd in theirs.values():
            os.close(fd)
        child = Child(request.key, pid, request.id, request.keep)
        child.agent = agent
        child.status, child.held, child.pidfd = status, ours, pidfd
        child.is_born_later = any(isinstance(operation, EnterPidNamespace) for operation in operations)
        status.setblocking(False)
        self.by_pid[pid] = self.by_key[request.key] = self.by_status_fd[status.fileno()] = child
        self.poll.register(status.fileno(), select.EPOLLIN)

    # --- children --------------------------------------------------------------------------------------------------

    def _read_status(self, child: Child) -> None:
        """Reads a child's reports: facts (with the terminal), then a failure or the end, as exec closes the socket."""
        assert child.status is not None
        while True:
            try:
                data, fds, sender = receive_report(child.status)
            except BlockingIOError:
                return
            if not data:
                break
            child.reported = True
            try:
                facts, failure = report_of(data)
            except BadMessage as error:
                fault = ContainerError(f"user, groups and home are longer than 64 KiB: report {error}")
                facts, failure = {}, error_fields(fault, "report")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(sender or child.pid, signal.SIGKILL)
            child.facts = facts or child.facts
            child.failure = failure or child.failure
            if child.failure is None and sender != child.pid:
                self._born(child, sender)
            if fds and "terminal" not in child.held:
                child.held["terminal"] = fds.pop(0)
            close_all(fds)
        self.poll.unregister(child.status.fileno())
        del self.by_status_fd[child.status.fileno()]
        child.status.close()
        child.status = None
        if not child.reported:
            child.failure = {"message": "killed before exec", "errno": 0, "reason": "", "op": ""}
        if child.failure is not None:
            self.by_key.pop(child.key, None)
            child.close_held()
            self._send_to({"id": child.request_id, "error": child.failure}, [], child.agent)
            return
        child.started_at_ns = time.time_ns()
        reached("spawner.started")
        self._report_started(child)
        reached("spawner.answered")
        if not child.keep:
            child.close_held()

    def _report_started(self, child: Child) -> None:
        self._send_descriptors({"id": child.request_id, **child.fields()}, child, child.agent)

    def _born(self, child: Child, pid: int) -> None:
        """From now on it is the clone in the PID namespace, not the process that prepared it. It is not reaped yet."""
        if not child.is_born_later or pid in self.by_pid or not is_child(pid):
            # in a shared PID namespace a process with SYS_PTRACE may report in its place
            child.failure = {"message": "another process reports for it", "errno": 0, "reason": "", "op": ""}
            return
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:  # no descriptor is free
            os.kill(pid, signal.SIGKILL)
            child.failure = error_fields(error, "pidfd_open")
            return
        self.by_pid.pop(child.pid, None)
        child.pid, child.is_born_later = pid, False
        self.by_pid[pid] = child
        child.close_pidfd()
        child.pidfd = pidfd

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None:
                    return
                for child in [child for child in self.by_status_fd.values() if child.is_born_later]:
                    self._read_status(child)  # whose end this is may have been reported just now
                os.waitid(os.P_PID, ended.si_pid, os.WEXITED)
            except ChildProcessError:
                return
            status = ended.si_status
            code, number = (status, 0) if ended.si_code == os.CLD_EXITED else (128 + status, status)
            found = self.by_pid.pop(ended.si_pid, None)
            if found is not None:
                self._ended(found, ended.si_pid, code, number)
            else:  # a command that was launched, or an orphan that was reparented to us
                self.launches.ended(ended.si_pid, code, number)

    def _ended(self, child: Child, pid: int, code: int, number: int) -> None:
        if child.status is not None:
            self._read_status(child)
        if child.failure is not None or child.is_born_later or child.pid != pid:
            return
        child.end(code, number, time.time_ns())
        reached("spawner.reaped")
        self._report_end(child)

    def _report_end(self, child: Child) -> None:
        if child.keep:
            self.evidence.record(child)
            reached("spawner.recorded")
        else:
            self.by_key.pop(child.key, None)
        self._send({"exit": child.exit})
        reached("spawner.exit-reported")


def _clone(clone: Clone, child: Callable[[], NoReturn]) -> tuple[int, int]:
    flags = 0
    for kind in clone.namespaces:
        flags |= process.NAMESPACE_FLAGS[kind]
    cgroup_fd = os.open(clone.cgroup2, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if clone.cgroup2 else -1
    try:
        pid, pidfd = process.clone3(flags, cgroup_fd)
        if pid == 0:
            child()  # right here: no `finally` of the parent's may run in the child
        return pid, pidfd
    finally:
        if cgroup_fd >= 0:
            os.close(cgroup_fd)


def _operation(value: Any) -> ChildOperation:
    """Raises ValueError."""
    kind = CHILD_OPERATIONS.get(str(value.get("op"))) if type(value) is dict else None
    if kind is None:
        raise ValueError(f"unknown operation {str(value)[:DESCRIPTION_LIMIT]}")
    return struct_of(kind, value)


def _child(
    operations: list[ChildOperation],
    context: ChildContext,
    status: socket.socket,
    stdio: dict[str, int],
    arguments: tuple[int, int],
) -> NoReturn:
    """The whole life of the child until exec; never returns."""
    doing, described = "stdio", None
    try:
        process.erase(arguments)  # in a shared PID namespace its command line would reveal the host's
        for number, name in enumerate(STREAMS):
            os.dup2(stdio[name], number, inheritable=True)
        for operation in operations[:-1]:
            # the error of exec names the program alone
            doing, described = type(operation).__name__, None if operation.phase == "exec" else operation.describe
            operation.execute(context)
        doing, described = type(operations[-1]).__name__, None
        terminal = [context.fds["terminal"]] if "terminal" in context.fds else []
        socket.send_fds(status, [encode({"facts": context.facts})], terminal)
        operations[-1].execute(context)
    except BaseException as error:
        try:
            status.send(encode({"error": error_fields(error, doing, described)}))
        except BaseException:
            pass
    finally:
        os._exit(127)


def main(listener_fd: int, exits: str) -> None:
    """The program. `listener_fd`: the listening socket, made by the agent so that it can connect at once."""
    os.dup2(listener_fd, 3)
    os.closerange(4, 256)
    os.setsid()
    os.chdir("/")
    process.set_name(PROCESS_NAME)
    process.set_dumpable(False)
    process.set_child_subreaper()
    process.reset_internal_signals()
    most = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(
        resource.RLIMIT_DATA, (most, most)
    )  # the agent that starts a spawner may have a limit of its own
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it exits when it has no child left
    spawner = Spawner(socket.socket(fileno=os.dup(3)), exits)
    os.close(3)
    gc.collect()
    gc.freeze()
    gc.disable()
    give_back()
    spawner.run()
