"""Any error as one line for people (layer 1): its object, the kernel's words, and the limit that it means, if any."""

from __future__ import annotations

import errno
import os
from functools import partial

from minipod.errors import utf8
from minipod.kernel.limit_values import read
from minipod.kernel.limits import Value, explanation

_places = [""]


def text_of(error: BaseException, operation: str = "") -> str:
    """`operation`: what was tried, by its name in `limits`; for a limit that only some operations meet."""
    if isinstance(error, OSError):
        known = os.strerror(error.errno or 0)
        words = (error.strerror or str(error)).replace(known, known.lower())  # a path in it stays as it is
        text = f"{error.filename}: {words}" if error.filename else words
    else:
        text = str(error) or type(error).__name__
    text = utf8(" ".join(text.split()))
    why = limit_of(error, operation)
    return f"{text}: {why}" if why else text


def limit_of(error: BaseException, operation: str = "") -> str:
    """What limit the error means, with its value and the remedy; empty for none."""
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        code, operation, path = errno.EAGAIN, "thread", ""
    elif isinstance(error, OSError):
        code, path = error.errno or 0, error.filename if isinstance(error.filename, str) else ""
    else:
        return ""
    found = [explanation(code, operation, partial(_read, place), place) for place in ([path] if path else _places)]
    return "; or ".join(dict.fromkeys(filter(None, found)))


def expect_errors_at(*places: str) -> None:
    """The file systems of `places` may be meant by an error that names no file, as that of a write(2)."""
    _places[:] = places


def _read(place: str, name: str) -> Value:
    return read(name, place or "/")
