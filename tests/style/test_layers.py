"""The layers of docs/architecture.md, read from the imports: nobody imports upward."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import CHECKOUT

PACKAGE = CHECKOUT / "minipod"
LAYERS = {
    "": 0,  # minipod/__init__.py
    "errors": 0,
    "paths": 0,
    "config": 0,
    "terminal": 0,
    "api": 1,
    "kernel": 1,
    "plan": 2,
    "runtime": 3,
    "lifecycle": 4,
    "agent": 5,
    "control": 6,
    "cli": 6,
    "cri": 6,
    "rest": 6,
    "__main__": 6,
    "serve": 7,
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: str) -> str:
    """`minipod.runtime.images.store` → `runtime`."""
    return [*module.split("."), ""][1]


def name_of(path: Path) -> str:
    parts = list(path.relative_to(CHECKOUT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that is imported, at the top or later."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def findings(path: Path) -> Iterator[str]:
    name, part = name_of(path), part_of(name_of(path))
    for line, target in imports_of(path):
        where = f"{path.relative_to(CHECKOUT)}:{line}: imports {target}"
        top = target.split(".")[0]
        if top == "minipod":
            wanted = part_of(target)
            if wanted not in LAYERS:  # `from minipod import __version__`
                wanted = ""
            if LAYERS[wanted] > LAYERS[part]:
                yield f"{where}: layer {LAYERS[part]} may not import from layer {LAYERS[wanted]}"
            if part == "api" and wanted == "kernel":
                yield f"{where}: api is pure"
            if part == "kernel" and wanted == "api":
                yield f"{where}: the kernel knows nothing of Kubernetes"
            if part == "cri" and wanted in ("lifecycle", "agent"):
                yield f"{where}: with CRI, the kubelet owns restarts and probes"
        if top == "ctypes" and part != "kernel":
            yield f"{where}: raw system calls belong to minipod/kernel"
        if top == "pyroute2" and name != "minipod.kernel.netlink":
            yield f"{where}: netlink belongs to minipod/kernel/netlink.py"


def test_modules_import_only_from_their_own_layer_or_below() -> None:
    assert [finding for path in MODULES for finding in findings(path)] == []


def test_every_module_belongs_to_a_layer() -> None:
    assert [name_of(path) for path in MODULES if part_of(name_of(path)) not in LAYERS] == []
