"""A service's agent takes the place of one that a command has started in the background (layer 7).

That agent would exit only after its last pod, and the service would fail until then. Its pods keep running.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket

from minipod import __version__
from minipod.errors import HostError, UsageError
from minipod.paths import Paths
from minipod.serve import lock

TRIES = 5  # a command may start another one as soon as the first has gone
ANSWER_S = 10.0
EXIT_S = 60.0  # actions that are under way come to their end first


def acquire(paths: Paths, schema: int, *, is_activated: bool = False) -> lock.AgentLock:
    """The locks, once the agent that has them has gone. `schema`: the newest format of the state that we read.
    `is_activated`: the control socket is ours already, so that agent is asked by SIGTERM, which means the same.

    Raises UsageError where that agent is a service's as well, and HostError where it does not go.
    """
    for _ in range(TRIES):
        held = lock.acquire(paths)
        if held is not None:
            return held
        pid = lock.holder(paths)
        if not started_by_command(pid):
            raise UsageError(
                f"{paths.root}: another agent already serves it, process {pid}, which no command started: end that one "
                "first (minipod agent stop; its pods keep running)"
            )
        _ask_to_exit(paths, pid, schema, is_activated)
    raise HostError(f"{paths.root}: commands keep starting agents of their own")


def started_by_command(pid: int) -> bool:
    """Whether a process is an agent in the background; true for one that has gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            line = file.read()
    except OSError:
        return True
    return not line or b"--auto" in line.split(b"\0")


def _ask_to_exit(paths: Paths, pid: int, schema: int, is_activated: bool) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if is_activated:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        elif "error" in (answer := _shutdown(paths.agent_socket, schema)):
            raise HostError(str(answer["error"].get("message")))
        if not select.select([pidfd], [], [], EXIT_S)[0]:
            raise HostError(f"{paths.root}: agent {pid} was asked to exit and has not in {EXIT_S:.0f} s")
    finally:
        os.close(pidfd)


def _shutdown(path: str, schema: int) -> dict[str, dict[str, str]]:
    """The answer; empty where the agent was exiting already."""
    with contextlib.suppress(ConnectionError, FileNotFoundError), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(ANSWER_S)
        sock.connect(path)
        sock.sendall(json.dumps({"verb": "shutdown", "version": __version__, "schema": schema}).encode() + b"\n")
        with sock.makefile("rb") as lines:
            answer: dict[str, dict[str, str]] = json.loads(lines.readline() or b"{}")
            return answer
    return {}
