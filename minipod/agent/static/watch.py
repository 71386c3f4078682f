"""Notices changes in the directory of static pods (layer 5): inotify where that is there, time for all else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os

from minipod.kernel import inotify
from minipod.kernel.inotify import Inotify

log = logging.getLogger("minipod.agent")

POLL_S = 20.0  # the kubelet's fileCheckFrequency: links, mounts, a directory that is made later
SOON_S = 2.0  # where a file was still being written
QUIET_S = 0.1  # what changes together is looked at together

_WRITTEN = inotify.IN_MODIFY | inotify.IN_CREATE
_WHOLE = inotify.IN_CLOSE_WRITE | inotify.IN_MOVED_TO | inotify.IN_MOVED_FROM | inotify.IN_DELETE
_MASK = _WRITTEN | _WHOLE | inotify.IN_ATTRIB | inotify.IN_DELETE_SELF | inotify.IN_MOVE_SELF | inotify.IN_ONLYDIR


class Watch:
    """A context manager. `unfinished`: names that were written to and not closed since."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._inotify: Inotify | None = None
        self._complaint = ""
        self.unfinished: set[str] = set()

    def __enter__(self) -> Watch:
        try:
            self._inotify = Inotify()
        except OSError as error:
            self._complain(error)
        else:
            self._loop.add_reader(self._inotify.fileno(), self._take)
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()

    def follow(self) -> None:
        """Watches what is at the path now. Called before each look: another directory may have been put there."""
        if self._inotify is None:
            return
        try:
            self._inotify.add_watch(self._path, _MASK)
        except FileNotFoundError:
            return
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        if str(error) != self._complaint:
            self._complaint = str(error)
            log.warning("static pods: %s: changes are seen within %.0f s only: %s", self._path, POLL_S, error.strerror)

    def look_again(self) -> None:
        """Something else than a file has changed: a pod has ended."""
        self._changed.set()

    async def changed(self, soon: bool) -> None:
        """Returns when there may be something to do."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), SOON_S if soon else POLL_S)
            await asyncio.sleep(QUIET_S)
        self._changed.clear()

    def _take(self) -> None:
        assert self._inotify is not None
        for event in self._inotify.read():
            self._note(event.mask, event.name)
        self._changed.set()

    def _note(self, mask: int, name: str) -> None:
        if mask & inotify.IN_Q_OVERFLOW:
            self.unfinished.clear()
        elif mask & _WHOLE:
            self.unfinished.discard(name)
        elif mask & _WRITTEN and name:
            self.unfinished.add(os.path.basename(name))
