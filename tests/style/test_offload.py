"""Work leaves the event loop by one door: `runtime.offload`."""

from __future__ import annotations

import ast

import pytest

from tests.conftest import CHECKOUT

DOOR = "minipod/runtime/offload.py"
REFUSED = ("to_thread", "run_in_executor", "ThreadPoolExecutor")


@pytest.mark.parametrize("name", REFUSED)
def test_no_other_module_uses(name: str) -> None:
    """asyncio's own threads are few, may all be stuck, and an exit waits for them."""
    found = []
    for path in (CHECKOUT / "minipod").rglob("*.py"):
        where = str(path.relative_to(CHECKOUT))
        for node in ast.walk(ast.parse(path.read_text())):
            used = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            if used == name and where != DOOR:
                found.append(f"{where}:{getattr(node, 'lineno', 0)}")
    assert found == []


def test_threads_are_started_without_waiting_for_their_first_line() -> None:
    """threading.Thread.start waits for ever for a thread that has no memory to begin (`minipod.kernel.threads`)."""
    found = []
    for path in (CHECKOUT / "minipod").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("threading.Thread", "threading.Timer"):
                found.append(f"{path.relative_to(CHECKOUT)}:{node.lineno}")
    assert found == []
