"""Protobuf bodies as client-go's typed clients send them."""

from __future__ import annotations

import pytest

from minipod.rest.protobuf import ProtobufError, decode

# kubectl create namespace foo
NAMESPACE = bytes.fromhex(
    "6b3873000a0f0a02763112094e616d657370616365121b0a130a03666f6f12001a0022002a0032003800420012001a020a001a002200"
)


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def body(kind: str, message: bytes, version: str = "v1") -> bytes:
    return b"k8s\0" + field(1, field(1, version.encode()) + field(2, kind.encode())) + field(2, message)


METADATA = field(1, field(1, b"web") + field(11, field(1, b"app") + field(2, b"w")) + field(8, b""))


def test_what_kubectl_sends_is_read() -> None:
    assert decode(NAMESPACE) == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "foo"}}


def test_maps_bytes_and_empty_strings() -> None:
    secret = METADATA + field(2, field(1, b"k") + field(2, b"\x00\xff")) + field(3, b"Opaque")
    assert decode(body("Secret", secret)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "web", "labels": {"app": "w"}},
        "data": {"k": "AP8="},
        "type": "Opaque",
    }


def test_inlined_sources_quantities_and_ports_are_as_in_json() -> None:
    volume = field(1, b"data") + field(2, field(2, field(2, field(1, b"1Gi"))))
    probe = field(1, field(3, field(1, field(1, 0) + field(2, 8080)))) + field(4, 5)
    container = field(1, b"main") + field(2, b"busybox") + field(10, probe) + field(16, 0)
    spec = field(1, volume) + field(2, container) + field(4, 0) + field(21, 0)
    found = decode(body("Pod", METADATA + field(2, spec)))["spec"]
    assert found["volumes"] == [{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}]
    assert found["containers"][0]["livenessProbe"] == {"tcpSocket": {"port": 8080}, "periodSeconds": 5}
    assert found["terminationGracePeriodSeconds"] == 0  # a pointer: zero was asked for


def test_times_are_rfc_3339() -> None:
    metadata = field(1, field(1, b"x") + field(8, field(1, 1_700_000_000)))
    assert decode(body("ConfigMap", metadata))["metadata"]["creationTimestamp"] == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"k8s\0",
        body("Pod", b"\x0a\xff"),  # a length beyond the end
        body("Pod", b"\x0a" + b"\xff" * 11),  # a length that does not end
        body("Pod", field(1, 7)),  # a number where a message is wanted
        body("Pod", field(1, field(1, b"\xff\xfe"))),  # no UTF-8
        body("Deployment", b""),
        body("ConfigMap", field(1, field(8, field(1, 1 << 62)))),  # a time that no calendar has
        b"k8s\0\x0b\x00",  # groups are not used
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ProtobufError):
        decode(data)
