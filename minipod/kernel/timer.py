"""A timer as a descriptor (layer 1), timerfd_create(2). No policy."""

from __future__ import annotations

import ctypes
import os
import time

from minipod.kernel.libc import c_int, c_long, c_void_p, fail, function

_TFD_CLOEXEC = os.O_CLOEXEC

_create = function("timerfd_create", c_int, c_int)
_settime = function("timerfd_settime", c_int, c_int, c_void_p, c_void_p)


class _Spec(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = (("interval_s", c_long), ("interval_ns", c_long), ("value_s", c_long), ("value_ns", c_long))


class Timer:
    """Rings once, `seconds` after `set`. `wait` is for a thread of its own."""

    def __init__(self) -> None:
        self._fd = _create(time.CLOCK_MONOTONIC, _TFD_CLOEXEC)
        if self._fd < 0:
            fail("timerfd_create")

    def set(self, seconds: float) -> None:
        """Instead of what was set before. 0.4 µs."""
        nanoseconds = max(1, int(seconds * 1e9))
        spec = _Spec(0, 0, nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)
        if _settime(self._fd, 0, ctypes.byref(spec), None) < 0:
            fail("timerfd_settime")

    def wait(self) -> None:
        """Returns when it rings; without the interpreter's lock until then."""
        os.read(self._fd, 8)

    def close(self) -> None:
        os.close(self._fd)
