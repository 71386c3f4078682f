"""The generated structs: up to date, true to the wire, frozen."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest

from minipod.api import types
from minipod.api.schema import fields_of
from tests.conftest import CHECKOUT


def wire(value: types.Object) -> object:
    return json.loads(msgspec.json.encode(value))


def test_types_and_rules_are_what_the_generator_writes() -> None:
    done = subprocess.run([sys.executable, CHECKOUT / "scripts/generate-types", "--check"], check=False)
    assert done.returncode == 0, "run scripts/generate-types"


def test_every_field_of_the_openapi_document_is_there() -> None:
    document = json.loads((CHECKOUT / "scripts/data/openapi-core-v1.json").read_text())["definitions"]
    for name, schema in document.items():
        struct = getattr(types, name.rsplit(".", 1)[1], None)
        if schema.get("properties"):
            assert set(fields_of(struct)) == set(schema["properties"]), name


def test_names_on_the_wire_are_kubernetes_own() -> None:
    status = types.PodStatus(pod_ip="10.0.0.1", pod_ips=(types.PodIP(ip="10.0.0.1"),), host_ip="1.2.3.4")
    assert wire(status) == {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "hostIP": "1.2.3.4"}
    assert wire(types.PodSpec(set_hostname_as_fqdn=True, host_pid=True, containers=())) == {
        "setHostnameAsFQDN": True,
        "hostPID": True,
        "containers": [],
    }


def test_a_pointer_shows_its_zero_and_a_plain_field_does_not() -> None:
    assert wire(types.SecurityContext(run_as_user=0, privileged=False)) == {"runAsUser": 0, "privileged": False}
    assert wire(types.Container(name="c", tty=False)) == {"name": "c", "resources": {}}


def test_required_fields_are_written_even_when_they_are_empty() -> None:
    shown = wire(types.ContainerStatus(name="c"))
    assert shown == {
        "name": "c",
        "ready": False,
        "restartCount": 0,
        "image": "",
        "imageID": "",
        "state": {},
        "lastState": {},
    }
    assert wire(types.PodCondition(type="Ready", status="True")) == {
        "type": "Ready",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": None,
    }


def test_objects_name_their_kind() -> None:
    assert wire(types.ConfigMap(data={"a": "b"})) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {},
        "data": {"a": "b"},
    }


def test_secret_data_is_bytes_here_and_base64_on_the_wire() -> None:
    secret = types.Secret(data={"k": b"\x00\xff"})
    assert wire(secret)["data"] == {"k": "AP8="}  # type: ignore[index]
    assert msgspec.json.decode(msgspec.json.encode(secret), type=types.Secret) == secret


def test_structs_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        types.Pod().kind = "x"  # type: ignore[misc]
