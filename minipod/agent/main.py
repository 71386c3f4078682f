"""The node agent's start and end (layer 5): options, lock, spawner, then everything else.

What it has from its caller is set first: whatever is made or started afterwards has it from here. Then
the order is for a cold `minipod run`: the lock and the spawner's process come first, so that the spawner's own
start-up overlaps with this process importing what is heavy (asyncio, the API's types, netlink).
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from minipod.errors import MinipodError, UsageError
from minipod.paths import Paths

USAGE = "minipod agent [--root DIR] [--state DIR] [--config FILE] [--auto] [--ready-fd N]"


class Options:
    """What the command line said. `auto`: leave when there has been no pod for a while."""

    __slots__ = ("auto", "config", "paths", "ready_fd")

    def __init__(self, paths: Paths, config: str | None, auto: bool, ready_fd: int) -> None:
        self.paths = paths
        self.config = config
        self.auto = auto
        self.ready_fd = ready_fd


def parse(arguments: Sequence[str]) -> Options:
    """Raises UsageError. By hand: argparse would cost a cold start 10 ms."""
    values: dict[str, str] = {}
    auto = False
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument == "--auto":
            auto = True
        elif name in ("--root", "--state", "--config", "--ready-fd"):
            given = value if equals else next(rest, None)
            if given is None:
                raise UsageError(f"{name}: needs a value: {USAGE}")
            values[name] = given
        else:
            raise UsageError(f"unknown option {argument}: {USAGE}")
    ready = values.get("--ready-fd", "-1")
    if not ready.lstrip("-").isascii() or not ready.lstrip("-").isdigit():
        raise UsageError(f"--ready-fd {ready}: not a descriptor's number")
    paths = Paths.from_env(values.get("--root"), values.get("--state"))
    return Options(paths, values.get("--config"), auto, int(ready))


def main(arguments: Sequence[str]) -> int:
    """Runs the agent until it leaves. Returns its exit status; every failure is one line on stderr and `ready_fd`."""
    ready_fd = -1
    try:
        options = parse(arguments)
        ready_fd = options.ready_fd
        return _run(options)
    except MinipodError as error:
        _tell(ready_fd, str(error))
        print(f"minipod agent: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        message = f"{error.filename or 'agent'}: {(error.strerror or str(error)).lower()}"
        _tell(ready_fd, message)
        print(f"minipod agent: {message}", file=sys.stderr)
        return 3
    except Exception as error:
        _tell(ready_fd, f"internal error: {type(error).__name__}: {error}: see agent.log")
        raise


def _run(options: Options) -> int:
    from minipod.agent import lock, start
    from minipod.agent.inheritance import limit_own_memory, take_over

    start.check_rights(options.paths)
    notes = take_over(options.ready_fd)
    notes += start.check_host(options.paths)
    held = lock.acquire(options.paths)
    if held is None:
        if not options.auto:
            raise UsageError(f"{options.paths.root}: another agent already serves it: end that one first")
        _tell(options.ready_fd, "ready")
        return 0
    try:
        start.begin_spawner(options.paths)
        limit_own_memory()
        gc.disable()  # imports make thousands of objects and no garbage
        from minipod.agent.service import serve

        def ready() -> None:
            gc.freeze()
            gc.enable()
            held.started()
            _tell(options.ready_fd, "ready")

        return serve(options, ready, notes)
    finally:
        held.release()


def _tell(ready_fd: int, line: str) -> None:
    """One line to whoever started us; it is no error when nobody waits any more."""
    if ready_fd < 0:
        return
    try:
        os.write(ready_fd, line.encode() + b"\n")
        os.close(ready_fd)
    except OSError:
        pass
