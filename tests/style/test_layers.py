"""The layers of docs/architecture.md, read from the imports: no module imports from a layer above its own, and neither
modules nor packages import each other in a circle, late imports and those for type checkers included.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.style.circles import circles

PACKAGE = CHECKOUT / "minipod"
LAYERS = {
    "": 0,  # minipod/__init__.py
    "errors": 0,
    "failpoint": 0,
    "paths": 0,
    "config": 0,
    "terminal": 0,
    "api": 1,
    "kernel": 1,
    "names": 2,
    "plan": 2,
    "runtime": 3,
    "lifecycle": 4,
    "streams": 5,
    "agent": 5,
    "control": 6,
    "cli": 6,
    "cri": 6,
    "rest": 6,
    "__main__": 6,
    "serve": 7,
}
#: none of these knows another one; what starts them is `serve`
FACES = ("control", "cli", "cri", "rest")
#: a package and a part of it that import each other; all other packages stand in one direction
BOTH_WAYS = {
    ("agent", "agent.objects"),
    ("agent", "agent.pods"),
    ("api", "api.merge"),
    ("api", "api.validation"),
    ("cli", "cli.show"),
    ("plan", "plan.network"),
    ("plan", "plan.process"),
    ("plan", "plan.volumes"),
    ("runtime.images", "runtime.images.registry"),
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
            if part in FACES and wanted in FACES and part != wanted:
                yield f"{where}: faces do not know each other"
            if part == "api" and wanted == "kernel":
                yield f"{where}: api is pure"
            if part == "kernel" and wanted == "api":
                yield f"{where}: the kernel knows nothing of Kubernetes"
            if part == "cri" and wanted in ("lifecycle", "agent"):
                yield f"{where}: with CRI, the kubelet owns restarts and probes"
        if top == "ctypes" and part != "kernel":
            yield f"{where}: raw system calls belong to minipod/kernel"
        if top == "psutil" and name != "minipod.cli.figures":
            yield f"{where}: figures of processes belong to minipod/cli/figures.py"
        if top == "dns" and name != "minipod.names.wire":
            yield f"{where}: DNS messages belong to minipod/names/wire.py"
        if top == "pyroute2" and name != "minipod.kernel.netlink_messages":
            yield f"{where}: netlink belongs to minipod/kernel/netlink_messages.py"


def test_modules_import_only_from_their_own_layer_or_below() -> None:
    assert [finding for path in MODULES for finding in findings(path)] == []


def test_every_module_belongs_to_a_layer() -> None:
    assert [name_of(path) for path in MODULES if part_of(name_of(path)) not in LAYERS] == []


def module_of(target: str, modules: set[str]) -> str:
    """The module that an imported name comes from; empty for what is not minipod's."""
    while target and target not in modules:
        target = target.rpartition(".")[0]
    return target


def package_of(path: Path) -> str:
    """`minipod/runtime/images/store.py` → `runtime.images`."""
    return ".".join(path.relative_to(PACKAGE).parent.parts)


def import_graph() -> dict[str, set[str]]:
    """{module: modules that it imports}"""
    modules = {name_of(path) for path in MODULES}
    return {
        name_of(path): {module_of(target, modules) for _, target in imports_of(path)} - {name_of(path), ""}
        for path in MODULES
    }


def package_graph() -> dict[str, set[str]]:
    """{package: packages that its modules import}; what lies directly in minipod/ has its own layer and is left out."""
    package = {name_of(path): package_of(path) for path in MODULES}
    graph: dict[str, set[str]] = {name: set() for name in package.values() if name}
    for module, targets in import_graph().items():
        if package[module]:
            graph[package[module]] |= {package[target] for target in targets} - {package[module], ""}
    return graph


def paths(graph: dict[str, set[str]]) -> str:
    """The circles of a graph, each on a line of its own."""
    return "\n".join(" -> ".join(path) for path in circles(graph))


def test_no_modules_import_each_other_in_a_circle() -> None:
    found = paths(import_graph())
    assert not found, found


def test_packages_stand_in_one_direction() -> None:
    """A package may use its parts and they may use it, where BOTH_WAYS says so."""
    graph = {
        package: {t for t in targets if (package, t) not in BOTH_WAYS} for package, targets in package_graph().items()
    }
    found = paths(graph)
    assert not found, found


def test_each_pair_of_packages_in_both_ways_is_still_needed() -> None:
    graph = package_graph()
    assert [pair for pair in sorted(BOTH_WAYS) if pair[1] not in graph[pair[0]] or pair[0] not in graph[pair[1]]] == []


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({}, []),
        ({"a": "b", "b": "c", "c": ""}, []),
        ({"a": "bc", "b": "d", "c": "d", "d": ""}, []),  # a diamond is no circle
        ({"a": "b", "b": "a"}, ["aba"]),
        ({"a": "b", "b": "c", "c": "b"}, ["bcb"]),  # what only leads into a circle is not in it
        ({"a": "bc", "b": "c", "c": "d", "d": "a"}, ["acda", "bcdab"]),  # shortest first, then what it did not name
        ({"a": "b", "b": "a", "c": "d", "d": "ec", "e": ""}, ["aba", "cdc"]),
        ({"a": "bx", "b": "c", "c": "a", "x": "y", "y": "x"}, ["abca", "xyx"]),
        ({"a": "b", "b": "x"}, []),  # x is not part of the graph
        ({"a": "a"}, ["aa"]),
    ],
)
def test_circles_are_found_with_their_path(graph: dict[str, str], found: list[str]) -> None:
    assert ["".join(path) for path in circles(graph)] == found
