"""Images and other people's tools: Debian's docker-registry, skopeo, podman. The same digests on both sides."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.runtime.images import busybox
from minipod.runtime.images.store import ImageStore
from tests import real_registry
from tests.layouts import archive, entry, folder, make_layout
from tests.node_fixtures import Node
from tests.own_mounts import mount_root
from tests.real_registry import RealRegistry, skopeo

NAME = busybox.DEFAULT_REFERENCE
needs_skopeo = pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs the package skopeo")
needs_podman = pytest.mark.skipif(shutil.which("podman") is None, reason="needs the package podman")

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: main, image: {image}, command: [echo, hello]}}
"""


@pytest.fixture
def own_store(node: Node) -> Node:
    """An image store of the test's own, with nothing in it."""
    os.unlink(f"{node.paths.state}/images")
    return node


@pytest.fixture(params=["", "htpasswd", "token"], ids=["open", "password", "token"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealRegistry]:
    with real_registry.running(tmp_path / "registry", request.param) as server:
        yield server


def inspect(node: Node, name: str = "busybox") -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(node("image", "inspect", name).stdout)
    return found[0]


# ---- docker-registry


def test_a_pod_runs_from_a_real_registry(own_store: Node, registry: RealRegistry, tmp_path: Path) -> None:
    busybox.build(tmp_path / "busybox")
    registry.push(f"oci:{tmp_path}/busybox:{NAME}", "team/box:1")
    if registry.auth_file is not None:
        refused = own_store("image", "pull", f"{registry.host}/team/box:1", check=False)
        assert refused.returncode == 3
        assert "401 unauthorized" in refused.stderr
        assert "log in" in refused.stderr
        own_store.env["REGISTRY_AUTH_FILE"] = str(registry.auth_file)
    path = tmp_path / "web.yaml"
    path.write_text(POD.format(image=f"{registry.host}/team/box:1"))
    assert "hello" in own_store("run", path).stdout
    assert inspect(own_store, f"{registry.host}/team/box:1")["digest"] == registry.digest("team/box:1")


def test_a_wrong_password_is_reported(own_store: Node, registry: RealRegistry) -> None:
    if registry.auth_file is None:
        pytest.skip("everybody may come in")
    registry.auth_file.write_text(json.dumps({"auths": {registry.host: {"username": "ann", "password": "wrong"}}}))
    own_store.env["REGISTRY_AUTH_FILE"] = str(registry.auth_file)
    refused = own_store("image", "pull", f"{registry.host}/team/box:1", check=False)
    assert refused.returncode == 3
    assert "401 unauthorized" in refused.stderr
    assert str(registry.auth_file) in refused.stderr or "as ann" in refused.stderr


@pytest.mark.parametrize("registry", [""], indirect=True, ids=["open"])
@pytest.mark.parametrize(
    "options",
    [["--format=oci"], ["--format=v2s2"], ["--format=oci", "--dest-compress-format=zstd", "--dest-compress"]],
    ids=["oci", "docker", "zstd"],
)
def test_what_skopeo_pushes_is_pulled_with_the_same_digest(
    own_store: Node, registry: RealRegistry, tmp_path: Path, options: list[str]
) -> None:
    busybox.build(tmp_path / "busybox")
    registry.push(f"oci:{tmp_path}/busybox:{NAME}", "box:1", *options)
    assert own_store("image", "pull", "--quiet", f"{registry.host}/box:1").stdout.startswith("sha256:")
    assert inspect(own_store, f"{registry.host}/box:1")["digest"] == registry.digest("box:1")
    assert own_store("image", "verify").returncode == 0


# ---- round trips


@needs_skopeo
@pytest.mark.parametrize("shape", ["oci", "oci-archive", "docker-archive", "zstd", "dir"])
def test_round_trips_with_skopeo_keep_the_image(own_store: Node, tmp_path: Path, shape: str) -> None:
    own_store("image", "load", "--default")
    before = inspect(own_store)
    form = "docker" if shape == "docker-archive" else "oci"
    saved, copied = f"{tmp_path}/saved", f"{tmp_path}/copied"
    source, target = f"oci-archive:{saved}:{NAME}", f"oci-archive:{copied}:{NAME}"
    options = ["--preserve-digests"] if form == "oci" else []
    if shape == "oci":
        saved, source, target = f"{saved}/", f"oci:{saved}:{NAME}", f"oci:{copied}:{NAME}"
    elif shape == "docker-archive":
        source, target = f"docker-archive:{saved}", f"docker-archive:{copied}:{NAME}"
    elif shape == "zstd":
        options = ["--dest-compress", "--dest-compress-format=zstd"]
    elif shape == "dir":
        skopeo_dir = f"dir:{tmp_path}/dir"
        own_store("image", "save", "busybox", "-o", saved)
        skopeo("copy", "--preserve-digests", source, skopeo_dir)
        source = skopeo_dir
    if not os.path.exists(saved):
        own_store("image", "save", "busybox", "--format", form, "-o", saved)
    skopeo("copy", *options, source, target)
    own_store("image", "rm", "busybox")
    own_store("image", "load", copied)
    after = inspect(own_store)
    assert after["layers"] == before["layers"]
    if form == "oci" and shape != "zstd":
        assert (after["id"], after["digest"]) == (before["id"], before["digest"])
    assert own_store("image", "verify").returncode == 0


@needs_podman
@pytest.mark.parametrize("form", ["oci-archive", "oci-dir", "docker-archive", "docker-dir"])
def test_round_trips_with_podman_keep_the_image(own_store: Node, tmp_path: Path, form: str) -> None:
    layers = [archive([folder("etc"), entry(f"etc/{name}", b"x")]) for name in ("one", "two")]
    own_store("image", "load", make_layout(tmp_path / "made", *layers, name="localhost/two:1"))
    before = inspect(own_store, "localhost/two:1")
    own_store(
        *("image", "save", "localhost/two:1", "-o", tmp_path / "saved.tar"),
        *("--format", "docker" if form == "docker-archive" else "oci"),
    )
    with tempfile.TemporaryDirectory(prefix="mp", dir="/tmp") as short:  # podman allows fifty characters
        podman = ["podman", "--root", f"{short}/g", "--runroot", f"{short}/r", "--storage-driver", "vfs"]

        place = Path(short, "root")
        place.mkdir()

        def run(*args: str) -> str:
            done = subprocess.run(
                [*podman, *args], capture_output=True, text=True, check=False, preexec_fn=lambda: mount_root(place)
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        run("load", "-i", f"{tmp_path}/saved.tar")
        assert run("images", "-q", "--no-trunc").strip() == before["id"]
        run("save", "--format", form, "-o", f"{tmp_path}/back", "localhost/two:1")
    own_store("image", "rm", "localhost/two:1")
    own_store("image", "load", tmp_path / "back", "--name", "localhost/two:1")
    after = inspect(own_store, "localhost/two:1")
    assert (after["id"], after["layers"]) == (before["id"], before["layers"])


def test_what_is_loaded_is_what_the_store_says(own_store: Node, tmp_path: Path) -> None:
    """Two images in one archive, both ways."""
    for name in ("one", "two"):
        layer = archive([entry(name, name.encode())])
        own_store("image", "load", make_layout(tmp_path / name, layer, name=f"localhost/{name}:1"))
    ids = [inspect(own_store, f"localhost/{name}:1")["id"] for name in ("one", "two")]
    for form in ("docker", "oci"):
        place = tmp_path / f"{form}.tar"
        own_store("image", "save", "localhost/one:1", "localhost/two:1", "--format", form, "-o", place)
        own_store("image", "rm", "localhost/one:1", "localhost/two:1")
        own_store("image", "load", place)
        assert [inspect(own_store, f"localhost/{name}:1")["id"] for name in ("one", "two")] == ids
    assert [image.reference for image in ImageStore(own_store.paths).list()] == ["localhost/one:1", "localhost/two:1"]
