"""Errors of the file system as the image store reports them (layer 3)."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from minipod.errors import ImageError


class Stopped(Exception):  # noqa: N818 - nothing is wrong
    """A pull or a load was ended: another layer failed, or the user asked for it."""


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _explain(what, error)


def _explain(what: str, error: OSError) -> NoReturn:
    remedy = {
        errno.ENOSPC: "; free some space, or move the store with --data-dir",
        errno.EDQUOT: "; free some space, or move the store with --data-dir",
        errno.EACCES: "; run as root",
        errno.EPERM: "; run as root",
        errno.EROFS: "; choose a writable place with --data-dir",
    }.get(error.errno or 0, "")
    place = f": {error.filename}" if error.filename else ""
    raise ImageError(f"cannot {what}{place}: {(error.strerror or str(error)).lower()}{remedy}") from error
