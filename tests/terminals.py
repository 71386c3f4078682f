"""An operator's terminal: a command whose standard streams are a pty, its controlling terminal, and what was typed."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import tty
from collections.abc import Mapping, Sequence
from typing import Any

from tests.patience import SLOWNESS

TIMEOUT_S = 30 * SLOWNESS


class Terminal:
    """A context manager. `output`: what the command has printed on it so far."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = command
        self._environment = os.environ | environment
        self.output = ""

    def __enter__(self) -> Terminal:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)  # so that what is typed can be read at once
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdin=self._slave, stdout=self._slave, stderr=self._slave,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        return self

    def __exit__(self, *_: Any) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)
        os.close(self._slave)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait(self) -> int:
        """Until the command ends, its output is read all the while. Returns its exit status."""
        pidfd = os.pidfd_open(self._process.pid)
        try:
            while True:
                ready, _, _ = select.select([pidfd, self._master], [], [], TIMEOUT_S)
                if self._master in ready:
                    self.output += os.read(self._master, 65536).decode(errors="replace")
                elif pidfd in ready:
                    return self._process.wait()
                else:
                    raise AssertionError(f"{self._command}: no end; its output is {self.output!r}")
        finally:
            os.close(pidfd)

    def typed(self) -> str:
        """What waits to be read on the terminal: characters that another process has pushed into it."""
        (waiting,) = struct.unpack("i", fcntl.ioctl(self._slave, termios.FIONREAD, b"\0" * 4))
        return os.read(self._slave, waiting).decode(errors="replace") if waiting else ""
