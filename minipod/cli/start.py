"""Starts the node agent in the background (layer 6). Only imported where none answers."""

from __future__ import annotations

import _socket
import contextlib
import os
import select
import signal
import sys
import time

from minipod.cli.patience import patience
from minipod.cli.trouble import problem
from minipod.cli.values import TYPE_CHECKING
from minipod.errors import AgentError, HostError
from minipod.paths import DATA_DIR_OPTIONS, RUN_DIR_OPTIONS

if TYPE_CHECKING:
    from minipod.paths import Paths

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_EXIT_S = 60.0  # actions that are under way come to their end first
_RESTART_S = 20.0  # of a service: RestartSec= of its unit, and what an agent takes to recover its pods
_LOOK_S = 0.1

#: dispositions and masks survive exec: the agent begins with the default ones, and sets all else that it has from
#: its caller by itself (`agent.inheritance`)
DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


def start_agent(paths: Paths, config: str | None) -> None:
    """Start an agent and return when one answers. Raises AgentError with the agent's reason, HostError.

    Two callers at once start two: agent.lock decides which of them stays.
    """
    try:
        _make_root(paths.root)
    except OSError as error:
        raise _cannot_start(paths, error) from None
    _run_to_ready(paths, config, "--auto")


def check_start(paths: Paths, config: str | None) -> None:
    """Return when an agent of this version could take the place of a running one. Raises as `start_agent`."""
    _run_to_ready(paths, config, "--check")


def wait_gone(pid: int) -> None:
    """Returns when that process has ended. Raises AgentError where it does not."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with patience.during("it exits"):
            if not select.select([pidfd], [], [], _EXIT_S)[0]:
                raise AgentError(f"agent {pid} was asked to exit and has not in {_EXIT_S:.0f} s")
    finally:
        os.close(pidfd)


def wait_restarted(paths: Paths, pid: int) -> None:
    """Return when a service manager has started another agent after `pid`, or has not for a while."""
    deadline = time.monotonic() + _RESTART_S
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        select.select([pidfd], [], [], _RESTART_S)
        os.close(pidfd)
    while not _listens(paths.agent_socket) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)


def _listens(path: str) -> bool:
    sock = _socket.socket(_socket.AF_UNIX)
    try:
        return sock.connect_ex(path) == 0
    finally:
        sock.close()


def _run_to_ready(paths: Paths, config: str | None, *options: str) -> None:
    try:
        message = _spawn(paths, config, *options)
    except OSError as error:
        raise _cannot_start(paths, error) from None
    if message != "ready":
        raise AgentError(message or f"the agent ended before it was ready; see {paths.root}/agent.log")


def _cannot_start(paths: Paths, error: OSError) -> HostError:
    where = error.filename or paths.root
    return HostError(f"cannot start the agent: {problem(error, where)}")


def _make_root(root: str) -> None:
    """The mode must not depend on the caller's umask; the agent repairs that of a directory that exists."""
    if not os.path.isdir(root):
        os.makedirs(root, mode=0o711, exist_ok=True)
        os.chmod(root, 0o711)


def agent_command(paths: Paths, config: str | None, *more: str) -> list[str]:
    """The command line of an agent for these paths, isolated as this interpreter is."""
    program = os.path.join(_PACKAGE, "serve", "__main__.py")  # the file: -m would import runpy first, 5 ms
    command = [sys.executable, "-I" if sys.flags.isolated else "-P"]
    command += ["-B", program] if sys.dont_write_bytecode else [program]
    command += [RUN_DIR_OPTIONS[0], paths.root, DATA_DIR_OPTIONS[0], paths.state]
    if config:
        command += ["--config", os.path.abspath(config)]
    return command + list(more)


def agent_environment() -> dict[str, str]:
    """What of the caller's is a setting; without isolation also the way to this very package."""
    from minipod.agent.environment import kept_environment

    environment = kept_environment(os.environ)
    if not sys.flags.isolated:
        environment["PYTHONPATH"] = os.path.dirname(_PACKAGE)
    return environment


def _spawn(paths: Paths, config: str | None, *options: str) -> str:
    """Run the agent detached; its first line on the ready descriptor, empty when it died without one."""
    ready_fd, child_fd = os.pipe()
    log_fd = os.open(f"{paths.root}/agent.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    back_fd = os.open(".", os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
    os.set_inheritable(child_fd, True)
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, log_fd, 1),
        (os.POSIX_SPAWN_DUP2, log_fd, 2),
    ]
    command = agent_command(paths, config, *options, "--ready-fd", str(child_fd))
    try:
        os.chdir("/")  # the agent must not keep the caller's directory busy; spawn cannot change it for the child alone
        os.posix_spawn(
            command[0],
            command,
            agent_environment(),
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=DEFAULT_SIGNALS,
        )
    finally:
        os.fchdir(back_fd)
        os.close(back_fd)
        os.close(child_fd)
        os.close(log_fd)
    with open(ready_fd, "rb") as ready:
        return ready.readline().decode(errors="replace").strip()


def last_logged(paths: Paths) -> str:
    """The last line of the agent's log: what an agent waits for that is not ready yet."""
    path = f"{paths.root}/agent.log"
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        lines = []
    found = [line for line in lines if line.strip()]
    return f"{path} ends with: {found[-1]}" if found else f"{path} is empty"
