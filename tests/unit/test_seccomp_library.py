"""libseccomp's binding is loaded once, whichever threads ask for it at the same time."""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib
import sys
import threading
import types

import pytest

from minipod.kernel import seccomp_library


def test_threads_that_ask_at_once_load_it_once_and_leave_ctypes_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    binding, loads, together = types.ModuleType("binding"), [], threading.Barrier(2)

    def load(name: str) -> types.ModuleType:
        loads.append(name)
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(0.3)  # for the other, which must not come
        return binding

    former = sys.modules["ctypes.util"]
    monkeypatch.setattr(importlib, "import_module", load)
    seccomp_library._loaded.cache_clear()
    found: list[types.ModuleType] = []
    threads = [threading.Thread(target=lambda: found.append(seccomp_library.pyseccomp())) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        seccomp_library._loaded.cache_clear()
    assert found == [binding, binding]
    assert loads == ["pyseccomp"]
    assert sys.modules["ctypes.util"] is former is ctypes.util
