"""What `--local` prints: kubectl 1.36 and minipod on the same manifest (tests/data/kubectl-local.jsonl)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minipod.cli.main import guarded
from minipod.cli.pod_fields import quantities, variable, variables_from, with_resources
from minipod.errors import NotFoundError, UsageError
from tests.unit.cli_fakes import pod

LINES = (Path(__file__).parents[1] / "data" / "kubectl-local.jsonl").read_text().splitlines()
MANIFEST, *CASES = map(json.loads, LINES)


def test_local_changes_print_what_kubectl_prints(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(MANIFEST["manifest"])
    wrong = []
    for case in CASES:
        words = case["line"].split(" ")
        at = 2 if words[0] == "set" else 1
        status = guarded([*words[:at], "--local", "-f", str(file), *words[at:]])
        shown = capfd.readouterr()
        wanted = (case["text"], f"error: {case['error']}\n" if "error" in case else "", "error" in case)
        if (shown.out, shown.err, status != 0) != wanted:
            wrong.append((case["line"], shown.out, shown.err, wanted))
    assert wrong == []
    assert len(CASES) > 30


def test_the_keys_of_a_configmap_become_variables() -> None:
    thing = {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a.b-c": "1", "d": "2"}}
    assert variables_from(thing, ["a.b-c"], "P_") == [
        {"name": "P_A_B_C", "valueFrom": {"configMapKeyRef": {"key": "a.b-c", "name": "c"}}}
    ]
    with pytest.raises(NotFoundError, match="ConfigMap c has no key x"):
        variables_from(thing, ["x"], "")


def test_resources_are_set_by_name() -> None:
    before = pod()
    before["spec"]["containers"][0]["resources"] = {"limits": {"memory": "1Gi"}}
    after = with_resources(before, "app", quantities("cpu=1", "--limits"), {})
    assert after["spec"]["containers"][0]["resources"] == {"limits": {"memory": "1Gi", "cpu": "1"}}
    for text in ("cpu", "=1", "cpu=x"):
        with pytest.raises(UsageError, match=r"^--limits: "):
            quantities(text, "--limits")
    with pytest.raises(UsageError, match="not a valid key name"):
        variable("1A=b")
