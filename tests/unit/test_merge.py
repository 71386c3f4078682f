"""Three ways and patches: what becomes of an object, field by field of the schema."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

from minipod.api.merge import rules, without_server_fields
from minipod.api.merge.difference import difference, three_way
from minipod.api.merge.strategic import strategic
from minipod.api.merge.values import text
from minipod.api.patch import PatchType, patched
from minipod.errors import PatchError
from tests.conftest import CHECKOUT

Data = dict[str, Any]


def pod(spec: Data | None = None, **metadata: Any) -> Data:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", **metadata}, "spec": spec or {}}


def container(name: str = "c", **fields: Any) -> Data:
    return {"name": name, **fields}


def applied(before: Data, now: Data, current: Data) -> Data:
    """The spec after `apply` of one container's fields."""
    pods = [pod({"containers": [container(**fields)]}) for fields in (before, now, current)]
    result: Data = three_way("Pod", *pods)["spec"]["containers"][0]
    return result


def spec_after(current: Data, patch: Data) -> Data:
    result: Data = strategic("Pod", pod(current), {"spec": patch})["spec"]
    return result


# --- the table of rules


def test_every_list_of_the_document_has_its_rule() -> None:
    definitions = json.loads((CHECKOUT / "scripts/data/openapi-core-v1.json").read_text())["definitions"]
    missing = [
        (name, field)
        for name, schema in ((path.rsplit(".", 1)[1], schema) for path, schema in definitions.items())
        for field, spec in schema.get("properties", {}).items()
        if spec.get("type") == "array" and field not in rules.LISTS.get(name, {})
    ]
    assert not missing


def test_rules_hold_what_patches_and_server_side_apply_need() -> None:
    assert rules.LISTS["Container"]["ports"] == rules.Rule(
        "map", ("containerPort", "protocol"), "containerPort", ("merge",)
    )
    assert rules.LISTS["PodSpec"]["volumes"].strategies == ("merge", "retainKeys")
    assert rules.LISTS["ObjectMeta"]["finalizers"] == rules.Rule("set", strategies=("merge",))
    assert rules.LISTS["PodStatus"]["hostIPs"] == rules.Rule("atomic", (), "ip", ("merge",))
    assert rules.LISTS["Container"]["args"] == rules.ATOMIC
    assert "LabelSelector" in rules.ATOMIC_TYPES
    assert rules.MAP_TYPES["PodSpec", "nodeSelector"] == "atomic"


def test_a_list_that_is_merged_as_maps_has_a_key() -> None:
    odd = [
        (name, field)
        for name, fields in rules.LISTS.items()
        for field, rule in fields.items()
        if "merge" in rule.strategies and not rule.merge_key and rule.list_type != "set"
    ]
    assert not odd


# --- three ways


def test_what_the_manifest_no_longer_has_goes_and_what_others_wrote_stays() -> None:
    before = pod(labels={"app": "web", "old": "1"})
    now = pod(labels={"app": "api"})
    current = pod(labels={"app": "web", "old": "1", "by": "other"})
    assert three_way("Pod", before, now, current)["metadata"]["labels"] == {"app": "api", "by": "other"}


@pytest.mark.parametrize(
    ("before", "now", "current", "expected"),
    [
        pytest.param(
            {"image": "a"}, {"image": "b"}, {"image": "a", "tty": True}, {"image": "b", "tty": True}, id="field"
        ),
        pytest.param({"tty": True}, {}, {"tty": True, "stdin": True}, {"stdin": True}, id="field that is gone"),
        pytest.param(
            {"args": ["a", "b"]}, {"args": ["c"]}, {"args": ["a", "b", "x"]}, {"args": ["c"]}, id="atomic list replaced"
        ),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"env": [{"name": "A", "value": "3"}]},
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "X", "value": "other"}]},
            {"env": [{"name": "A", "value": "3"}, {"name": "X", "value": "other"}]},
            id="list by its merge key",
        ),
        pytest.param(
            {},
            {"ports": [{"containerPort": 80}]},
            {"ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 81, "protocol": "TCP"}]},
            {"ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 81, "protocol": "TCP"}]},
            id="ports by their number",
        ),
        pytest.param(
            {"ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}]},
            {"ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}]},
            {"ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}]},
            {"ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}]},
            id="a port of two protocols, unchanged",
        ),
        pytest.param(
            {"resources": {"limits": {"cpu": "1"}}},
            {"resources": {"limits": {"cpu": "2"}}},
            {"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}},
            {"resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}},
            id="maps in maps",
        ),
    ],
)
def test_apply_of_a_container(before: Data, now: Data, current: Data, expected: Data) -> None:
    assert applied(before, now, current) == {"name": "c", **expected}


def test_apply_of_another_kind_of_volume_leaves_nothing_of_the_first() -> None:
    """patchStrategy retainKeys: a default of the first kind, which no manifest has, would make two kinds."""
    before = pod({"volumes": [{"name": "v", "emptyDir": {}}]})
    now = pod({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]})
    current = pod({"volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}, {"name": "kube-api", "projected": {}}]})
    assert three_way("Pod", before, now, current)["spec"]["volumes"] == [
        {"name": "v", "hostPath": {"path": "/x"}},
        {"name": "kube-api", "projected": {}},
    ]


def test_apply_keeps_others_finalizers() -> None:
    before, now = pod(finalizers=["a", "b"]), pod(finalizers=["b", "c"])
    current = pod(finalizers=["a", "x", "b"])
    assert three_way("Pod", before, now, current)["metadata"]["finalizers"] == ["x", "b", "c"]


def test_a_field_name_alone_is_no_rule() -> None:
    """`items`, `env` or `ports` of a ConfigMap are data, and a projected volume's items are replaced."""
    before = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"ports": "80"}}
    assert three_way("ConfigMap", before, before, before) == before
    volume = {"name": "v", "secret": {"secretName": "s", "items": [{"key": "a", "path": "a"}]}}
    now = {"name": "v", "secret": {"secretName": "s", "items": [{"key": "b", "path": "b"}]}}
    assert three_way("Pod", pod({"volumes": [volume]}), pod({"volumes": [now]}), pod({"volumes": [volume]}))["spec"][
        "volumes"
    ] == [now]


def test_the_order_of_containers_is_the_manifests() -> None:
    a, b, x = container("a", image="i"), container("b", image="i"), container("x", image="i")
    result = three_way("Pod", pod({"containers": [a, b]}), pod({"containers": [b, a]}), pod({"containers": [a, b, x]}))
    assert [item["name"] for item in result["spec"]["containers"]] == ["b", "a", "x"]


def test_an_item_that_someone_took_away_comes_back() -> None:
    a, b = container("a", image="i", tty=True), container("b", image="i")
    now = container("a", image="i")
    result = three_way("Pod", pod({"containers": [a, b]}), pod({"containers": [now, b]}), pod({"containers": [b]}))
    assert result["spec"]["containers"] == [now, b]


def test_the_arguments_stay_as_they_are() -> None:
    before, now = pod({"containers": [container(image="a")]}), pod({"containers": [container(image="b")]})
    copies = deepcopy((before, now))
    three_way("Pod", before, now, before)
    patch: Data = {"spec": {"$setElementOrder/containers": [{"name": "c"}], "containers": [container(tty=True)]}}
    kept = deepcopy(patch)
    strategic("Pod", before, patch)
    patched("Pod", before, [{"op": "add", "path": "/spec/containers/0/tty", "value": True}], "json")
    assert (before, now) == copies
    assert patch == kept


def test_server_fields_are_not_applied() -> None:
    written = {"kind": "Pod", "metadata": {"name": "a", "uid": "1", "resourceVersion": "2"}, "status": {}, "spec": {}}
    assert without_server_fields(written) == {"kind": "Pod", "metadata": {"name": "a"}, "spec": {}}


# --- a patch made of two documents


def test_a_difference_has_the_directives_of_kubernetes() -> None:
    before = pod(
        {"containers": [container("a", image="1"), container("b")], "volumes": [{"name": "v", "emptyDir": {}}]},
        labels={"old": "1"},
        finalizers=["x", "y"],
    )
    after = pod(
        {"containers": [container("a", image="2")], "volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
        labels={"new": "1"},
        finalizers=["y"],
    )
    assert difference("Pod", before, after) == {
        "metadata": {
            "labels": {"new": "1", "old": None},
            "$deleteFromPrimitiveList/finalizers": ["x"],
            "$setElementOrder/finalizers": ["y"],
        },
        "spec": {
            "containers": [{"name": "a", "image": "2"}, {"name": "b", "$patch": "delete"}],
            "$setElementOrder/containers": [{"name": "a"}],
            "volumes": [
                {"name": "v", "hostPath": {"path": "/"}, "emptyDir": None, "$retainKeys": ["hostPath", "name"]}
            ],
            "$setElementOrder/volumes": [{"name": "v"}],
        },
    }


def test_a_list_that_becomes_empty_has_no_order() -> None:
    before, after = pod({"volumes": [{"name": "v"}]}, finalizers=["x"]), pod({"volumes": []}, finalizers=[])
    assert difference("Pod", before, after) == {
        "metadata": {"$deleteFromPrimitiveList/finalizers": ["x"]},
        "spec": {"volumes": [{"name": "v", "$patch": "delete"}]},
    }


def test_no_difference_is_an_empty_patch() -> None:
    here = pod({"containers": [container(env=[{"name": "A"}])]}, finalizers=["x"])
    assert difference("Pod", here, deepcopy(here)) == {}


# --- strategic merge


def test_a_null_below_something_new_is_nothing() -> None:
    assert spec_after({}, {"securityContext": {"runAsUser": 1, "runAsGroup": None}}) == {
        "securityContext": {"runAsUser": 1}
    }


def test_directives_are_never_stored() -> None:
    """kubectl 1.20 kept them, later servers do not: what stands in a new item, list or map is data alone."""
    patch = {
        "containers": [{"name": "n", "$retainKeys": ["name"], "env": [{"name": "A", "$patch": "delete"}]}],
        "initContainers": [{"name": "i", "$patch": "delete"}, {"name": "j"}],
        "nodeSelector": {"$patch": "replace", "a": "1"},
    }
    assert spec_after({"containers": [container("c")]}, patch) == {
        "containers": [{"name": "n", "env": []}, {"name": "c"}],
        "initContainers": [{"name": "j"}],
    }


def test_a_list_to_delete_from_that_is_not_there_stays_away() -> None:
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"]}}
    assert strategic("Pod", pod(), patch) == pod()


def test_true_is_not_one() -> None:
    """Python's `==` would find container port True."""
    ports = [{"containerPort": 1}]
    with pytest.raises(PatchError, match="does not contain declared merge key: containerPort"):
        spec_after({"containers": [container(ports=ports)]}, {"containers": [container(ports=[{"name": "x"}])]})
    result = spec_after(
        {"containers": [container(ports=ports)]}, {"containers": [container(ports=[{"containerPort": True}])]}
    )
    assert len(result["containers"][0]["ports"]) == 2


def test_values_are_printed_as_go_prints_them() -> None:
    assert text({"b": [1, "x", None], "a": {"t": True}}) == "map[a:map[t:true] b:[1 x <nil>]]"


# --- the face: objects, and what the API server refuses


@pytest.mark.parametrize(
    ("patch", "kind", "code", "message"),
    [
        ([], "strategic", 400, "json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ("x", "merge", 400, "error decoding patch: json: cannot unmarshal string into Go value of type map"),
        ({}, "json", 400, "error decoding patch: json: cannot unmarshal object into Go value of type []handlers"),
        ([1], "json", 400, "error decoding patch: json: cannot unmarshal number into Go value of type handlers"),
        ({"metadata": {"name": "b"}}, "merge", 400, "the name of the object (b) does not match"),
        ({"metadata": {"namespace": "b"}}, "strategic", 400, "the namespace of the object (b) does not match"),
        ({"metadata": None}, "merge", 400, "metadata must stay an object"),
        ({"kind": "Secret"}, "merge", 400, "kind cannot be changed"),
        ([{"op": "remove", "path": "/nothing"}], "json", 422, "Unable to remove nonexistent key: nothing: missing"),
        ([{"op": "replace", "path": "/x", "value": 1}], "json", 422, "doc is missing key: /x: missing value"),
        ([{"op": "copy", "from": "/x", "path": "/y"}], "json", 422, "unable to get nonexistent key: x: missing value"),
        ([{"op": "test", "path": "/spec"}] * 10_001, "json", 413, "operations in a JSON patch is 10000, got 10001"),
        ({"spec": {"$retainKeys": "x"}}, "strategic", 400, "invalid patch format of retainKeys"),
    ],
)  # fmt: skip
def test_refused_patches(patch: Any, kind: PatchType, code: int, message: str) -> None:
    with pytest.raises(PatchError) as refused:
        patched("Pod", pod(uid="1"), patch, kind)
    assert message in str(refused.value)
    assert refused.value.code == code


def test_objects_in_a_list_of_strings_have_no_difference() -> None:
    before, after = ({"metadata": {"finalizers": [{"a": value}]}} for value in (1, 2))
    with pytest.raises(PatchError, match="cannot merge lists without merge key"):
        difference("Pod", before, after)


def test_copies_have_a_limit() -> None:
    """Each copy of the whole doubles the document."""
    operations = [{"op": "copy", "from": "/spec", "path": f"/spec/{n}"} for n in range(64)]
    with pytest.raises(PatchError, match="exceeding the limit 3145728"):
        patched("Pod", pod({"x": "y" * 1000}), operations, "json")


def test_the_limit_of_copies_is_of_all_together() -> None:
    operations = [{"op": "copy", "from": "/spec/x", "path": f"/spec/{n}"} for n in range(40)]
    assert len(patched("Pod", pod({"x": "y" * 50_000}), operations, "json")["spec"]) == 41
    with pytest.raises(PatchError, match="exceeding the limit 3145728"):
        patched("Pod", pod({"x": "y" * 100_000}), operations, "json")


def test_a_patch_as_deep_as_the_stack_is_refused() -> None:
    patch: Data = {}
    for _ in range(100_000):
        patch = {"a": patch}
    for kind in ("strategic", "merge"):
        with pytest.raises(PatchError, match="too deep"):
            patched("Pod", pod(), patch, kind)


def test_a_kind_that_is_unknown_is_refused() -> None:
    for kind in ("Deployment", "Object", "annotations"):
        with pytest.raises(PatchError, match="unable to find api type"):
            strategic(kind, {}, {"a": 1})
