"""The spawner is killed in the middle of a start, at each step that it has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import builders
from tests.builders import container
from tests.failpoints import armed
from tests.node_fixtures import Node


@pytest.mark.parametrize("name", ["spawner.cloned", "spawner.answered"])
def test_a_start_in_which_the_spawner_dies_is_one_start(node: Node, tmp_path: Path, name: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(builders.manifest(builders.pod("p", container("main", "echo one; echo two; exit 7"))))
    with armed(node, name) as hit:
        node("run", "-d", path)
        hit.wait()
    node("wait", "--for=jsonpath={.status.phase}=Failed", "pod/p")
    (status,) = json.loads(node("get", "pod", "p", "-o", "json").stdout)["status"]["containerStatuses"]
    assert (status["restartCount"], status["state"]["terminated"]["exitCode"]) == (0, 7)
    assert node("logs", "p").stdout == "one\ntwo\n"
