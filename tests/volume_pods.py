"""Pods with volumes, what they are made of, and the commands that tests of them repeat."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node_fixtures import Node
from tests.patience import SLOWNESS


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> float:
    """How long it took; fails the test when it does not come."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < timeout_s * SLOWNESS, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - begun


def pod(
    name: str = "p", command: str = "sleep 1000", mounts: dict[str, Any] | None = None, **spec: Any
) -> dict[str, Any]:
    """`mounts`: {volume name: (source, mount)}; the mount's path is /<volume name>."""
    chosen = {volume: given if isinstance(given, tuple) else (given, {}) for volume, given in (mounts or {}).items()}
    container = {
        "name": "c",
        "image": "busybox",
        "command": ["sh", "-c", command],
        "volumeMounts": [{"name": volume, "mountPath": f"/{volume}", **more} for volume, (_, more) in chosen.items()],
        **spec.pop("container", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "x"}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "volumes": [{"name": volume, **source} for volume, (source, _) in chosen.items()],
            "containers": [container],
            **spec,
        },
    }


def config_map(name: str = "c", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str = "s", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def from_secret(key: str) -> dict[str, Any]:
    return {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": key}}}


def claim(name: str = "data", **spec: Any) -> dict[str, Any]:
    base = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": base | spec}


@contextlib.contextmanager
def loop_device(folder: Path, content: bytes = b"") -> Iterator[str]:
    """A block device of 4 MiB that begins with `content`; skips where there is no loop device."""
    image = folder / "image"
    image.write_bytes(content + bytes((4 << 20) - len(content)))
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", "loop"], check=False)
    done = subprocess.run(["losetup", "--find", "--show", str(image)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no loop device here: {done.stderr.strip()}")
    try:
        yield done.stdout.strip()
    finally:
        subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


def raw_volume(device: str) -> dict[str, Any]:
    """For claims of the class "raw" and the mode Block."""
    spec = {
        "capacity": {"storage": "4Mi"},
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": "Block",
        "storageClassName": "raw",
        "hostPath": {"path": device},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "raw"}, "spec": spec}


def manifest(*objects: dict[str, Any]) -> str:
    return "\n---\n".join(json.dumps(made) for made in objects)


def run(node: Node, *objects: dict[str, Any]) -> str:
    return node("run", "-", input=manifest(*objects)).stdout


def start(node: Node, *objects: dict[str, Any]) -> None:
    node("run", "-d", "--timeout", "20s", "-", input=manifest(*objects))


def apply(node: Node, *objects: dict[str, Any]) -> str:
    return node("apply", "-", input=manifest(*objects)).stdout


def sh(node: Node, command: str, name: str = "p") -> str:
    return node("exec", name, "--", "sh", "-c", command).stdout
