"""What an ended child leaves (layer 3): its exit record and unread output, on disk before the spawner ends.

    <exits>/<key>           its facts and how it ended (JSON), from its end until an agent has saved it
    <exits>/<key>.stdout    output that no agent has read, from the end of the spawner to the start of the next
    <exits>/<key>.stderr

Output comes back into pipes, so that an agent reads it as that of any other child. What cannot be written now (a full
/run) stays in memory and in the pipes, and is tried again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import sys
from collections.abc import Iterable, Iterator

from minipod.runtime.spawner.child import Child
from minipod.runtime.spawner.messages import encode

RETRY_S = 2.0
_OUTPUT = ("stdout", "stderr")
_PIECE = 64 << 10
_NONBLOCK = 2  # SPLICE_F_NONBLOCK (splice(2))


class Evidence:
    """The directory `exits`."""

    def __init__(self, exits: str) -> None:
        self._exits = exits
        self.unrecorded: dict[str, Child] = {}  # whose exit is not on disk yet

    def record(self, child: Child) -> bool:
        """Write its exit; False where that failed, which is logged once."""
        path = f"{self._exits}/{child.key}"
        try:
            with open(path + ".new", "wb") as file:
                file.write(encode({**(child.exit or {}), "facts": child.facts}))
            os.rename(path + ".new", path)
        except OSError as error:
            if child.key not in self.unrecorded:
                _log(f"exit record {child.key}: {error.strerror}: tried again every {RETRY_S:.0f} s")
            self.unrecorded[child.key] = child
            with contextlib.suppress(OSError):
                os.unlink(path + ".new")
            return False
        self.unrecorded.pop(child.key, None)
        return True

    def retry(self) -> bool:
        """Write the exits that are not on disk yet; False where some still are not."""
        return all(self.record(child) for child in tuple(self.unrecorded.values()))

    def forget(self, key: str) -> None:
        self.unrecorded.pop(key, None)
        for name in (key, *(f"{key}.{stream}" for stream in _OUTPUT)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._exits}/{name}")

    # --- output ------------------------------------------------------------------------------------------------------

    def save(self, children: Iterable[Child]) -> bool:
        """Whether everything of them is on disk; False while one lives, has a writer, or the disk is full."""
        return self.retry() and all(child.exit is not None and self._save_output(child) for child in children)

    def _save_output(self, child: Child) -> bool:
        if "terminal" in child.held:
            _drain_terminal(child)
        for name in _OUTPUT:
            if name in child.held:
                if not _has_ended(child.held[name]):
                    return False
                try:
                    _splice_to_file(child.held[name], f"{self._exits}/{child.key}.{name}")
                except OSError as error:
                    _log(f"output of {child.key}: {error.strerror}: it stays in its pipe")
                    return False
                os.close(child.held.pop(name))
        return True

    def saved(self) -> Iterator[Child]:
        """The ended children whose output an earlier spawner has saved, with pipes that hold it."""
        keys = {name.rpartition(".")[0] for name in os.listdir(self._exits) if name.endswith((".stdout", ".stderr"))}
        for key in sorted(keys):
            child = self._recorded(key)
            if child is not None:
                self.restore(child)
                yield child

    def restore(self, child: Child) -> None:
        """Its saved output is in pipes again. A file that does not fit is left for the next spawner."""
        for name in _OUTPUT:
            path = f"{self._exits}/{child.key}.{name}"
            try:
                child.held[name] = _pipe_of(path)
                os.unlink(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                _log(f"output of {child.key}: {error.strerror}: it stays in {path}")

    def _recorded(self, key: str) -> Child | None:
        try:
            with open(f"{self._exits}/{key}", "rb") as file:
                found = json.loads(file.read())
            child = Child(key, found["pid"])
            child.started_at_ns, child.facts = found["started_at_ns"], found.get("facts", {})
            child.end(found["code"], found["signal"], found["finished_at_ns"], found.get("known", True))
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log(f"exit record {key}: {error}")
            return None
        return child


def _has_ended(pipe_fd: int) -> bool:
    """Whether no process can write into it any more."""
    poll = select.poll()
    poll.register(pipe_fd, 0)  # POLLHUP is always reported (poll(2))
    return bool(poll.poll(0))


def _splice_to_file(pipe_fd: int, path: str) -> None:
    """Move all that is in the pipe to the end of the file; what could not be written stays in the pipe."""
    file_fd = -1
    try:
        while True:
            if file_fd < 0:
                poll = select.poll()
                poll.register(pipe_fd, select.POLLIN)
                if not any(events & select.POLLIN for _, events in poll.poll(0)):
                    return  # empty: no file
                file_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                os.lseek(file_fd, 0, os.SEEK_END)  # splice(2) takes no O_APPEND
            if os.splice(pipe_fd, file_fd, _PIECE, flags=_NONBLOCK) == 0:
                return
    finally:
        if file_fd >= 0:
            os.close(file_fd)


def _pipe_of(path: str) -> int:
    """The reading end of a pipe with the file's contents and no writer. Raises OSError: EAGAIN where it is too long."""
    with open(path, "rb") as file:
        left = memoryview(file.read())
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if len(left) > fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, len(left))
        while left:
            left = left[os.write(writer, left) :]
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    os.set_blocking(reader, True)
    return reader


def _drain_terminal(child: Child) -> None:
    """What is left in an ended child's terminal moves into a pipe of its own: a terminal cannot be spliced."""
    terminal = child.held.pop("terminal")
    child.held["stdout"], writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(terminal, False)
    os.set_blocking(writer, False)
    with contextlib.suppress(OSError):  # EIO: its last user is gone; EAGAIN: it has no more
        while chunk := os.read(terminal, _PIECE):
            os.write(writer, chunk)
    os.close(terminal)
    os.close(writer)


def _log(text: str) -> None:
    print(f"spawner: {text}", file=sys.stderr, flush=True)
