"""Counting this process's descriptors, for tests of what leaves none open."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager


def open_fds() -> int:
    """Without those of garbage that earlier tests left, which may be collected at any moment."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def none_left_open() -> Iterator[None]:
    before = open_fds()
    yield
    left = len(os.listdir("/proc/self/fd"))
    assert left == before or open_fds() == before  # collecting takes longer than most tests
