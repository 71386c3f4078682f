"""Pulls as tests do them: quickly, without this host's passwords and settings."""

from __future__ import annotations

import base64
import json
import os
import threading
from pathlib import Path
from typing import Any

from minipod.api.references import parse_reference
from minipod.runtime.images.registry.credentials import parse_secret
from minipod.runtime.images.registry.hosts import Registries, RegistryOptions
from minipod.runtime.images.registry.pull import Pulled, pull
from minipod.runtime.images.store import ImageStore
from tests.layouts import archive, entry, folder
from tests.registry import Registry

HELLO = archive([folder("etc"), entry("etc/motd", b"hello\n")])
LARGE = archive([entry("noise", os.urandom(3 << 20))])
QUICK = {"stall_timeout_s": 0.5, "connect_timeout_s": 1.0, "max_wait_s": 0.02, "attempts": 3}


def get(
    store: ImageStore,
    registry: Registry,
    name: str = "test",
    *,
    host: str = "",
    options: dict[str, RegistryOptions] | None = None,
    secrets: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    stop: threading.Event | None = None,
    **limits: float,
) -> Pulled:
    settings = Registries(registry=options or {}, **{**QUICK, **limits})  # type: ignore[arg-type]
    return pull(
        store,
        parse_reference(f"{host or registry.host}/{name}"),
        secrets=[("secret", parse_secret(json.dumps(secrets), "secret"))] if secrets else (),
        registries=settings,
        environment={"HOME": "/nowhere", **(environment or {})},
        stop=stop,
    )


def motd(pulled: Pulled) -> str:
    return Path(pulled.image.layers[0], "etc/motd").read_text()


def left_over(store: ImageStore) -> list[str]:
    return [name for part in ("tmp", "ingest") for name in os.listdir(store.path / part)]


def login(host: str, user: str, password: str) -> dict[str, Any]:
    return {"auths": {host: {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}}}
