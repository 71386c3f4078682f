"""libseccomp's binding (layer 1), loaded when a filter is compiled. No policy."""

from __future__ import annotations

import ctypes
import importlib
import sys
import threading
import types
from functools import cache

LIBRARY = "libseccomp.so.2"
_LOADING = threading.Lock()


def pyseccomp() -> types.ModuleType:
    """The binding. Raises OSError where the library is missing, ImportError where the binding is.

    It asks `ctypes.util` for the library's file, which runs ldconfig (45 ms) and loads tempfile, shutil, lzma and more
    (0.4 MB). The name is known, so another module replaces `ctypes.util` during the import.
    """
    with _LOADING:  # containers are planned in threads: the second would take the replacement for the module itself
        return _loaded()


@cache
def _loaded() -> types.ModuleType:
    name = "ctypes.util"
    stand_in = types.ModuleType(name)
    vars(stand_in)["find_library"] = {"seccomp": LIBRARY}.get  # None is this process' own: the C library
    former, former_attribute = sys.modules.get(name), vars(ctypes).get("util")
    sys.modules[name] = vars(ctypes)["util"] = stand_in
    try:
        binding: types.ModuleType = importlib.import_module("pyseccomp")
    finally:
        del sys.modules[name], vars(ctypes)["util"]
        if former is not None:
            sys.modules[name] = former
        if former_attribute is not None:
            vars(ctypes)["util"] = former_attribute
    return binding
