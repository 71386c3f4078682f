"""What the spawner has in place of msgspec and typing (layer 3): they would be a quarter of its memory. Pure.

The modules of the operations are written for both processes. In the agent a struct is msgspec's, which is encoded and
saved; in the spawner a plain class with the same fields and methods. What these modules use of the two libraries when
they are imported is here; anything else is an error when the spawner starts, and so in every test that starts one.
"""

from __future__ import annotations

import sys
from collections import namedtuple
from collections.abc import Iterator
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

_CLASS_VARIABLE = "ClassVar"


def install() -> None:
    """Called in the spawner's process before it imports anything of minipod's that has types."""
    for name, contents in (("msgspec", _MSGSPEC), ("typing", _TYPING)):
        module = ModuleType(name)
        vars(module).update(contents)
        sys.modules[name] = module
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]


def annotations_of(kind: type) -> Iterator[tuple[str, str]]:
    """(name, the type's text) of each field of a struct, of this module's or of msgspec's; the base's first."""
    for base in reversed(kind.__mro__[:-1]):
        for name, annotation in getattr(base, "__annotations__", {}).items():  # its own, not the base's
            if not annotation.startswith(_CLASS_VARIABLE) and not name.startswith("__"):
                yield name, annotation


class Struct:
    """Fields by annotations, defaults by class attributes. It is not frozen: nothing in the spawner changes one."""

    __struct_fields__: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: object) -> None:
        """`options` are msgspec's: frozen, kw_only, tag …"""
        cls.__struct_fields__ = tuple(name for name, _ in annotations_of(cls))

    def __init__(self, *values: object, **named: object) -> None:
        fields = type(self).__struct_fields__
        values_by_name = dict(zip(fields, values, strict=False)) | named
        for name in fields:
            if name in values_by_name:
                value = values_by_name.pop(name)
            elif hasattr(type(self), name):
                value = getattr(type(self), name)
                value = value.copy() if isinstance(value, list | dict) else value
            else:
                raise TypeError(f"{type(self).__name__} needs {name}")
            setattr(self, name, value)
        if values_by_name or len(values) > len(fields):
            raise TypeError(f"{type(self).__name__} has no {', '.join(values_by_name) or 'so many fields'}")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))


class _NamedTupleMaker(type):
    """`class Call(NamedTuple)` is a named tuple, as typing's."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, object]) -> type:
        if not bases:
            return super().__new__(mcs, name, bases, namespace)
        fields = list(namespace["__annotations__"])  # type: ignore[call-overload]
        defaults = [namespace[field] for field in fields if field in namespace]
        made = namedtuple(name, fields, defaults=defaults, module=str(namespace["__module__"]))  # type: ignore[misc]
        for key, value in namespace.items():
            if key not in fields and key not in ("__annotations__", "__module__", "__qualname__", "__classcell__"):
                setattr(made, key, value)
        return made


class NamedTuple(metaclass=_NamedTupleMaker):
    """The base class of named tuples."""


def _type_variable(name: str) -> object:
    return object


_MSGSPEC: dict[str, object] = {"Struct": Struct}
_TYPING: dict[str, object] = {
    "TYPE_CHECKING": False,
    "Any": object,
    "ClassVar": object,
    "NoReturn": object,
    "NamedTuple": NamedTuple,
    "TypeVar": _type_variable,
}
