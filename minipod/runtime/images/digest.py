"""SHA-256 of what is small (layer 3): manifests, configurations, profiles. Layers are hashed by hashlib.

hashlib is faster, but loads libcrypto, 2 to 4 MB in a process that may never hash anything large. Without OpenSSL it
falls back on the interpreter's own implementation; so does `random` in the standard library, at once, and so does this.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def sha256_hex(data: bytes) -> str:
    return str(_sha256(data).hexdigest())


def _constructor() -> Any:
    for name in ("_sha2", "_sha256"):  # Python 3.12 and newer; 3.11
        try:
            return import_module(name).sha256
        except ImportError:
            continue
    return import_module("hashlib").sha256


_sha256 = _constructor()
