"""Tests run in another order each time, so that none comes to need what an earlier one left.

`--seed N` repeats an order, also of a part of the tests; `--seed no` takes the order of the files. The tests of a
module stay together, and so do the modules of a folder: what they share is made once.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

UNSHUFFLED = "no"
_SEEDS = 100_000


class Item(Protocol):
    """What pytest calls an item: a test with its parameters."""

    @property
    def path(self) -> Path: ...
    @property
    def nodeid(self) -> str: ...


T = TypeVar("T", bound=Item)


def new_seed() -> str:
    return str(random.SystemRandom().randrange(_SEEDS))


def in_order(items: Sequence[T], seed: str) -> list[T]:
    """Folders as they came; modules and tests by a hash of seed and name: a part of them is in the same order."""
    if seed == UNSHUFFLED:
        return list(items)
    folders = {item.path.parent: None for item in items}
    places = {folder: place for place, folder in enumerate(folders)}
    return sorted(
        items, key=lambda item: (places[item.path.parent], _hash(seed, item.path.name), _hash(seed, item.nodeid))
    )


def _hash(seed: str, name: str) -> bytes:
    return hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
