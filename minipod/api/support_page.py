"""The support table as a page (layer 1, pure): docs/support.md, one section per struct, one row per field."""

from __future__ import annotations

from collections.abc import Iterator

from minipod.api import types
from minipod.api.fields import CLUSTER, SERVER, SUPPORTED, UNSUPPORTED
from minipod.api.kinds import ALL_KINDS, POD, WRITABLE_KINDS
from minipod.api.schema import LIST, STRUCT, Field, fields_of
from minipod.api.support import rows_of

_HEAD = """# What minipod does with each field of a Pod

Written by `scripts/generate-support` from `minipod/api/fields.py`; the tests fail when either is not up to date.

* **supported**: as Kubernetes 1.36 does it.
* **cluster-only**: accepted, without effect on one host; `run` warns once.
* **unsupported**: Kubernetes accepts it, `run` and `plan` refuse it and name the field; `validate` warns.
* **set by minipod**: what a manifest has there is ignored, as by the API server.

What the API server itself refuses is refused in every case. `minipod explain pod.spec.containers` shows the same.
"""

_SHORT = {SUPPORTED: "supported", CLUSTER: "*cluster-only*", UNSUPPORTED: "**unsupported**", SERVER: "set by minipod"}

_OTHERS = tuple(kind for kind in WRITABLE_KINDS if kind is not POD)


def reachable(struct: type[types.Object] = types.Pod, path: str = "") -> Iterator[tuple[type[types.Object], str]]:
    """(struct, where it is first found) of every struct that a supported field leads to, each once."""
    seen: set[type[types.Object]] = set()
    waiting = [(struct, path)]
    while waiting:
        struct, path = waiting.pop(0)
        if struct in seen:
            continue
        seen.add(struct)
        yield struct, path
        for wire, field in fields_of(struct).items():
            inner = _inner(field)
            row = rows_of(struct.__name__).get(wire)
            if inner is not None and row is not None and row.level == SUPPORTED:
                waiting.append((inner, f"{path}.{wire}".lstrip(".") + ("[]" if field.kind == LIST else "")))


def every_struct() -> Iterator[tuple[type[types.Object], str]]:
    """As `reachable`, from a Pod and then from every other kind that is kept."""
    seen: set[type[types.Object]] = set()
    for kind in (POD, *_OTHERS):
        for struct, path in reachable(kind.struct, "" if kind is POD else kind.name):
            if struct not in seen:
                seen.add(struct)
                yield struct, path


def _inner(field: Field) -> type[types.Object] | None:
    shape = field.shape.items if field.kind == LIST else field.shape
    return shape.struct if shape is not None and shape.kind == STRUCT else None


def page() -> str:
    lines = [_HEAD]
    for struct, path in every_struct():
        rows = rows_of(struct.__name__)
        lines += [f"## {struct.__name__}" + (f" (`{path}`)" if path else ""), "", "| field | | |", "|---|---|---|"]
        for wire in sorted(fields_of(struct)):
            row = rows[wire]
            note = f"values other than {', '.join(map(_value, row.fine))}: {row.note}" if row.fine else row.note
            level = f"{_SHORT[row.level]} for some values" if row.when else _SHORT[row.level]
            lines.append(f"| `{wire}` | {level} | {note} |")
        lines.append("")
    lines += ["## Other kinds", "", "| kind | | |", "|---|---|---|"]
    lines += [f"| {kind.name} | supported | {kind.note} |" for kind in _OTHERS]
    lines += [f"| {kind.name} | **unsupported** | {kind.refused} |" for kind in ALL_KINDS if kind.refused]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
