"""A plan as text or data (layer 2, pure): the very operations, described. Builds none."""

from __future__ import annotations

from typing import Any

import msgspec

from minipod.plan.operation import ChildOperation, Operation
from minipod.plan.process.namespaces import Clone


class Section(msgspec.Struct, frozen=True):
    """Operations that belong together, in order. `where`: host | child."""

    title: str
    where: str
    operations: tuple[Operation | Clone, ...]


def as_text(sections: list[Section]) -> str:
    """One line an operation, numbered through; those of a child with their phase."""
    lines: list[str] = []
    number = 0
    for section in sections:
        lines.append(("" if not lines else "\n") + f"{section.title}:")
        for operation in section.operations:
            number += 1
            phase = f"{_phase(operation):<12} " if section.where == "child" else ""
            lines.append(f"  {number:3}  {phase}{type(operation).__name__:<22} {operation.describe()}")
    return "\n".join(lines) + "\n"


def as_data(sections: list[Section]) -> list[dict[str, Any]]:
    """JSON values: each operation with its description and its fields."""
    return [
        {
            "title": section.title,
            "where": section.where,
            "operations": [
                {
                    "op": type(operation).__name__,
                    **({"phase": _phase(operation)} if section.where == "child" else {}),
                    "description": operation.describe(),
                    "fields": {name: value for name, value in msgspec.to_builtins(operation).items() if name != "op"},
                }
                for operation in section.operations
            ],
        }
        for section in sections
    ]


def _phase(operation: Operation | Clone) -> str:
    return operation.phase if isinstance(operation, ChildOperation) else "clone"
