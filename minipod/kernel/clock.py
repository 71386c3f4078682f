"""Clocks (layer 1): the time since the boot, and descriptors that report that a time has come or that the wall clock
was set (timerfd_create(2)). No policy.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time

from minipod.kernel.libc import fail, function

_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_TIMER_ABSTIME = 1
_TFD_TIMER_CANCEL_ON_SET = 2
_NEVER_S = (1 << 62) - 1


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_int64), ("tv_nsec", ctypes.c_int64))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


_timerfd_create = function("timerfd_create", ctypes.c_int, ctypes.c_int)
_timerfd_settime = function(
    "timerfd_settime", ctypes.c_int, ctypes.c_int, ctypes.POINTER(_Itimerspec), ctypes.POINTER(_Itimerspec)
)


def boottime() -> float:
    """Seconds since the boot, suspend included; it cannot be set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Timerfd:
    """Close it."""

    def __init__(self, clock: int, flags: int = 0) -> None:
        """Raises OSError."""
        self._fd: int = _timerfd_create(clock, _TFD_CLOEXEC | flags)
        if self._fd < 0:
            fail("timerfd_create")

    def _set(self, flags: int, seconds: int, nanoseconds: int = 0) -> None:
        """Once, at that time. Raises OSError."""
        spec = _Itimerspec(it_value=_Timespec(tv_sec=seconds, tv_nsec=nanoseconds))
        if _timerfd_settime(self._fd, flags, ctypes.byref(spec), None) < 0:
            fail("timerfd_settime")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Timer(_Timerfd):
    """Rings once, `seconds` after `set`. `wait` is for a thread of its own."""

    def __init__(self) -> None:
        super().__init__(time.CLOCK_MONOTONIC)

    def set(self, seconds: float) -> None:
        """Instead of what was set before. 0.4 µs."""
        nanoseconds = max(1, int(seconds * 1e9))
        self._set(0, nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)

    def wait(self) -> None:
        """Returns when it rings; without the interpreter's lock until then."""
        os.read(self._fd, 8)


class ClockChange(_Timerfd):
    """Readable once CLOCK_REALTIME was set, and after a suspend: a timer that is never due is cancelled then
    (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET). Close it.
    """

    def __init__(self) -> None:
        """Raises OSError."""
        super().__init__(time.CLOCK_REALTIME, _TFD_NONBLOCK)
        try:
            self._arm()
        except OSError:
            self.close()
            raise

    def _arm(self) -> None:
        try:
            self._set(_TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET, _NEVER_S)
        except OSError as error:  # ECANCELED: the clock was set since it was armed; it is armed again all the same
            if error.errno != errno.ECANCELED:
                raise

    def fileno(self) -> int:
        return self._fd

    def acknowledge(self) -> None:
        """Waits for the next change. Raises OSError."""
        try:
            os.read(self._fd, 8)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECANCELED):
                raise
        self._arm()
