"""Defaults: equal to what the API server stored, on every valid case."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from minipod.api import types
from minipod.api.defaults import defaulted
from minipod.api.load import load
from tests.conftest import CHECKOUT

DATA = CHECKOUT / "tests" / "data"


def stored(value: types.Object) -> Any:
    data = json.loads(msgspec.json.encode(value))
    for condition in data.get("status", {}).get("conditions", ()):
        condition.pop("lastTransitionTime")
    return data


def stored_there(case: dict[str, Any]) -> Any:
    for condition in case["defaulted"]["status"].get("conditions", ()):
        condition.pop("lastTransitionTime", None)
    return case["defaulted"]


def test_every_valid_text_is_stored_as_the_api_server_stores_it() -> None:
    for case in map(json.loads, (DATA / "pods-yaml.jsonl").read_text().splitlines()):
        if case["expect"] == "valid":
            (document,) = load(case["text"])
            assert stored(defaulted(document.object)) == stored_there(case), case["name"]


def test_defaulting_twice_changes_nothing_more() -> None:
    pod = types.Pod(spec=types.PodSpec(containers=(types.Container(name="c", image="busybox"),)))
    assert defaulted(defaulted(pod)) == defaulted(pod)


@pytest.mark.parametrize(
    ("image", "policy"),
    [("busybox", "Always"), ("busybox:latest", "Always"), ("busybox:1", "IfNotPresent"), ("Bad:", "IfNotPresent")],
)
def test_the_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    pod = types.Pod(spec=types.PodSpec(containers=(types.Container(name="c", image=image),)))
    assert defaulted(pod).spec.containers[0].image_pull_policy == policy


def test_creation_stamps_the_time_it_is_given() -> None:
    gate = types.PodSchedulingGate(name="example.com/wait")
    pod = types.Pod(spec=types.PodSpec(scheduling_gates=(gate,)))
    (condition,) = defaulted(pod, now="2026-01-01T00:00:00Z").status.conditions
    assert (condition.reason, condition.last_transition_time) == ("SchedulingGated", "2026-01-01T00:00:00Z")


def test_a_secret_s_plain_texts_become_data() -> None:
    secret = defaulted(types.Secret(data={"a": b"1", "b": b"2"}, string_data={"b": "3"}))
    assert secret.data == {"a": b"1", "b": b"3"}
    assert (secret.string_data, secret.type, secret.metadata.namespace) == ({}, "Opaque", "default")


def test_claims_and_volumes_get_their_mode() -> None:
    volume = defaulted(types.PersistentVolume(spec=types.PersistentVolumeSpec(capacity={"storage": "1Gi"})))
    assert (volume.spec.volume_mode, volume.spec.persistent_volume_reclaim_policy) == ("Filesystem", "Retain")
    assert (volume.status.phase, volume.metadata.namespace) == ("Pending", "")
    claim = defaulted(types.PersistentVolumeClaim(), namespace="x")
    assert (claim.spec.volume_mode, claim.status.phase, claim.metadata.namespace) == ("Filesystem", "Pending", "x")


def test_namespaces_and_nodes_get_theirs() -> None:
    namespace = defaulted(types.Namespace(metadata=types.ObjectMeta(name="n")))
    assert namespace.metadata.labels == {"kubernetes.io/metadata.name": "n"}
    assert namespace.spec.finalizers == ("kubernetes",)
    node = defaulted(types.Node(status=types.NodeStatus(capacity={"cpu": "1.0001"})))
    assert node.status.allocatable == {"cpu": "1001m"}
