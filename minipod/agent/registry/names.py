"""The names that are made for objects with `metadata.generateName` (layer 5). Stores nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from minipod.kernel.chance import random_below

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # apimachinery util/rand: no vowels, so no words
_LENGTH = 5
_BASE_MAX = 63 - _LENGTH
_ATTEMPTS = 8  # registry/generic/registry/store.go maxNameGenerationCreateAttempts


def named(thing: Any, is_taken: Callable[[str], bool]) -> Any:
    """The object with a name that is not taken; one that has a name keeps it, one without any stays as it is."""
    metadata = thing.metadata
    if metadata.name or not metadata.generate_name:
        return thing
    base, name = metadata.generate_name[:_BASE_MAX], ""
    for _ in range(_ATTEMPTS):
        name = base + "".join(_LETTERS[random_below(len(_LETTERS))] for _ in range(_LENGTH))
        if not is_taken(name):
            break
    return msgspec.structs.replace(thing, metadata=msgspec.structs.replace(metadata, name=name))
