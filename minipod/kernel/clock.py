"""Clocks (layer 1): the time since the boot, and a descriptor that reports that the wall clock was set. No policy."""

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


class ClockChange:
    """Readable once CLOCK_REALTIME was set, and after a suspend: a timer that is never due is cancelled then
    (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET). Close it.
    """

    def __init__(self) -> None:
        """Raises OSError."""
        self._fd: int = _timerfd_create(time.CLOCK_REALTIME, _TFD_CLOEXEC | _TFD_NONBLOCK)
        if self._fd < 0:
            fail("timerfd_create")
        try:
            self._arm()
        except OSError:
            self.close()
            raise

    def _arm(self) -> None:
        never = _Itimerspec(it_value=_Timespec(tv_sec=_NEVER_S))
        flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
        # ECANCELED: the clock was set since the timer was armed; it is armed again all the same.
        if _timerfd_settime(self._fd, flags, ctypes.byref(never), None) < 0 and ctypes.get_errno() != errno.ECANCELED:
            fail("timerfd_settime")

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

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
