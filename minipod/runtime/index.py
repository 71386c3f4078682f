"""Values by key and by group (layer 3): for the sandboxes of a pod and the containers of a sandbox.

Looking up a key or a group costs the same however many values there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

V = TypeVar("V")


class Index(Generic[V]):
    """A dictionary that also knows the group of each value. A key never changes its group."""

    def __init__(self, group_of: Callable[[V], str]) -> None:
        self._group_of = group_of
        self._values: dict[str, V] = {}
        self._groups: dict[str, dict[str, V]] = {}

    def __getitem__(self, key: str) -> V:
        return self._values[key]

    def __setitem__(self, key: str, value: V) -> None:
        self._values[key] = value
        self._groups.setdefault(self._group_of(value), {})[key] = value

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[V]:
        """The values, in the order in which their keys were added."""
        return iter(self._values.values())

    def keys(self) -> frozenset[str]:
        """The current keys. Callable from any thread."""
        return frozenset(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str) -> V | None:
        return self._values.get(key)

    def of(self, group: str) -> list[V]:
        """The values of a group, in the order in which their keys were added."""
        return list(self._groups.get(group, {}).values())

    def pop(self, key: str) -> V | None:
        """The removed value; None where there was none."""
        value = self._values.pop(key, None)
        if value is not None:
            group = self._group_of(value)
            del self._groups[group][key]
            if not self._groups[group]:
                del self._groups[group]
        return value
