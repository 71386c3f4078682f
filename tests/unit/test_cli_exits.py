"""The exit statuses: one table, in `minipod.errors` and docs/cli.md, that every command keeps to."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from minipod.errors import EXIT_STATUSES, FAILURE, NEGATIVE, SUCCESS, WRONG
from tests.conftest import CHECKOUT
from tests.unit.cli_fakes import Object, Peer, fake_agent, minipod_command, pod

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: app, image: busybox}]}\n"


def failing(kind: str, exit_status: int) -> Callable[[Peer, Object], None]:
    return lambda peer, _: peer.fail(kind, "why", exit_status)


def root_of(folder: Path) -> Callable[[Peer, Object], None]:
    """A container whose root is `folder`."""

    def answer(peer: Peer, _: Object) -> None:
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        peer.send({"event": "root", "fds": ["root"], "cwd": "/", "uid": 0, "gid": 0}, (fd,))
        os.close(fd)
        peer.ok()

    return answer


COMMANDS: list[tuple[str, int]] = [
    ("get pods", SUCCESS),
    ("get pod nope", NEGATIVE),
    ("get pods --bogus", WRONG),
    ("frobnicate", WRONG),
    ("validate good.yaml", SUCCESS),
    ("validate bad.yaml", WRONG),
    ("validate empty.yaml", WRONG),
    ("validate missing.yaml", WRONG),
    ("run missing.yaml", WRONG),
    ("cp missing web:/tmp", NEGATIVE),
    ("cp web:/missing .", NEGATIVE),
    ("cp web:/missing/ .", NEGATIVE),
    ("cp good.yaml web:/missing/", NEGATIVE),
    ("cp web:/file /dev/full/x", NEGATIVE),
    ("cp web:/file /sys/x", FAILURE),
    ("cp one two", WRONG),
    ("cp web:/file .", SUCCESS),
    ("wait pod/web --for=delete --timeout=0", NEGATIVE),
    ("apply good.yaml", FAILURE),
    ("create -f good.yaml", FAILURE),
    ("delete pod web", NEGATIVE),
    ("label pod web a=b", WRONG),
    ("explain pod.spec.nope", WRONG),
    ("completion tcsh", WRONG),
]


def test_each_command_exits_as_the_table_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    container = tmp_path / "container"
    container.mkdir()
    (container / "file").write_text("x")
    for name, text in (("good.yaml", POD), ("bad.yaml", POD.replace("image:", "imag:")), ("empty.yaml", "")):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    found = []
    with fake_agent(tmp_path) as agent:
        agent.serve_pods(pod())
        agent.handlers |= {
            "root": root_of(container),
            "apply": failing("Runtime", FAILURE),
            "delete": failing("NotFound", NEGATIVE),
            "label": failing("Manifest", WRONG),
        }
        for line, _ in COMMANDS:
            found.append((line, minipod_command(agent.paths, *line.split())))
            capfd.readouterr()
    assert found == COMMANDS


def test_every_status_in_the_source_is_in_the_table() -> None:
    """`exit_status` and what a verb's `run` returns are names of the table, not numbers; 0 needs no name."""
    faults = []
    for path in (CHECKOUT / "minipod").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            faults += [f"{path.name}:{line}" for line in literal_statuses(node, path.parent.name == "verbs")]
    assert faults == []
    assert set(EXIT_STATUSES) >= {SUCCESS, NEGATIVE, WRONG, FAILURE}


def literal_statuses(node: ast.AST, is_verb: bool) -> list[int]:
    if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Constant):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        named = [getattr(target, "id", getattr(target, "attr", "")) for target in targets]
        return [node.lineno] if "exit_status" in named and isinstance(node.value.value, int) else []
    if is_verb and isinstance(node, ast.FunctionDef) and node.name == "run":
        returned = [part.value for part in ast.walk(node) if isinstance(part, ast.Return) and part.value is not None]
        return [part.lineno for part in returned if any(is_literal(inner) for inner in ast.walk(part))]
    return []


def is_literal(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value != 0
