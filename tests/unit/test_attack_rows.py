"""The attack tests against their catalogue: marks that are true, and no row without a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.attacks.catalogue import NOT_APPLICABLE, SECTIONS
from tests.conftest import CHECKOUT

TESTS = CHECKOUT / "tests"


def marked_rows() -> Iterator[tuple[Path, str, int]]:
    """(file, test or "" for all of the file, row) of each mark."""
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text()
        if "mark.attack" not in text:
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from ((path, node.name, row) for mark in node.decorator_list for row in rows_of(mark))
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
                yield from ((path, "", row) for row in rows_of(node.value))


def rows_of(tree: ast.expr) -> Iterator[int]:
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.attack":
            arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
            assert (call.args, [*arguments]) == ([], ["row"]), f"write attack(row=N): {ast.unparse(call)}"
            yield arguments["row"]


def test_each_mark_names_a_row_of_its_section() -> None:
    every = set().union(*SECTIONS.values())
    wrong = [
        f"{path.name}::{name} row {row}"
        for path, name, row in marked_rows()
        if row not in SECTIONS.get(path.name, every) or row in NOT_APPLICABLE
    ]
    assert wrong == []


def test_each_test_of_a_section_carries_its_row() -> None:
    marked = {(path, name) for path, name, _ in marked_rows()}
    without = [
        f"{path.name}::{node.name}"
        for path in (TESTS / "attacks").glob("test_*.py")
        if path.name in SECTIONS and (path, "") not in marked
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and (path, node.name) not in marked
    ]
    assert without == []


def test_every_row_is_tested_or_has_nothing_to_attack() -> None:
    every = set().union(*SECTIONS.values())
    assert every == set(range(1, 59))
    assert every - {row for _, _, row in marked_rows()} == set(NOT_APPLICABLE)
