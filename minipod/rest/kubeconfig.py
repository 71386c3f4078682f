"""A kubeconfig with a client certificate in it (layer 6, pure but for the certificate)."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import msgspec

from minipod.rest.certificates import Certificates

_NAME = "minipod"


def kubeconfig(certificates: Certificates, server: str, user: str, groups: Sequence[str]) -> str:
    """JSON, which is YAML too. Raises OSError."""
    key, certificate = certificates.client(user, groups)
    authority = certificates.ca.read_bytes()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": _NAME,
        "clusters": [{"name": _NAME, "cluster": {"server": server, "certificate-authority-data": _base64(authority)}}],
        "users": [
            {
                "name": user,
                "user": {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)},
            }
        ],
        "contexts": [{"name": _NAME, "context": {"cluster": _NAME, "user": user}}],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
