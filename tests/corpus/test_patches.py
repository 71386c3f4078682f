"""Patches and three ways: what a real kubectl made of them, and what holds for all documents."""

from __future__ import annotations

import contextlib
import gzip
import json
from copy import deepcopy
from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st

from minipod.api.merge import rules
from minipod.api.merge.difference import difference, three_way
from minipod.api.merge.json_merge import json_merge
from minipod.api.merge.json_patch import json_patch
from minipod.api.merge.strategic import strategic
from minipod.errors import PatchError
from tests.conftest import CHECKOUT

Data = dict[str, Any]


def outcome(row: Data) -> Any:
    """What minipod makes of a recorded row: the document, or the error's text."""
    document, patch = row["document"], row["patch"]
    try:
        match row["type"]:
            case "apply":
                return three_way("Pod", row["applied"], row["wanted"], document)
            case "json":
                return json_patch(document, patch)
            case "merge":
                return json_merge(document, patch)
        return strategic(document["kind"], document, patch)
    except PatchError as error:
        return str(error).strip()


def test_documents_become_what_kubectl_makes_of_them() -> None:
    """471 cases: `kubectl patch --local` (1.20), and `kubectl apply` against a server that had the document.

    Left out are those in which later versions do otherwise (directives and nulls inside of what is new), and those
    that depend on memory that Go's lists share (a new item and one that the patch does not name).
    """
    text = gzip.decompress((CHECKOUT / "tests/data/patches.jsonl.gz").read_bytes()).decode()
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) > 400
    wrong = []
    for row in rows:
        expected = row.get("error", row.get("result"))
        if (found := outcome(row)) != expected:
            wrong.append((row["type"], row["patch"], expected, found))
    assert not wrong, f"{len(wrong)}; the first: {wrong[0]}"


# --- generated documents

names = st.sampled_from("abcd")
words = st.sampled_from(["x", "y", "1", ""])


def items(key: str, keys: st.SearchStrategy[Any], fields: Data) -> st.SearchStrategy[list[Data]]:
    """A list whose items have different keys."""
    item = st.fixed_dictionaries({key: keys}, optional=fields)
    return st.lists(item, max_size=4, unique_by=lambda found: found[key])


env = items("name", names, {"value": words, "valueFrom": st.fixed_dictionaries({"fieldRef": st.just({})})})
ports = items("containerPort", st.integers(80, 83), {"protocol": st.sampled_from(["TCP", "UDP"]), "name": words})
mounts = items("mountPath", st.sampled_from(["/a", "/b"]), {"name": names, "readOnly": st.booleans()})
resources = st.dictionaries(st.sampled_from(["limits", "requests"]), st.dictionaries(names, words, max_size=2))
containers = items(
    "name",
    names,
    {
        "image": words,
        "args": st.lists(words, max_size=3),
        "env": env,
        "ports": ports,
        "volumeMounts": mounts,
        "resources": resources,
        "tty": st.booleans(),
    },
)
sources: Data = {"emptyDir": st.just({}), "hostPath": st.fixed_dictionaries({"path": words})}
volumes = items("name", names, sources)
specs = st.fixed_dictionaries(
    {},
    optional={
        "containers": containers,
        "initContainers": containers,
        "volumes": volumes,
        "nodeSelector": st.dictionaries(names, words, max_size=3),
        "tolerations": st.lists(st.fixed_dictionaries({"key": names}), max_size=2),
        "restartPolicy": words,
    },
)
metadata = st.fixed_dictionaries(
    {},
    optional={
        "labels": st.dictionaries(names, words, max_size=3),
        "finalizers": st.lists(names, max_size=4, unique=True),
    },
)
pods = st.fixed_dictionaries({}, optional={"metadata": metadata, "spec": specs})

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.just(1.0) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
DIRECTIVES = ["$patch", "$retainKeys", "$setElementOrder/containers", "$setElementOrder/finalizers",
              "$setElementOrder", "$deleteFromPrimitiveList/finalizers", "$deleteFromPrimitiveList"]  # fmt: skip
FIELDS = ["metadata", "spec", "containers", "volumes", "finalizers", "labels", "env", "ports", "name", "args"]
wild = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["a", "replace", "delete", "merge"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(DIRECTIVES + FIELDS), inner, max_size=4)
    ),
    max_leaves=20,
)


def holds(wanted: Any, found: Any, rule: rules.Rule = rules.ATOMIC, struct: str = "Pod") -> bool:
    """Whether everything of `wanted` is in `found`: maps by key, lists as their rules say."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        lists = rules.LISTS.get(struct, {})
        return all(
            key in found and holds(value, found[key], lists.get(key, rules.ATOMIC), STRUCTS.get(key, ""))
            for key, value in wanted.items()
        )
    if not isinstance(wanted, list) or not isinstance(found, list) or "merge" not in rule.strategies:
        return bool(wanted == found)
    if not rule.merge_key:
        return all(item in found for item in wanted)
    known = {item[rule.merge_key]: item for item in found}
    return all(holds(item, known.get(item[rule.merge_key]), struct=struct) for item in wanted)


STRUCTS = {"metadata": "ObjectMeta", "spec": "PodSpec", "containers": "Container", "initContainers": "Container",
           "volumes": "Volume"}  # fmt: skip


@given(pods)
def test_applying_what_there_is_changes_nothing(pod: Data) -> None:
    assert three_way("Pod", pod, pod, pod) == pod
    assert difference("Pod", pod, pod) == {}


@given(pods, pods)
def test_a_patch_made_of_two_documents_leads_from_one_to_the_other(before: Data, after: Data) -> None:
    kept = deepcopy((before, after))
    patch = difference("Pod", before, after)
    assert strategic("Pod", before, patch) == after
    assert (before, after) == kept


@given(pods, pods)
def test_a_patch_that_is_tried_again_changes_nothing_more(before: Data, after: Data) -> None:
    patch = difference("Pod", before, after)
    assert strategic("Pod", strategic("Pod", before, patch), patch) == after


def with_ports(*ports: Data) -> Data:
    return {"spec": {"containers": [{"name": "a", "ports": list(ports)}]}}


TCP, UDP = {"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}


@given(metadata, metadata, specs, specs)
def test_what_two_edited_at_the_same_time_is_both_there(
    old: Data, edited: Data, old_spec: Data, edited_spec: Data
) -> None:
    """`edit` sends the difference, and it is made in the object as it is by then."""
    before = {"metadata": old, "spec": old_spec}
    first = difference("Pod", before, {"metadata": edited, "spec": old_spec})
    second = difference("Pod", before, {"metadata": old, "spec": edited_spec})
    expected = {"metadata": edited, "spec": edited_spec}
    assert strategic("Pod", strategic("Pod", before, first), second) == expected
    assert strategic("Pod", strategic("Pod", before, second), first) == expected


@given(pods, pods, pods)
@example(with_ports(TCP, UDP), with_ports(UDP), with_ports(TCP, UDP))
def test_apply_gives_what_is_wanted_and_again_the_same(applied: Data, wanted: Data, current: Data) -> None:
    result = three_way("Pod", applied, wanted, current)
    assert holds(wanted, result)
    assert three_way("Pod", wanted, wanted, result) == result


@given(pods, pods)
def test_apply_takes_away_what_was_applied_and_nothing_else(applied: Data, others: Data) -> None:
    assume(not applied.keys() & others.keys())
    assert three_way("Pod", applied, {}, {**applied, **others}) == others


@given(json_values, json_values)
def test_json_merge_is_idempotent(document: Any, patch: Any) -> None:
    once = json_merge(document, patch)
    assert json_merge(once, patch) == once


@given(pods, wild)
@example({"metadata": {"finalizers": ["a"]}}, {"metadata": {"finalizers": [["a"]]}})
@example({"metadata": {"finalizers": []}}, {"metadata": {"$setElementOrder/finalizers": ["a"], "finalizers": []}})
def test_any_patch_is_applied_or_refused_in_words(pod: Data, patch: Any) -> None:
    kept = deepcopy((pod, patch))
    if isinstance(patch, dict):
        with contextlib.suppress(PatchError):
            strategic("Pod", pod, patch)
    json_merge(pod, patch)
    assert (pod, patch) == kept


keys = st.sampled_from(["a", "b", "0", "1", "-1", "-", "", "~0", "~1", "\u0660", "1_0", "9" * 30])
pointers = st.lists(keys, max_size=3).map(lambda found: "".join(f"/{key}" for key in found))
operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"])},
    optional={"path": pointers, "from": pointers, "value": json_values},
)


@given(json_values, st.lists(operations, max_size=4))
def test_any_json_patch_is_applied_or_refused_in_words(document: Any, patch: list[Data]) -> None:
    kept = deepcopy((document, patch))
    with contextlib.suppress(PatchError):
        json_patch({"a": document}, patch)
    assert (document, patch) == kept


@given(json_values, json_values)
def test_what_a_json_patch_added_it_finds_and_takes_away_again(document: Any, value: Any) -> None:
    before = {"a": document}
    added = [{"op": "add", "path": "/new~1key", "value": value}, {"op": "test", "path": "/new~1key", "value": value}]
    assert json_patch(before, [*added, {"op": "remove", "path": "/new~1key"}]) == before
