"""The spawner's own structs are msgspec's: the same fields, defaults and descriptions of every operation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import msgspec.structs
import pytest

import minipod
from minipod.plan.operation import ChildOperation
from minipod.plan.process.namespaces import Clone
from minipod.runtime.spawner.messages import struct_of
from minipod.runtime.spawner.program import CHILD_OPERATIONS
from tests.unit.test_order import execs, pauses, starts

CHECKOUT = Path(minipod.__file__).parent.parent
PACKAGES = Path(msgspec.__file__).parent.parent
PROGRAM = """
import sys
sys.path[:] = [*sys.argv[1:], *sys.path]
from minipod.runtime.spawner import light
light.install()
import json
from minipod.runtime.spawner import program
from minipod.runtime.spawner.messages import struct_of
made = [struct_of(program.CHILD_OPERATIONS[value["op"]], value) for value in json.load(sys.stdin)]
heavy = ("msgspec._core", "typing_extensions", "uuid", "decimal", "logging", "threading", "platform", "base64")
print(json.dumps({
    "described": [each.describe() for each in made],
    "fields": [[[name, repr(getattr(each, name))] for name in type(each).__struct_fields__] for each in made],
    "heavy": [name for name in heavy if sys.modules.get(name)],
}))
"""


def operations() -> list[ChildOperation]:
    """One of each kind with its least, and those of every way to start a process."""
    least = [struct_of(kind, _least(kind)) for kind in CHILD_OPERATIONS.values()]
    return least + [operation for way in (starts, execs, pauses) for _, _, made in way() for operation in made]


def _least(kind: type[ChildOperation]) -> dict[str, Any]:
    values = {str: "text", int: 7, bool: True, tuple[str, ...]: ["a"], tuple[int, ...]: [5], dict[str, str]: {"a": "b"}}
    return {field.name: values[field.type] for field in msgspec.structs.fields(kind) if field.required}


@pytest.fixture(scope="module")
def answer() -> dict[str, Any]:
    given = [json.loads(msgspec.json.encode(operation)) for operation in operations()]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, str(CHECKOUT), str(PACKAGES)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_each_operation_is_described_as_the_agent_describes_it(answer: dict[str, Any]) -> None:
    assert answer["described"] == [operation.describe() for operation in operations()]


def test_each_has_the_fields_and_defaults_that_msgspec_gives_it(answer: dict[str, Any]) -> None:
    wanted = [[[name, repr(getattr(made, name))] for name in made.__struct_fields__] for made in operations()]
    assert answer["fields"] == wanted


def test_nothing_heavy_is_imported(answer: dict[str, Any]) -> None:
    assert answer["heavy"] == []


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        ("Exec", [], "must be an object"),
        ("Exec", {"argv": "sh", "env": []}, "Exec.argv: must be a list"),
        ("Exec", {"argv": [5], "env": []}, "Exec.argv: must be a string"),
        ("Exec", {"argv": ["\ud800"], "env": []}, "Exec.argv: "),
        ("SetOomScoreAdj", {}, "value"),
        ("SetOomScoreAdj", {"value": True}, "SetOomScoreAdj.value: must be an integer"),
        ("SetOomScoreAdj", {"value": 1.5}, "SetOomScoreAdj.value: must be an integer"),
    ],
)
def test_what_is_no_operation_is_refused(kind: str, value: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        struct_of(CHILD_OPERATIONS[kind], value)


def test_a_clone_is_one_too() -> None:
    made = struct_of(Clone, {"namespaces": ["pid"], "unknown": 5})
    assert made == Clone(namespaces=("pid",))
