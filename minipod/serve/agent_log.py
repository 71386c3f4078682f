"""The agent's own log (layer 7): a record is one line on stderr; the size of the file behind it is bounded."""

from __future__ import annotations

import logging
import os
import stat
import sys

from minipod.terminal import escaped, one_line

MAX_BYTES = 4 << 20
KEPT_BYTES = 1 << 20  # what is kept of a log that was too long: its end


class AgentLog(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to stderr. Where that is a file (`<run-dir>/agent.log`) longer than MAX_BYTES, it is cut to its end."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
        self._is_file = stat.S_ISREG(os.fstat(2).st_mode)
        self._bound()

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        self._bound()

    def _bound(self) -> None:
        """Cuts the file in place: the spawner writes to it as well. Both append, so neither leaves a hole."""
        if not self._is_file or os.fstat(2).st_size <= MAX_BYTES:
            return
        try:
            with open("/proc/self/fd/2", "rb") as file:
                file.seek(-KEPT_BYTES, os.SEEK_END)
                end = file.read(KEPT_BYTES)
            os.ftruncate(2, 0)
            os.write(2, b"(shortened)\n" + end[end.find(b"\n") + 1 :])
        except (OSError, MemoryError):
            os.ftruncate(2, 0)  # removed, or the disk or the memory is full: better no log than one without end


class _OneLine(logging.Formatter):
    """A record is one line, also where it contains text of others; a traceback follows."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return one_line(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return escaped(super().format(record))
