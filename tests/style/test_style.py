"""The conventions that tools can check: ruff, mypy --strict, the size of files, the first line of modules."""

from __future__ import annotations

import ast
import subprocess
import sys

from tests.conftest import CHECKOUT

MAX_LINES = 500
GENERATED = {CHECKOUT / "minipod" / "api" / "types.py"}
SOURCES = sorted(path for top in ("minipod", "tests") for path in (CHECKOUT / top).rglob("*.py"))
SCRIPTS = [path for path in (CHECKOUT / "rootfs" / "build",) if path.exists()]


def tool(*args: str) -> None:
    done = subprocess.run([sys.executable, "-m", *args], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    tool("ruff", "check", "--quiet", ".", *map(str, SCRIPTS))


def test_sources_are_formatted() -> None:
    tool("ruff", "format", "--check", "--quiet", ".", *map(str, SCRIPTS))


def test_mypy_strict_finds_nothing() -> None:
    tool("mypy")  # strict, source and tests: pyproject.toml; what did not change is in .mypy_cache


def test_files_are_short_and_say_what_they_are() -> None:
    findings = []
    for path in SOURCES:
        text = path.read_text()
        if path not in GENERATED and text.count("\n") > MAX_LINES:
            findings.append(f"{path} is longer than {MAX_LINES} lines: it is probably two ideas")
        if text.strip() and not ast.get_docstring(ast.parse(text)):
            findings.append(f"{path} does not begin with a line that says its role")
    assert findings == []
