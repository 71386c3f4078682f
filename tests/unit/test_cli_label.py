"""label, annotate, replace, and manifests in folders: kubectl's words and rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from minipod.api.keys import outcome
from minipod.cli.files import read_files, with_folders
from minipod.cli.verbs.label import split
from minipod.errors import UsageError
from tests.unit.cli_fakes import Object, Peer, fake_agent, minipod_command, pod


def test_words_are_objects_until_the_first_change() -> None:
    assert split(["pod", "web", "a=b", "c="], "label") == (["pod", "web"], {"a": "b", "c": ""}, [])
    assert split(["pod/web", "a-"], "label") == (["pod/web"], {}, ["a"])
    with pytest.raises(UsageError, match="all resources must be specified before label changes: web"):
        split(["pod", "a=b", "web"], "label")
    with pytest.raises(UsageError, match="can not both modify and remove"):
        split(["pod", "web", "a=b", "a-"], "label")


@pytest.mark.parametrize(
    ("field", "after", "word"),
    [
        ("labels", {"a": "1"}, "not labeled"),
        ("labels", {"a": "1", "b": ""}, "labeled"),
        ("labels", {}, "unlabeled"),
        ("labels", {"b": "2"}, "modified"),
        ("annotations", {"a": "1"}, "annotated"),
    ],
)
def test_what_came_of_it_is_reported_as_by_kubectl(field: str, after: dict[str, str], word: str) -> None:
    assert outcome(field, {"a": "1"}, after) == word


def test_the_agent_is_asked_for_the_change_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What the object is otherwise is not sent back: another client may have changed it by then."""

    def labeled(peer: Peer, _: Object) -> None:
        peer.ok(before={"app": "web"}, after={"app": "web", "tier": "front"}, object=pod())

    with fake_agent(tmp_path) as agent:
        agent.serve_pods(pod())
        agent.handlers["label"] = labeled
        assert minipod_command(agent.paths, "label", "pod", "web", "tier=front", "gone-") == 0
    assert capfd.readouterr().out == 'label "gone" not found.\npod/web labeled\n'
    sent = agent.requests[-1]
    assert sent["target"] == {"kind": "pods", "namespace": "default", "name": "web", "resource_version": ""}
    assert (sent["field"], sent["set"], sent["remove"]) == ("labels", {"tier": "front"}, ["gone"])
    assert sent["overwrite"] is False


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
