"""Pods whose images come from a registry: policies, events, back-off, secrets; round trips with other tools."""

from __future__ import annotations

import base64
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.runtime.images import busybox
from minipod.runtime.images.store import ImageStore
from tests import registry as fake
from tests.layouts import Entry, archive, entry, folder, make_layout
from tests.node_fixtures import Node
from tests.patience import SLOWNESS
from tests.registry import Registry

WAIT_S = 20.0 * SLOWNESS
REGISTRY = shutil.which("docker-registry")
SKOPEO = shutil.which("skopeo")
PODMAN = shutil.which("podman")

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  {secrets}
  containers:
  - name: main
    image: {image}
    imagePullPolicy: {policy}
    command: [sh, -c, {script}]
"""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with fake.running() as server:
        busybox.build(tmp_path / "busybox")
        server.add(tmp_path / "busybox", "team/box", "1")
        yield server


def manifest(
    folder: Path, image: str, policy: str = "IfNotPresent", script: str = "echo hello", secret: str = ""
) -> str:
    path = folder / "web.yaml"
    secrets = f"imagePullSecrets: [{{name: {secret}}}]" if secret else ""
    path.write_text(POD.format(image=image, policy=policy, script=json.dumps(script), secrets=secrets))
    return str(path)


def until(node: Node, wanted: str) -> dict[str, Any]:
    """The container's status once it waits for, or ended with, this reason."""
    deadline = time.monotonic() + WAIT_S
    while True:
        pod: Any = node.pod("web")
        status: dict[str, Any] = (pod["status"].get("containerStatuses") or [{}])[0]
        state = status.get("state", {})
        found = state.get("waiting") or state.get("terminated") or {}
        if found.get("reason") == wanted:
            return status
        assert time.monotonic() < deadline, f"waited in vain for {wanted}: {pod['status']}"
        time.sleep(0.1)


def events(node: Node) -> list[tuple[str, str]]:
    items = json.loads(node("events", "-o", "json").stdout)["items"]
    return [(item["reason"], item["message"]) for item in items]


def test_a_pod_pulls_its_image_and_says_so(own_store: Node, registry: Registry, tmp_path: Path) -> None:
    image = f"{registry.host}/team/box:1"
    ran = own_store("run", manifest(tmp_path, image))
    assert "hello" in ran.stdout
    own_store("run", "--detach", manifest(tmp_path, image, "Always"))
    status = until(own_store, "Completed")
    digest = registry.tags["team/box", "1"]
    assert (status["image"], status["imageID"]) == (image, f"{registry.host}/team/box@{digest}")
    told = dict(events(own_store))
    assert told["Pulling"] == f'Pulling image "{image}"'
    assert told["Pulled"].startswith(f'Successfully pulled image "{image}" in ')
    assert told["Pulled"].endswith("bytes.")


def test_an_image_that_is_there_is_not_asked_for(own_store: Node, registry: Registry, tmp_path: Path) -> None:
    image = f"{registry.host}/team/box:1"
    own_store("image", "pull", image)
    registry.seen.clear()
    own_store("run", "--detach", manifest(tmp_path, image))
    until(own_store, "Completed")
    assert registry.seen == []
    assert ("Pulled", f'Container image "{image}" already present on machine and can be accessed by the pod') in events(
        own_store
    )


def test_always_needs_the_registry_for_what_came_from_there(
    own_store: Node, registry: Registry, tmp_path: Path
) -> None:
    image = f"{registry.host}/team/box:1"
    own_store("image", "pull", image)
    registry.rules.append(fake.on("manifests", lambda r: r.fail(403, "DENIED", "closed today"), "HEAD"))
    registry.rules.append(fake.on("manifests", lambda r: r.fail(403, "DENIED", "closed today")))
    own_store("run", "--detach", manifest(tmp_path, image, "Always"), check=False)
    assert "denied: closed today" in until(own_store, "ErrImagePull")["state"]["waiting"]["message"]


def test_always_takes_what_was_loaded_here_as_it_is(own_store: Node, tmp_path: Path) -> None:
    busybox.build(tmp_path / "own")
    own_store("image", "load", tmp_path / "own", "--name", "127.0.0.1:1/own:1")
    assert "hello" in own_store("run", manifest(tmp_path, "127.0.0.1:1/own:1", "Always")).stdout


def test_what_cannot_be_pulled_is_err_image_pull_then_back_off(
    own_store: Node, registry: Registry, tmp_path: Path
) -> None:
    image = f"{registry.host}/team/missing:1"
    own_store("run", "--detach", manifest(tmp_path, image), check=False)
    failed = until(own_store, "ErrImagePull")["state"]["waiting"]["message"]
    assert "404 not found: manifest unknown: manifest unknown" in failed
    waiting = until(own_store, "ImagePullBackOff")["state"]["waiting"]["message"]
    assert waiting.startswith(f'Back-off pulling image "{image}": ErrImagePull: ')
    reasons = [reason for reason, _ in events(own_store)]
    assert {"Pulling", "Failed", "BackOff"} <= set(reasons)
    registry.tags["team/missing", "1"] = registry.tags["team/box", "1"]
    until(own_store, "Completed")


def test_a_deleted_pod_does_not_wait_for_its_pull(own_store: Node, registry: Registry, tmp_path: Path) -> None:
    waits = threading.Event()
    registry.rules.append(fake.on("manifests", lambda request: fake.held(waits, WAIT_S)))
    with own_store.popen("run", "--detach", manifest(tmp_path, f"{registry.host}/team/box:1")) as run:
        deadline = time.monotonic() + WAIT_S
        while not registry.seen:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        began = time.monotonic()
        own_store("delete", "pod", "web")
        assert time.monotonic() - began < WAIT_S / 2
        waits.set()
        run.communicate()


def test_a_pull_secret_opens_the_registry(own_store: Node, registry: Registry, tmp_path: Path) -> None:
    registry.rules.append(fake.bearer({"joe": "secret"}))
    image = f"{registry.host}/team/box:1"
    auth = base64.b64encode(b"joe:secret").decode()
    data = base64.b64encode(json.dumps({"auths": {registry.host: {"auth": auth}}}).encode()).decode()
    (tmp_path / "secret.yaml").write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\ntype: kubernetes.io/dockerconfigjson\n"
        f"data: {{.dockerconfigjson: {data}}}\n"
    )
    own_store("apply", "-f", tmp_path / "secret.yaml")
    assert "hello" in own_store("run", manifest(tmp_path, image, secret="login")).stdout


def test_volumes_of_the_image_stay_writable_below_a_read_only_root(own_store: Node, tmp_path: Path) -> None:
    own_store("image", "load", "--default")
    image = ImageStore(own_store.paths).resolve("busybox")
    assert image is not None
    root = archive([folder("data", mode=0o1777, uid=7), entry("data/old", b"content"), *copy_of(Path(image.layers[0]))])
    layout = make_layout(tmp_path / "l", root, name="own/box:1", config={"Volumes": {"/data": {}, "/new/deep": {}}})
    own_store("image", "load", layout)
    script = "cat /data/old || exit; echo x > /data/new; echo y > /new/deep/f; stat -c %a:%u /data"
    script += "; echo z > /etc/f || echo ro"
    text = Path(manifest(tmp_path, "own/box:1", script=script)).read_text()
    path = tmp_path / "read-only.yaml"
    path.write_text(text.replace("    command:", "    securityContext: {readOnlyRootFilesystem: true}\n    command:"))
    lines = own_store("run", path).stdout
    assert "content1777:7" in lines
    assert "ro" in lines.split()


def copy_of(root: Path) -> list[Entry]:
    """busybox and its shell, for an image of a test's own."""
    names = [f"bin/{name}" for name in ("sh", "cat", "echo", "stat")]
    return [folder("bin"), folder("etc"), *(entry(name, (root / name).read_bytes(), mode=0o755) for name in names)]
