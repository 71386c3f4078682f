"""The failpoints: every name is passed in the source, at the passage that counts, once for all processes."""

from __future__ import annotations

import ast
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod import failpoint
from minipod.failpoint import OPERATION_POINTS, POINTS, Failpoint, every
from minipod.plan.process.rootfs import TouchFile
from minipod.runtime import runtime as _with_all_operations  # noqa: F401
from minipod.runtime.records import operation_kinds
from minipod.runtime.spawner.requests import _VERBS
from tests.conftest import CHECKOUT


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sent: list[int] = []

    def kill(pid: int, number: int) -> None:
        assert pid == os.getpid()
        sent.append(number)

    monkeypatch.setattr(os, "kill", kill)
    return sent


def passages() -> Iterator[tuple[str, bool]]:
    """The first argument of each `reached(…)` in the source, and whether there is a second one."""
    for path in (CHECKOUT / "minipod").rglob("*.py"):
        text = path.read_text()
        if "from minipod.failpoint import reached\n" not in text:
            continue  # `agent.pods.outcome` has one of this name too
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reached":
                name = node.args[0]
                assert isinstance(name, ast.Constant), path
                yield str(name.value), len(node.args) > 1


def test_every_name_is_passed_at_one_place_and_every_passage_has_a_name() -> None:
    passed = Counter(name for name, halved in passages() if not halved)
    in_halves = {name for name, halved in passages() if halved}
    assert set(passed) == {name for name in POINTS if not name.startswith("sent.")}
    assert [name for name, count in passed.items() if count > 1] == []
    assert in_halves == {*OPERATION_POINTS, "sent"}
    assert {f"sent.{verb}" for verb in _VERBS} == {name for name in POINTS if name.startswith("sent.")}


def test_every_kind_of_host_operation_has_two_names() -> None:
    names = every(operation_kinds())
    assert {"executed.CreateVeth", "undone.CreateVeth", "container.spawned"} <= set(names)
    assert len(names) == len(set(names)) == len(POINTS) + 2 * len(operation_kinds())


@pytest.mark.parametrize(
    ("action", "number"), [("kill", signal.SIGKILL), ("stop", signal.SIGSTOP), ("term", signal.SIGTERM)]
)
def test_at_the_passage_that_counts_the_process_marks_it_and_sends_itself_the_signal(
    tmp_path: Path, signals: list[int], action: str, number: int
) -> None:
    marker = tmp_path / "marker"
    point = Failpoint(f"container.spawned {action} {marker} 2")
    for name in ("container.saved", "container.spawned", "container.running"):
        point.reach(name)
    assert (signals, marker.exists()) == ([], False)
    point.reach("container.spawned")
    assert signals == [number]
    assert marker.read_text() == str(os.getpid())
    point.reach("container.spawned")
    assert signals == [number]


def test_a_step_is_taken_once_by_all_processes_with_the_same_environment(tmp_path: Path, signals: list[int]) -> None:
    for _ in range(2):
        Failpoint(f"container.spawned kill {tmp_path}/marker").reach("container.spawned")
    assert signals == [signal.SIGKILL]


def test_a_step_can_fail(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        Failpoint(f"container.spawned fail {tmp_path}/marker").reach("container.spawned")


def test_an_unknown_action_is_an_error() -> None:
    with pytest.raises(ValueError, match="no such action"):
        Failpoint("container.spawned explode /marker")


def test_the_operation_is_half_of_the_name(tmp_path: Path, signals: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoint, "_failpoint", Failpoint(f"undone.TouchFile kill {tmp_path}/marker"))
    monkeypatch.setenv(failpoint.VARIABLE, "as it was set")
    operation = TouchFile("/place")
    failpoint.reached("executed", operation)
    assert signals == []
    failpoint.reached("undone", operation)
    assert signals == [signal.SIGKILL]
    assert failpoint.environment() == {failpoint.VARIABLE: "as it was set"}


def test_without_the_variable_nothing_is_armed() -> None:
    failpoint.reached("container.spawned")
    assert failpoint.environment() == {}
