"""Which volume a claim gets."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minipod.api.types import PersistentVolume, PersistentVolumeClaim
from minipod.plan.volumes.claims import (
    admitted,
    best_volume,
    bound,
    grown,
    is_bound_to,
    provisioned,
    refusal_to_grow,
    why_pending,
)


def volume(name: str, storage: str = "1Gi", **spec: Any) -> PersistentVolume:
    base = {"capacity": {"storage": storage}, "accessModes": ["ReadWriteOnce"], "storageClassName": "disk"}
    labels = spec.pop("labels", {})
    data = {"metadata": {"name": name, "labels": labels}, "spec": base | spec, "status": {"phase": "Available"}}
    return msgspec.convert(data, PersistentVolume)


def claim(storage: str = "1Gi", **spec: Any) -> PersistentVolumeClaim:
    base = {"resources": {"requests": {"storage": storage}}, "accessModes": ["ReadWriteOnce"]}
    data = {
        "metadata": {"name": "c", "namespace": "default", "uid": "U"},
        "spec": base | {"storageClassName": "disk"} | spec,
    }
    return msgspec.convert(data, PersistentVolumeClaim)


def chosen(wanted: PersistentVolumeClaim, *volumes: PersistentVolume) -> str | None:
    found = best_volume(wanted, volumes)
    return None if found is None else found.metadata.name


def test_the_smallest_that_is_large_enough_is_taken() -> None:
    assert chosen(claim("2Gi"), volume("a", "10Gi"), volume("b", "2Gi"), volume("c", "1Gi")) == "b"


def test_access_modes_and_class_have_to_fit() -> None:
    assert chosen(claim(accessModes=["ReadWriteMany"]), volume("a")) is None
    assert chosen(claim(storageClassName="other"), volume("a")) is None
    assert (
        chosen(claim(accessModes=["ReadWriteOnce"]), volume("a", accessModes=["ReadWriteMany", "ReadWriteOnce"])) == "a"
    )


def test_a_selector_chooses_by_labels() -> None:
    wanted = claim(selector={"matchLabels": {"tier": "db"}})
    assert chosen(wanted, volume("a"), volume("b", "5Gi", labels={"tier": "db"})) == "b"


def test_a_volume_that_is_promised_to_it_goes_before_a_smaller_one() -> None:
    promised = volume("b", "5Gi", claimRef={"namespace": "default", "name": "c"})
    assert chosen(claim(), volume("a"), promised) == "b"
    other = volume("b", "5Gi", claimRef={"namespace": "default", "name": "x"})
    assert chosen(claim(), other) is None


def test_a_released_volume_is_not_given_to_a_new_claim_of_the_same_name() -> None:
    assert chosen(claim(), volume("a", claimRef={"namespace": "default", "name": "c", "uid": "earlier"})) is None


def test_volume_name_wants_that_one_whatever_the_selector_says() -> None:
    wanted = claim(volumeName="b", selector={"matchLabels": {"tier": "db"}})
    assert chosen(wanted, volume("a"), volume("b", "5Gi")) == "b"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"storageClassName": "x"}, 'Cannot bind to requested volume "b": storageClassName does not match'),
        (
            {"resources": {"requests": {"storage": "9Gi"}}},
            'Cannot bind to requested volume "b": requested PV is too small',
        ),
        ({"accessModes": ["ReadWriteMany"]}, 'Cannot bind to requested volume "b": incompatible accessMode'),
        ({"volumeMode": "Block"}, 'Cannot bind to requested volume "b": incompatible volumeMode'),
    ],
)
def test_what_a_named_volume_lacks_is_said_as_by_the_controller(spec: dict[str, Any], message: str) -> None:
    wanted, volumes = claim(volumeName="b", **spec), [volume("b")]
    assert chosen(wanted, *volumes) is None
    assert why_pending(wanted, volumes) == ("Warning", "VolumeMismatch", message)


def test_a_volume_of_another_claim_and_one_that_is_missing_are_waited_for() -> None:
    taken = volume("b", claimRef={"namespace": "default", "name": "other", "uid": "O"})
    message = 'volume "b" already bound to a different claim.'
    assert why_pending(claim(volumeName="b"), [taken]) == ("Warning", "FailedBinding", message)
    assert why_pending(claim(volumeName="b"), []).message == 'volume "b" does not exist'


def test_the_annotations_say_who_chose() -> None:
    by_us = bound(claim(), volume("a"))
    assert set(by_us[0].metadata.annotations) == {
        "pv.kubernetes.io/bind-completed",
        "pv.kubernetes.io/bound-by-controller",
    }
    by_user = bound(claim(volumeName="a"), volume("a", claimRef={"namespace": "default", "name": "c"}))
    assert set(by_user[0].metadata.annotations) == {"pv.kubernetes.io/bind-completed"}
    assert not by_user[1].metadata.annotations


def test_both_know_each_other_when_bound() -> None:
    new_claim, new_volume = bound(claim(), volume("a", "5Gi"))
    assert (new_claim.status.phase, new_claim.spec.volume_name) == ("Bound", "a")
    assert new_claim.status.capacity == {"storage": "5Gi"}
    assert new_volume.status.phase == "Bound"
    assert is_bound_to(new_volume, new_claim)


def test_a_claim_without_class_gets_the_default_one_and_a_folder() -> None:
    plain = claim()
    plain = admitted(msgspec.structs.replace(plain, spec=msgspec.structs.replace(plain.spec, storage_class_name=None)))
    assert plain.spec.storage_class_name == "local"
    assert plain.metadata.finalizers == ("kubernetes.io/pvc-protection",)
    made = provisioned(plain, "/state")
    assert made is not None
    assert made.spec.local is not None
    assert made.spec.local.path == "/state/pv/pvc-U"
    assert made.spec.persistent_volume_reclaim_policy == "Delete"


def test_the_retaining_class_keeps_folders() -> None:
    made = provisioned(claim(storageClassName="local-retain"), "/state")
    assert made is not None
    assert made.spec.persistent_volume_reclaim_policy == "Retain"


@pytest.mark.parametrize("name", ["", "fast"])
def test_other_classes_make_nothing_and_say_so(name: str) -> None:
    assert provisioned(claim(storageClassName=name), "/state") is None
    assert "class" in why_pending(claim(storageClassName=name), ()).message


def test_a_folder_that_minipod_made_grows_with_its_claim_and_nothing_else_does() -> None:
    made = provisioned(claim(storageClassName="local"), "/state")
    assert made is not None
    larger = claim("3Gi", storageClassName="local")
    both = grown(larger, made)
    assert both is not None
    assert both[0].status.capacity == both[1].spec.capacity == {"storage": "3Gi"}
    assert grown(claim("1Gi", storageClassName="local"), made) is None
    assert grown(larger, volume("users")) is None
    assert refusal_to_grow(larger, claim(storageClassName="local")) == ""
    assert "only dynamically provisioned pvc can be resized" in refusal_to_grow(claim("3Gi"), claim())
