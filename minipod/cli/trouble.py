"""Errors of the kernel as the command line prints them (layer 6): object, cause, remedy. Loads little."""

from __future__ import annotations


def problem(error: OSError, name: str = "") -> str:
    """One line. `name`: the object, where the error does not name it or its user calls it otherwise."""
    from minipod.kernel.error_text import text_of

    if name:
        error = OSError(error.errno, error.strerror or str(error), name)
    return text_of(error)
