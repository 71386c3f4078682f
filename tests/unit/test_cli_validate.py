"""`minipod validate` and `minipod explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minipod.cli import main as cli
from minipod.errors import UsageError

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n    image: b\n"


@pytest.fixture
def manifest(tmp_path: Path) -> Any:
    def write(text: str, name: str = "pod.yaml") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_a_valid_manifest_ends_with_0(manifest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = manifest(POD)
    assert cli.main(["validate", path]) == 0
    assert capsys.readouterr().out == f"{path}: pod/p is valid\n"


def test_every_fault_is_a_line_with_its_place(manifest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = manifest(POD + "    ports: [{containerPort: 70000}]\n    comand: [x]\n")
    assert cli.main(["validate", path]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{path}:8:14: spec.containers[0].ports[0].containerPort: Invalid value: 70000")
    assert lines[1].startswith(f'{path}:9:5: spec.containers[0].comand: unknown field; did you mean "command"')


def test_json_lists_every_document(manifest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = manifest(f"{POD}---\n{POD.replace('name: p', 'name: P')}")
    assert cli.main(["validate", "-o", "json", path]) == 2
    good, bad = json.loads(capsys.readouterr().out)
    assert good == {
        "file": path,
        "document": 0,
        "kind": "Pod",
        "name": "p",
        "valid": True,
        "errors": [],
        "warnings": [],
    }
    assert (bad["document"], bad["valid"]) == (1, False)
    (error,) = bad["errors"]
    assert (error["field"], error["type"], error["line"], error["column"]) == (
        "metadata.name",
        "FieldValueInvalid",
        11,
        12,
    )


def test_defaulted_shows_the_object_as_it_would_be_stored(manifest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = manifest(POD)
    assert cli.main(["validate", "--defaulted", "-o", "json", path]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["object"]["spec"]["restartPolicy"] == "Always"
    assert entry["object"]["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert cli.main(["validate", "--defaulted", path]) == 0
    assert "restartPolicy: Always" in capsys.readouterr().out


def test_unknown_fields_are_warnings_when_not_strict(manifest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = manifest(POD + "  foo: 1\n")
    assert cli.main(["validate", "--strict=false", path]) == 0
    assert "warning" in capsys.readouterr().err
    assert cli.main(["validate", "--strict=true", path]) == 2


def test_many_files_are_checked_and_an_empty_one_is_wrong(manifest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", manifest(POD), manifest("", "empty.yaml")]) == 2
    assert "empty.yaml: there is no object in it" in capsys.readouterr().err


def test_a_missing_file_or_none_is_a_wrong_command_line() -> None:
    with pytest.raises(UsageError, match="no such file"):
        cli.main(["validate", "/nonexistent.yaml"])
    with pytest.raises(UsageError, match="which manifest"):
        cli.main(["validate"])


def test_explain_shows_type_values_default_and_support(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "pod.spec.containers.imagePullPolicy"]) == 0
    out = capsys.readouterr().out
    assert "FIELD: imagePullPolicy <string>" in out
    assert "VALUES:  Always IfNotPresent Never" in out
    assert "MINIPOD: supported" in out


def test_explain_lists_fields_and_takes_short_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "po.spec.volumes[0]"]) == 0
    out = capsys.readouterr().out
    assert "FIELD: volumes <[]Volume>" in out
    assert "emptyDir\t<EmptyDirVolumeSource>" in out
    assert cli.main(["explain", "pods", "--recursive"]) == 0
    assert "containerPort\t<integer>" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("pod.spec.container", 'did you mean "containers"'),
        ("deployment", "there is no kind"),
        ("pod.metadata.name.x", "nothing below"),
    ],
)
def test_explain_says_what_there_is_not(field: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        cli.main(["explain", field])


def test_every_word_is_about_a_field_that_there_is() -> None:
    from minipod.api import types
    from minipod.api.schema import fields_of
    from minipod.api.words import DEFAULTS, VALUES, WORDS

    for key in (*WORDS, *VALUES, *DEFAULTS):
        struct, _, field = key.partition(".")
        assert field in fields_of(getattr(types, struct)), key
