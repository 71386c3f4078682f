"""$(VAR) expansion and the environment, in the cases where guesses go wrong."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from minipod.api.types import Pod
from minipod.errors import ContainerError
from minipod.plan.env import (
    MAX_STRING,
    MAX_STRINGS,
    PodFacts,
    environment,
    expand,
    expand_all,
    expand_sub_path,
    format_map,
)

FACTS = PodFacts(
    "node-1",
    ("192.0.2.7", "2001:db8::7"),
    ("10.1.0.2", "fd00::2"),
    {"cpu": "2", "memory": "8589934592", "ephemeral-storage": "1000"},
)


class Store:
    def config_map(self, name: str) -> Mapping[str, str] | None:
        return {"settings": {"A": "1", "B": "two"}}.get(name)

    def secret(self, name: str) -> Mapping[str, str] | None:
        return {"keys": {"B": "secret"}}.get(name)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("$(A)", "1"),
        ("$(A)$(B)", "1two"),
        ("x$(A)y", "x1y"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$(NONE)", "$(NONE)"),
        ("$(A", "$(A"),
        ("$(A$(B)", "$(A$(B)"),
        ("$A ${A}", "$A ${A}"),
        ("100$", "100$"),
        ("$", "$"),
        ("", ""),
        ("$()", "empty"),
        ("$(A) $", "1 $"),
        ("$(LOOP)", "$(A)"),
    ],
)
def test_references_expand_as_kubernetes_expands_them(written: str, expected: str) -> None:
    assert expand(written, {"A": "1", "B": "two", "": "empty", "LOOP": "$(A)"}) == expected


def test_the_first_mapping_that_knows_a_name_wins() -> None:
    assert expand("$(A)$(B)", {"A": "1"}, {"A": "2", "B": "3"}) == "13"


def env_of(container: dict[str, Any], sources: Any = None, **spec: Any) -> dict[str, str]:
    metadata = {"name": "p", "namespace": "ns", "uid": "u", "labels": {"b": "2", "a/x": 'q"'}}
    pod = msgspec.convert({"metadata": metadata, "spec": {"containers": [{"name": "c", **container}], **spec}}, Pod)
    return environment(pod, pod.spec.containers[0], FACTS, sources)


def test_a_variable_sees_only_those_declared_before_it() -> None:
    env = [
        {"name": "LATE", "value": "$(A)"},
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)2"},
        {"name": "A", "value": "$(A)3"},
    ]
    assert env_of({"env": env}) == {"LATE": "$(A)", "A": "13", "B": "12"}


def test_expansion_stops_where_no_process_could_be_started_with_it() -> None:
    """Six variables of sixteen references each: 268 MB from 859 bytes."""
    env = [{"name": "V0", "value": "x" * 16}]
    env += [{"name": f"V{level}", "value": f"$(V{level - 1})" * 16} for level in range(1, 7)]
    found = env_of({"env": env})
    assert len(found["V3"]) == 65536
    assert MAX_STRING < len(found["V6"]) <= 2 * MAX_STRING


def test_all_variables_and_all_arguments_together_stop_there_too() -> None:
    """Ten thousand references to 100 KB: a gigabyte."""
    env = [{"name": "A", "value": "x" * 100_000}, *({"name": f"V{n}", "value": "$(A)"} for n in range(10_000))]
    assert MAX_STRINGS < sum(map(len, env_of({"env": env}).values())) <= MAX_STRINGS + MAX_STRING
    arguments = expand_all(["$(A)"] * 10_000, {"A": "x" * 100_000})
    assert MAX_STRINGS < sum(map(len, arguments)) <= MAX_STRINGS + MAX_STRING


def test_what_replaces_a_long_variable_counts_instead_of_it() -> None:
    env = [{"name": "A", "value": "x" * 1_000_000}] * 20
    assert list(env_of({"env": [*env, {"name": "B", "value": "1"}]})) == ["A", "B"]


def test_half_a_million_unclosed_references_are_looked_through_once() -> None:
    """A search for `)` at each of them is a hundred gigabytes of reading."""
    written = "$(" * 500_000
    begun = time.process_time()
    assert written.startswith(expand(written, {}))
    assert time.process_time() - begun < 0.5


def test_env_from_is_prefixed_and_later_ones_and_env_win() -> None:
    env_from = [{"configMapRef": {"name": "settings"}}, {"prefix": "", "secretRef": {"name": "keys"}}]
    env = [{"name": "C", "value": "$(A)$(B)"}, {"name": "A", "value": "own"}]
    assert env_of({"envFrom": env_from, "env": env}, Store()) == {"A": "own", "B": "secret", "C": "1secret"}
    prefixed = {"envFrom": [{"prefix": "P_", "configMapRef": {"name": "settings"}}]}
    assert env_of(prefixed, Store()) == {"P_A": "1", "P_B": "two"}


def test_a_missing_source_is_an_error_unless_it_is_optional() -> None:
    optional = {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}}
    assert env_of({"env": [{"name": "A", "valueFrom": optional}]}, Store()) == {}
    assert env_of({"envFrom": [{"secretRef": {"name": "none", "optional": True}}]}, Store()) == {}
    with pytest.raises(ContainerError, match='configmap "none" not found') as caught:
        env_of({"envFrom": [{"configMapRef": {"name": "none"}}]})
    assert caught.value.reason == "CreateContainerConfigError"
    with pytest.raises(ContainerError, match="couldn't find key z in Secret ns/keys"):
        env_of({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "z"}}}]}, Store())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "p"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u"),
        ("metadata.labels['a/x']", 'q"'),
        ("metadata.labels['none']", ""),
        ("metadata.labels", 'a/x="q\\""\nb="2"'),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", ""),
        ("status.hostIP", "192.0.2.7"),
        ("status.hostIPs", "192.0.2.7,2001:db8::7"),
        ("status.podIP", "10.1.0.2"),
        ("status.podIPs", "10.1.0.2,fd00::2"),
    ],
)
def test_field_references_name_the_pod_and_its_place(path: str, expected: str) -> None:
    assert env_of({"env": [{"name": "V", "valueFrom": {"fieldRef": {"fieldPath": path}}}]}) == {"V": expected}


@pytest.mark.parametrize(
    ("resource", "divisor", "expected"),
    [
        ("requests.cpu", "0", "1"),
        ("requests.cpu", "1m", "250"),
        ("limits.memory", "1Mi", "64"),
        ("limits.memory", "1M", "68"),
        ("limits.cpu", "0", "2"),
        ("limits.cpu", "1m", "2000"),
        ("requests.memory", "0", "0"),
        ("limits.ephemeral-storage", "0", "1000"),
    ],
)
def test_resource_references_are_divided_and_rounded_up(resource: str, divisor: str, expected: str) -> None:
    reference = {"resource": resource, "divisor": divisor}
    resources = {"requests": {"cpu": "250m"}, "limits": {"memory": "64Mi"}}
    env = [{"name": "V", "valueFrom": {"resourceFieldRef": reference}}]
    assert env_of({"env": env, "resources": resources}) == {"V": expected}


def test_a_missing_limit_is_the_pods_before_it_is_the_nodes() -> None:
    env = [{"name": "V", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}}]
    assert env_of({"env": env}, resources={"limits": {"cpu": "300m"}}) == {"V": "300"}


def test_a_reference_to_an_unknown_container_or_resource_is_an_error() -> None:
    for reference in ({"resource": "limits.cpu", "containerName": "none"}, {"resource": "limits.gpu"}):
        with pytest.raises(ContainerError):
            env_of({"env": [{"name": "V", "valueFrom": {"resourceFieldRef": reference}}]})


def test_map_values_are_quoted_as_go_quotes_them() -> None:
    assert format_map({"k": 'a"\\\n\x01é\u200b\U000e0001'}) == 'k="a\\"\\\\\\n\\x01é\\u200b\\U000e0001"'


def test_every_name_in_a_sub_path_expression_needs_a_value() -> None:
    assert expand_sub_path("$(A)/x", {"A": "1"}) == "1/x"
    with pytest.raises(ContainerError, match="missing value for B, C"):
        expand_sub_path("$(A)/$(C)/$(B)", {"A": "1", "B": ""})
