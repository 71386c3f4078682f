"""Starts the node agent (layer 7): options, lock, spawner, then everything else.

What the process inherited from its caller is reset first, because all that it creates later inherits it in turn. After
that the order serves a cold `minipod run`: the lock and the spawner's process come first, so that the spawner starts
while this process imports its large modules (asyncio, the API's types, netlink).
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from minipod.errors import FAILURE, MinipodError
from minipod.failpoint import reached
from minipod.serve.options import Options, parse


def main(arguments: Sequence[str]) -> int:
    """Runs the agent until it exits. Returns its exit status; a failure is one line on stderr and on `ready_fd`."""
    options = None
    try:
        options = parse(arguments)
        return _run(options)
    except MinipodError as error:
        _notify(options, str(error))
        print(f"minipod agent: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        from minipod.kernel.error_text import text_of

        message = text_of(error) if error.filename else f"agent: {text_of(error)}"
        _notify(options, message)
        print(f"minipod agent: {message}", file=sys.stderr)
        return FAILURE
    except MemoryError:
        message = "not enough memory to start the agent: free some, or start it without ulimit -v and ulimit -d"
        _notify(options, message)
        print(f"minipod agent: {message}", file=sys.stderr)
        return FAILURE
    except Exception as error:
        _notify(options, f"internal error: {type(error).__name__}: {error}: see agent.log")
        raise


def _run(options: Options) -> int:
    from minipod.agent.inheritance import limit_own_memory, take_over
    from minipod.kernel.memory import one_arena
    from minipod.kernel.sd_notify import ServiceManager
    from minipod.serve import lock, start, takeover
    from minipod.serve.late import lean_imports

    start.check_rights(options.paths)
    one_arena()
    manager = ServiceManager() if options.auto else ServiceManager.of_this_process()
    notes = take_over(options.ready_fd, *(passed.fd for passed in (*manager.stored, *manager.sockets)))
    if options.ready_fd >= 0:
        os.set_inheritable(options.ready_fd, False)  # an open copy in the spawner would keep the caller waiting
    notes += start.check_host(options.paths)
    if options.check:
        _check(options)
        _notify(options, "ready")
        return 0
    held = lock.acquire(options.paths)
    if held is None:
        if options.auto:
            _notify(options, "ready")
            return 0
        held = takeover.acquire(options.paths, _check(options), is_activated=bool(manager.sockets))
    try:
        reached("agent.locked")
        start.begin_spawner(options.paths)
        reached("agent.spawner-begun")
        limit_own_memory()
        gc.disable()  # imports allocate thousands of objects and no garbage
        with lean_imports():
            from minipod.serve.service import serve

        def ready() -> None:
            gc.freeze()
            gc.enable()
            held.started()
            _notify(options, "ready")

        return serve(options, ready, notes, manager)
    finally:
        held.release()


def _check(options: Options) -> int:
    """Before another agent is asked to exit: whether this one could take its place. Returns the newest format of the
    state that it reads. Raises MinipodError.
    """
    from minipod.agent.registry import schema
    from minipod.config import load_config

    load_config(options.config)
    schema.check(f"{options.paths.state}/minipod.db")
    return schema.SCHEMA_VERSION


def _notify(options: Options | None, line: str) -> None:
    """Writes one line to the process that started this one. No error if that process is gone.

    Once only, as it closes `ready_fd`: whatever is opened next has its number, a container's log for instance.
    """
    if options is None or options.ready_fd < 0:
        return
    ready_fd, options.ready_fd = options.ready_fd, -1
    try:
        os.write(ready_fd, line.encode() + b"\n")
        os.close(ready_fd)
    except OSError:
        pass
