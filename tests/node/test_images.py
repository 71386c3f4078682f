"""The image store: what goes in comes out, each layer once, and a bad end leaves nothing half-made."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from minipod.errors import ConflictError, ImageError, NotFoundError
from minipod.paths import Paths
from minipod.plan.configs import ImageConfig
from minipod.runtime.images import layout
from minipod.runtime.images.layout_writer import encode, write_blob
from minipod.runtime.images.manifests import architecture
from minipod.runtime.images.store import ImageStore
from tests import layouts
from tests.conftest import CHECKOUT
from tests.layouts import archive, entry, folder, make_layout

HELLO = archive([folder("etc"), entry("etc/motd", b"hello\n")])
BYE = archive([entry("etc/motd", b"bye\n")])


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    return make_layout(tmp_path / "hello", HELLO, config={"Cmd": ["cat", "/etc/motd"], "Env": ["A=1"], "User": "1:2"})


def names_in(store: ImageStore) -> dict[str, list[str]]:
    return {name: sorted(os.listdir(store.path / name)) for name in ("tmp", "layers", "blobs/sha256")}


def test_a_loaded_image_is_found_by_every_name_it_has(store: ImageStore, hello: Path) -> None:
    image = store.load_layout(hello)
    digest = f"test@{image.digest}"
    for name in (
        "test",
        "test:latest",
        "docker.io/library/test",
        digest,
        f"test:x@{image.digest}",
        image.id,
        image.id[7:],
    ):
        found = store.resolve(name)
        assert found is not None
        assert found == image
    assert store.resolve("test:other") is None
    assert store.resolve(f"other@{image.digest}") is None


def test_the_configuration_is_the_image_s(store: ImageStore, hello: Path) -> None:
    config = store.load_layout(hello).config
    assert (config.cmd, config.env, config.user, config.entrypoint) == (("cat", "/etc/motd"), ("A=1",), "1:2", ())


def test_layers_are_unpacked_lowest_first(store: ImageStore, tmp_path: Path) -> None:
    image = store.load_layout(make_layout(tmp_path / "l", HELLO, BYE), "two:1")
    texts = [Path(layer, "etc/motd").read_text() for layer in image.layers]
    assert (image.reference, texts) == ("docker.io/library/two:1", ["hello\n", "bye\n"])


def test_an_image_may_have_no_layers_and_null_for_everything(store: ImageStore, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "none", config=None)
    config = {"architecture": architecture(), "os": "linux", "config": None, "rootfs": {"diff_ids": None}}
    manifest = {"schemaVersion": 2, "layers": None, "config": write_blob(layout, "", encode(config))}
    descriptor = write_blob(layout, "", encode(manifest))
    (layout / "index.json").write_bytes(encode({"schemaVersion": 2, "manifests": [descriptor]}))
    image = store.load_layout(layout, "none:1")
    assert [os.listdir(layer) for layer in image.layers] == [[]]  # overlayfs wants one
    assert image.config == ImageConfig()


def test_a_layer_of_two_images_is_unpacked_once(store: ImageStore, tmp_path: Path) -> None:
    first = store.load_layout(make_layout(tmp_path / "a", HELLO), "a")
    identity = os.stat(first.layers[0]).st_ino
    second = store.load_layout(make_layout(tmp_path / "b", HELLO, BYE, compress=False), "b")
    assert second.layers[0] == first.layers[0]
    assert os.stat(second.layers[0]).st_ino == identity


def test_loading_twice_changes_nothing(store: ImageStore, hello: Path) -> None:
    store.load_layout(hello)
    before = (store.list(), names_in(store))
    store.load_layout(hello)
    assert (store.list(), names_in(store)) == before


def test_another_process_s_image_is_seen_at_once(store: ImageStore, hello: Path) -> None:
    assert store.resolve("test") is None
    ImageStore(Paths(str(store.path.parent.parent / "root"), str(store.path.parent))).load_layout(hello)
    assert store.resolve("test") is not None


def test_a_name_that_moves_on_leaves_the_old_image_nameless(store: ImageStore, hello: Path, tmp_path: Path) -> None:
    old = store.load_layout(hello)
    new = store.load_layout(make_layout(tmp_path / "new", BYE))
    assert [image.reference for image in store.list()] == [new.reference, f"docker.io/library/test@{old.digest}"]
    assert os.path.isdir(old.layers[0])
    assert store.resolve(old.id) is not None


def test_removing_a_name_keeps_what_others_need(store: ImageStore, tmp_path: Path) -> None:
    keep = store.load_layout(make_layout(tmp_path / "a", HELLO), "a")
    gone = store.load_layout(make_layout(tmp_path / "b", HELLO, BYE), "b")
    assert [image.reference for image in store.remove("b")] == ["docker.io/library/b:latest"]
    assert os.path.isdir(keep.layers[0])
    assert not os.path.exists(gone.layers[1])
    store.remove(keep.id[7:15])
    assert names_in(store) == {"tmp": [], "layers": [], "blobs/sha256": []}


def test_removing_what_is_not_there_says_so(store: ImageStore) -> None:
    with pytest.raises(NotFoundError, match="image 'nginx' not found"):
        store.remove("nginx")


def test_an_image_in_use_is_not_removed(store: ImageStore, hello: Path, tmp_path: Path) -> None:
    image = store.load_layout(hello)
    container = tmp_path / "root" / "containers" / "c1"
    container.mkdir(parents=True)
    (container / "container.json").write_text(f'{{"image_id": "{image.id}"}}')
    with pytest.raises(ConflictError, match="in use by container c1; delete its pod first"):
        store.remove("test")
    assert store.resolve("test") == image


@pytest.mark.parametrize(("policy", "reason"), [("IfNotPresent", "ErrImagePull"), ("Never", "ErrImageNeverPull")])
def test_an_absent_image_is_kubernetes_reason(store: ImageStore, policy: str, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        store.require("127.0.0.1:1/nginx:1", policy)
    assert caught.value.reason == reason


def test_a_registry_that_is_not_there_is_named_with_a_remedy(store: ImageStore) -> None:
    with pytest.raises(ImageError, match=r"127\.0\.0\.1:1: connection refused.*minipod image load"):
        store.require("127.0.0.1:1/nginx:1")


@pytest.mark.parametrize("name", ["", "NGINX", "a b", "f" * 64 + "/", "dir:relative/path"])
def test_no_reference_is_invalid_image_name(store: ImageStore, name: str) -> None:
    with pytest.raises(ImageError) as caught:
        store.resolve(name)
    assert caught.value.reason == "InvalidImageName"


@pytest.fixture
def with_folders(tmp_path: Path) -> ImageStore:
    """`roots` is a link that the configuration names."""
    (tmp_path / "real" / "a").mkdir(parents=True)
    (tmp_path / "real-not").mkdir()
    (tmp_path / "roots").symlink_to("real")
    (tmp_path / "real" / "out").symlink_to("../real-not")
    return ImageStore(Paths(str(tmp_path / "root"), str(tmp_path / "state")), ["/elsewhere", str(tmp_path / "roots")])


@pytest.mark.parametrize("path", ["roots/a", "real//a/x/..", "real/../roots/./a/"])
def test_a_root_folder_is_an_image_of_one_layer(with_folders: ImageStore, tmp_path: Path, path: str) -> None:
    image = with_folders.resolve(f"dir:{tmp_path}/{path}")
    assert image is not None
    assert (image.id, image.layers) == (f"dir:{tmp_path}/real/a", (f"{tmp_path}/real/a",))
    assert with_folders.resolve(image.id) == image


@pytest.mark.parametrize("path", ["", "/", "real-not", "roots/../real-not", "real/out", "nowhere", "state/images"])
def test_a_folder_that_the_configuration_does_not_name_is_no_image(
    with_folders: ImageStore, store: ImageStore, tmp_path: Path, path: str
) -> None:
    for reference in (f"dir:{tmp_path}/{path}", f"dir:/{path}", "dir:/", "dir:/proc/self/root"):
        with pytest.raises(ImageError, match="is in no directory that image_directories") as caught:
            with_folders.resolve(reference)
        assert caught.value.reason == "InvalidImageName"
    with pytest.raises(ImageError, match="is in no directory that image_directories"):
        store.resolve(f"dir:{tmp_path}/roots/a")


def test_a_root_folder_that_is_not_there_is_named(with_folders: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=f"{tmp_path}/real/nowhere is no directory"):
        with_folders.resolve(f"dir:{tmp_path}/roots/nowhere")


def test_busybox_is_built_where_it_is_missing(store: ImageStore) -> None:
    image = store.require("busybox", "Never")
    assert (Path(image.layers[0]) / "bin" / "sh").samefile(Path(image.layers[0]) / "bin" / "busybox")
    assert image.config.cmd == ("sh",)


def test_the_store_is_closed_to_other_users(store: ImageStore, hello: Path) -> None:
    store.load_layout(hello)
    assert oct(store.path.stat().st_mode & 0o777) == "0o700"


@pytest.mark.attack(row=33)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_flipped_bit_is_found_whichever_blob_it_is_in(store: ImageStore, hello: Path, which: int) -> None:
    layouts.damage(layouts.blobs_of(hello)[which])
    with pytest.raises(ImageError, match="is damaged"):
        store.load_layout(hello)
    assert store.list() == []


@pytest.mark.attack(row=33)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_lying_length_is_found(store: ImageStore, hello: Path, change: int) -> None:
    blob = layouts.blobs_of(hello)[-1]
    data = blob.read_bytes()
    blob.write_bytes(data[:-1] if change < 0 else data + b"\0")
    with pytest.raises(ImageError, match="bytes"):
        store.load_layout(hello)


def test_a_missing_blob_is_named(store: ImageStore, hello: Path) -> None:
    layouts.blobs_of(hello)[-1].unlink()
    with pytest.raises(ImageError, match=r"blob sha256:[0-9a-f]{64} is missing"):
        store.load_layout(hello)


@pytest.mark.attack(row=33)
def test_a_layer_that_is_not_what_the_configuration_says_is_refused(store: ImageStore, tmp_path: Path) -> None:
    lying = make_layout(tmp_path / "l", HELLO, diff_ids=["sha256:" + "0" * 64])
    with pytest.raises(ImageError, match="but the image says sha256:000"):
        store.load_layout(lying)
    with pytest.raises(NotFoundError):
        store.remove("test")
    assert names_in(store) == {"tmp": [], "layers": [], "blobs/sha256": []}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"architecture": "mips"}, "the image is for mips, this host is"),
        ({"diff_ids": []}, "1 layers, but 0 valid diff ids"),
        ({"diff_ids": ["../../etc"]}, "1 layers, but 1 valid diff ids"),
        ({"layer_type": "application/vnd.oci.image.layer.v1.tar+xz"}, "use gzip, zstd or uncompressed layers"),
        ({"name": "latest"}, "names no repository; name the image: --name NAME"),
    ],
)
def test_an_image_that_cannot_be_used_says_why(
    store: ImageStore, tmp_path: Path, wrong: dict[str, object], words: str
) -> None:
    with pytest.raises(ImageError, match=words):
        store.load_layout(make_layout(tmp_path / "l", HELLO, **wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("owner", ["state", "another"])
def test_a_volume_of_a_pod_here_holds_its_image(store: ImageStore, hello: Path, tmp_path: Path, owner: str) -> None:
    image = store.load_layout(hello)
    place = tmp_path / owner / "pods/uid/volumes/kubernetes.io~image/i"
    (tmp_path / "empty").mkdir()
    place.mkdir(parents=True)
    options = f"ro,lowerdir={image.layers[0]}:{tmp_path}/empty"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "none", place], check=True)
    try:
        if owner == "state":
            with pytest.raises(ConflictError, match="is in use by the volume"):
                store.remove(image.id)
        else:  # another minipod's on this host
            assert store.remove(image.id)
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, lzma.compress, bz2.compress])
def test_an_archive_may_be_compressed_as_a_whole(
    store: ImageStore, hello: Path, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    with tarfile.open(tmp_path / "plain.tar", "w") as tar:
        tar.add(hello, ".")
    packed = pack((tmp_path / "plain.tar").read_bytes())
    (tmp_path / "packed").write_bytes(packed)
    assert store.load(tmp_path / "packed")[0].config.cmd == ("cat", "/etc/motd")
    (tmp_path / "cut").write_bytes(packed[:-20])
    with pytest.raises(ImageError, match=r"image archive .*cut"):
        store.load(tmp_path / "cut")


@pytest.mark.attack(row=34)
def test_a_compressed_archive_may_be_a_bomb(store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "ALWAYS_ALLOWED_BYTES", 1 << 20)
    (tmp_path / "bomb").write_bytes(gzip.compress(bytes(4 << 20)))
    with pytest.raises(ImageError, match="too much for its size"):
        store.load(tmp_path / "bomb")


def test_a_folder_that_is_no_layout_says_so(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"neither an OCI image layout nor docker's archive"):
        store.load_layout(tmp_path)
    with pytest.raises(ImageError, match="no such directory"):
        store.load_layout(tmp_path / "nowhere")
    (tmp_path / "image.tar").write_bytes(HELLO)
    with pytest.raises(ImageError, match=r"neither an OCI image layout nor docker's archive"):
        store.load_layout(tmp_path / "image.tar")


@pytest.mark.attack(row=33)
def test_a_digest_that_is_a_path_is_refused(store: ImageStore, hello: Path) -> None:
    index = (hello / "index.json").read_text()
    start = index.index("sha256:")
    (hello / "index.json").write_text(index[:start] + "sha256:../../../../etc/passwd" + index[start + 71 :])
    with pytest.raises(ImageError, match="is no sha256 digest"):
        store.load_layout(hello)


def test_a_damaged_index_is_named_with_a_remedy(store: ImageStore, hello: Path) -> None:
    store.load_layout(hello)
    (store.path / "index.json").write_text("{")
    with pytest.raises(ImageError, match="remove it and load the images again"):
        store.resolve("test")


@pytest.fixture
def small_disk(tmp_path: Path, store: ImageStore) -> Iterator[None]:
    """A state folder with room for one megabyte."""
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", state], check=True)
    yield
    subprocess.run(["umount", state], check=True)


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_a_clear_error_and_leaves_nothing(store: ImageStore, tmp_path: Path) -> None:
    large = make_layout(tmp_path / "large", archive([entry("zeros", bytes(4 << 20))]))
    with pytest.raises(ImageError, match=r"no space left on device; free some space"):
        store.load_layout(large)
    assert names_in(store)["layers"] == []
    assert names_in(store)["tmp"] == []
    store.load_layout(make_layout(tmp_path / "small", HELLO))
    assert store.resolve("test") is not None


def test_two_loads_at_once_both_succeed(store: ImageStore, hello: Path, tmp_path: Path) -> None:
    folders = ["--run-dir", str(tmp_path / "root"), "--data-dir", str(tmp_path / "state")]
    command = [sys.executable, "-m", "minipod", *folders, "image", "load", str(hello)]
    loads = [subprocess.Popen([*command, "--name", f"n{i}"], stdout=subprocess.PIPE, cwd=CHECKOUT) for i in range(4)]
    for load in loads:
        load.communicate()
    assert [load.returncode for load in loads] == [0] * 4
    assert [image.reference for image in store.list()] == [f"docker.io/library/n{i}:latest" for i in range(4)]
    assert len(names_in(store)["layers"]) == 1
