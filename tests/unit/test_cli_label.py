"""label, annotate, replace, and manifests in folders: kubectl's words and rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minipod.cli.files import read_files, with_folders
from minipod.cli.verbs.label import changed, outcome, split
from minipod.errors import ConflictError, UsageError
from tests.unit.cli_fakes import Object, Peer, fake_agent, minipod_command, pod


def test_words_are_objects_until_the_first_change() -> None:
    assert split(["pod", "web", "a=b", "c="], "label") == (["pod", "web"], {"a": "b", "c": ""}, [])
    assert split(["pod/web", "a-"], "label") == (["pod/web"], {}, ["a"])
    with pytest.raises(UsageError, match="all resources must be specified before label changes: web"):
        split(["pod", "a=b", "web"], "label")
    with pytest.raises(UsageError, match="can not both modify and remove"):
        split(["pod", "web", "a=b", "a-"], "label")


def test_a_value_is_only_lost_where_that_is_said() -> None:
    with pytest.raises(ConflictError, match=r"'a' already has a value \(1\), and --overwrite is false"):
        changed({"a": "1"}, {"a": "2"}, [], overwrite=False, field="labels")
    assert changed({"a": "1"}, {"a": "2"}, [], overwrite=True, field="labels") == ({"a": "2"}, [])
    assert changed({"a": "1"}, {"a": "1"}, ["b"], overwrite=False, field="labels") == (
        {"a": "1"},
        ['label "b" not found.'],
    )


@pytest.mark.parametrize(
    ("after", "new", "verb", "word"),
    [
        ({"a": "1"}, {"a": "1"}, "label", "not labeled"),
        ({"a": "1", "b": ""}, {"b": ""}, "label", "labeled"),
        ({}, {}, "label", "unlabeled"),
        ({"a": "1"}, {"a": "1"}, "annotate", "annotated"),
    ],
)
def test_what_came_of_it_is_told_as_by_kubectl(after: Object, new: Object, verb: str, word: str) -> None:
    assert outcome({"a": "1"}, after, new, verb) == word


def test_the_whole_object_goes_back_without_its_status(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def applied(peer: Peer, _: Object) -> None:
        peer.ok()

    with fake_agent(tmp_path) as agent:
        agent.serve_pods(pod())
        agent.handlers["apply"] = applied
        assert minipod_command(agent.paths, "label", "pod", "web", "tier=front") == 0
    assert capfd.readouterr().out == "pod/web labeled\n"
    sent = agent.requests[-1]
    assert sent["mode"] == "replace"
    written = json.loads(sent["files"][0]["text"])
    assert written["metadata"]["labels"]["tier"] == "front"
    assert "status" not in written


def test_a_folder_stands_for_the_manifests_in_it(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yaml", "c.json", "notes.txt"):
        (tmp_path / name).write_text(name)
    assert [Path(name).name for name in with_folders([str(tmp_path), "x.txt"])] == [
        "a.yaml", "b.yml", "c.json", "x.txt"
    ]  # fmt: skip
    assert [file["text"] for file in read_files([str(tmp_path)])] == ["a.yaml", "b.yml", "c.json"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match=r"no \.json, \.yaml or \.yml file"):
        with_folders([str(empty)])
