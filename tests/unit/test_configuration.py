"""The files of configMap, secret, downwardAPI and projected volumes, and what errors say of what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from minipod.api.types import Pod
from minipod.errors import ContainerError, VolumeError
from minipod.plan.configs import HostFacts
from minipod.plan.env import parse_env_file
from minipod.plan.volumes.configuration import File, objects_of, payload

FACTS = HostFacts(node_name="n", cpus=2, memory_bytes=1 << 30, cgroup_version=2)


class Objects:
    def __init__(self, config_maps: dict[str, dict[str, bytes]], secrets: dict[str, dict[str, bytes]]) -> None:
        self._config_maps, self._secrets = config_maps, secrets

    def config_map_files(self, name: str) -> Mapping[str, bytes] | None:
        return self._config_maps.get(name)

    def secret_files(self, name: str) -> Mapping[str, bytes] | None:
        return self._secrets.get(name)


SOURCES = Objects({"c": {"a": b"1", "b": b"\xff"}}, {"s": {"pw": b"hunter2"}})


def pod(volume: dict[str, Any], **metadata: Any) -> Pod:
    spec = {"volumes": [{"name": "v", **volume}], "containers": [{"name": "main", "image": "b"}]}
    return msgspec.convert({"metadata": {"name": "p", "uid": "u", **metadata}, "spec": spec}, Pod)


def found(volume: dict[str, Any], **metadata: Any) -> dict[str, tuple[bytes, int]]:
    given = pod(volume, **metadata)
    files = payload(given, given.spec.volumes[0], SOURCES, FACTS)
    return {path: (file.data, file.mode) for path, file in files.items()}


def test_every_key_is_a_file() -> None:
    assert found({"configMap": {"name": "c", "defaultMode": 0o400}}) == {"a": (b"1", 0o400), "b": (b"\xff", 0o400)}
    assert found({"secret": {"secretName": "s"}}) == {"pw": (b"hunter2", 0o644)}


def test_items_choose_names_and_modes() -> None:
    items = [{"key": "a", "path": "./x//y", "mode": 0o600}]
    assert found({"configMap": {"name": "c", "items": items}}) == {"x/y": (b"1", 0o600)}


def test_a_later_source_of_a_projection_wins() -> None:
    sources = [
        {"configMap": {"name": "c", "items": [{"key": "a", "path": "f"}]}},
        {"secret": {"name": "s", "items": [{"key": "pw", "path": "f"}]}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    files = found({"projected": {"sources": sources, "defaultMode": 0o440}}, labels={"b": "2", "a": 'q"'})
    assert files == {"f": (b"hunter2", 0o440), "labels": (b'a="q\\""\nb="2"', 0o440)}


def test_resources_go_through_the_downward_api() -> None:
    item = {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu"}}
    assert found({"downwardAPI": {"items": [item]}}) == {"cpu": (b"2", 0o644)}


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "x"}}, 'volume "v" : configmap "x" not found'),
        ({"secret": {"secretName": "x"}}, 'secret "x" not found'),
        ({"configMap": {"name": "c", "items": [{"key": "z", "path": "z"}]}}, "non-existent config key: z"),
        ({"secret": {"secretName": "s", "items": [{"key": "z", "path": "z"}]}}, "non-existent secret key: z"),
        ({"configMap": {"name": "c", "items": [{"key": "a", "path": "../a"}]}}, "neither contain nor start"),
        ({"configMap": {"name": "c", "items": [{"key": "a", "path": "..a"}]}}, "neither contain nor start"),
        ({"configMap": {"name": "c", "items": [{"key": "a", "path": "/a"}]}}, "relative path"),
        ({"configMap": {"name": "c", "items": [{"key": "a", "path": "a" * 300}]}}, "at most 255"),
        (
            {"configMap": {"name": "c", "items": [{"key": "a", "path": "x/y"}, {"key": "a", "path": "x"}]}},
            "path x/y: x is a file of the volume too",
        ),
    ],
)
def test_what_is_missing_or_leads_outside_is_named(volume: dict[str, Any], message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        found(volume)


def test_what_is_optional_may_be_missing() -> None:
    assert found({"configMap": {"name": "x", "optional": True}}) == {}
    items = [{"key": "z", "path": "z"}, {"key": "pw", "path": "p"}]
    assert found({"secret": {"secretName": "s", "optional": True, "items": items}}) == {"p": (b"hunter2", 0o644)}


def test_no_text_of_a_file_shows_what_it_holds() -> None:
    assert "hunter2" not in f"{File(b'hunter2', 0o644)} {[File(b'hunter2', 0o644)]!r}"


def test_all_objects_of_a_pod_are_known() -> None:
    given = pod({"projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "s"}}]}})
    assert objects_of(given) == {("ConfigMap", "c"), ("Secret", "s")}


def test_an_env_file_holds_quoted_values() -> None:
    text = "# comment\n\n A='1' # why\nB='two\nlines'\nC= 'x'\nA='later'\n"
    assert parse_env_file(text, "f") == {"A": "1", "B": "two\nlines", "C": ""}


@pytest.mark.parametrize("text", ["A", "A=hunter2", "A ='hunter2'", "='hunter2'", "A='hunter2", "A='x' hunter2"])
def test_a_wrong_line_is_reported_by_number_and_not_by_what_it_says(text: str) -> None:
    with pytest.raises(ContainerError, match="line 2") as caught:
        parse_env_file("OK='1'\n" + text, "f")
    assert "hunter2" not in str(caught.value)
