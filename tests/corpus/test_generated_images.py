"""Generated images: whatever indexes, manifests, configurations and archives say, an image comes of it or an error."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from minipod.api.references import is_sha256_digest, parse_reference
from minipod.errors import ImageError
from minipod.runtime.images.index import Index, entry_of, with_entry
from minipod.runtime.images.layout import DockerArchive, Layout, SkopeoFolder, open_files
from minipod.runtime.images.manifests import (
    LAYER_TYPES,
    MAX_JSON_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    FoundImage,
    Manifest,
    architecture,
    check_data,
    decode,
    read_image,
)
from tests.corpus.changes import with_changes

LAYER = b"a layer"
REFERENCE = parse_reference("registry.test/team/box:1")


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def described(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


CONFIG: dict[str, Any] = {
    "architecture": architecture(),
    "os": "linux",
    "rootfs": {"type": "layers", "diff_ids": [digest(LAYER)]},
    "config": {"Entrypoint": ["/e"], "Cmd": ["c"], "Env": ["A=b"], "WorkingDir": "/w", "User": "1:2",
               "StopSignal": "SIGINT", "Volumes": {"/v": {}}, "ExposedPorts": {"80/tcp": {}}},
    "history": [{"created_by": "x"}],
}  # fmt: skip
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described(b"", "application/vnd.oci.image.config.v1+json"),
    "layers": [described(LAYER, LAYER_TYPES[0])], "annotations": {"a": "b"},
}  # fmt: skip
PLATFORM = {"architecture": architecture(), "os": "linux"}
INDEX: dict[str, Any] = {
    "schemaVersion": 2, "mediaType": OCI_INDEX,
    "manifests": [
        described(b"", OCI_MANIFEST, platform=PLATFORM, annotations={"org.opencontainers.image.ref.name": "box:1"}),
        described(b"", OCI_MANIFEST, platform={"architecture": "unknown", "os": "unknown"}),
    ],
}  # fmt: skip


class Blobs:
    """Documents by their digests. What a document points to is put there, unless a change took that away."""

    def __init__(self, config: Any, manifest: Any, index: Any) -> None:
        self.data = {digest(LAYER): LAYER}
        config_data = self.put(config)
        with contextlib.suppress(TypeError, KeyError):
            manifest = {**manifest, "config": {**manifest["config"], **pointed(manifest["config"], config_data)}}
        manifest_data = self.put(manifest)
        with contextlib.suppress(TypeError, KeyError, ValueError):
            first, *rest = index["manifests"]
            index = {**index, "manifests": [{**first, **pointed(first, manifest_data)}, *rest]}
        self.top = self.put(index)

    def put(self, document: Any) -> bytes:
        data = json.dumps(document).encode()
        self.data[digest(data)] = data
        return data

    def read(self, descriptor: Descriptor) -> bytes:
        found = self.data.get(descriptor.digest)
        if found is None:
            raise ImageError(f"blob {descriptor.digest} is missing")
        return check_data("here", descriptor, found)


def pointed(descriptor: dict[str, Any], data: bytes) -> dict[str, Any]:
    """Digest and size of the document, where the descriptor still has its own."""
    right = {"digest": digest(data), "size": len(data)}
    return {key: right[key] for key, old in (("digest", digest(b"")), ("size", 0)) if descriptor.get(key) == old}


def checked(found: FoundImage, config: Any) -> None:
    """What is found is what the documents say, read by another reader, and can be kept in the store's index."""
    assert len(found.layers) == len(found.diff_ids)
    assert all(is_sha256_digest(name) for name in (*found.diff_ids, found.config.digest, found.manifest.digest))
    written = json.loads(found.small[found.config.digest])
    execution = written.get("config") or {}
    assert list(found.image_config.cmd) == (execution.get("Cmd") or [])
    assert list(found.image_config.env) == (execution.get("Env") or [])
    assert found.image_config.user == (execution.get("User") or "")
    assert list(found.image_config.volumes) == sorted(execution.get("Volumes") or {})
    assert written == json.loads(json.dumps(config))
    index = with_entry(Index(), entry_of(REFERENCE, found, pulled=True))
    assert msgspec.json.decode(msgspec.json.encode(index), type=Index) == index


@given(with_changes(CONFIG), with_changes(MANIFEST), with_changes(INDEX), st.booleans())
def test_whatever_the_documents_say_an_image_is_found_or_an_image_error(
    config: Any, manifest: Any, index: Any, is_index: bool
) -> None:
    blobs = Blobs(config, manifest, index)
    top = blobs.top if is_index else blobs.put(manifest)
    with contextlib.suppress(ImageError):
        checked(read_image(Descriptor(digest(top), len(top)), blobs.read, "here"), config)


def test_what_is_not_changed_is_found() -> None:
    blobs = Blobs(CONFIG, MANIFEST, INDEX)
    found = read_image(Descriptor(digest(blobs.top), len(blobs.top)), blobs.read, "here")
    checked(found, CONFIG)
    assert found.image_config.entrypoint == ("/e",)


@given(st.binary(max_size=60) | st.text(max_size=30).map(lambda text: json.dumps({"layers": text}).encode()))
@example(b"[" * 100_000)
@example(b'{"config":' * 50_000)
@example(b'{"schemaVersion": 1e400}')
def test_any_bytes_are_a_document_or_an_image_error(data: bytes) -> None:
    with contextlib.suppress(ImageError):
        decode(data, Manifest, "x", "here")
    with contextlib.suppress(ImageError):
        read_image(Descriptor(digest(data), len(data)), lambda wanted: data, "here")


def test_what_claims_to_be_large_is_not_even_asked_for() -> None:
    asked: list[Descriptor] = []

    def read(wanted: Descriptor) -> bytes:
        asked.append(wanted)
        return b"{}"

    with contextlib.suppress(ImageError):
        read_image(Descriptor(digest(b""), MAX_JSON_BYTES + 1), read, "here")
    assert asked == []


# -- folders and archives

DOCKER = [{"Config": "config.json", "RepoTags": ["box:1"], "Layers": ["layer.tar"]}]
odd_names = st.sampled_from(
    ["layer.tar", "../layer.tar", "/etc/passwd", "", ".", "a\0b", "x" * 300, "layer.tar/x", "link"]
)


def files_of(config: Any, manifest: Any, index: Any, docker: Any) -> dict[str, bytes]:
    blobs = Blobs(config, manifest, index)
    named = {f"blobs/sha256/{name.removeprefix('sha256:')}": data for name, data in blobs.data.items()}
    own = {"index.json": blobs.top, "manifest.json": json.dumps(docker).encode()}
    return {**named, **own, "config.json": json.dumps(config).encode(), "layer.tar": LAYER}


def archived(files: dict[str, bytes], path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "link"
        tar.addfile(link)


def written(files: dict[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "link").symlink_to("/etc/passwd")


@given(
    with_changes(CONFIG), with_changes(MANIFEST), with_changes(INDEX), with_changes(DOCKER), odd_names, st.booleans()
)
def test_whatever_a_folder_or_an_archive_holds_is_images_or_an_image_error(
    config: Any, manifest: Any, index: Any, docker: Any, name: str, is_archive: bool
) -> None:
    if docker == DOCKER:
        docker = [{**DOCKER[0], "Layers": [name]}]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image")
        files = files_of(config, manifest, index, docker)
        if is_archive:
            archived(files, path)
        else:
            path.mkdir()
            written(files, path)
        with open_files(path) as opened:
            for find in (
                lambda: Layout(opened).find_all(REFERENCE),
                lambda: DockerArchive(opened).find_all(None),
                lambda: SkopeoFolder(opened).find(),
            ):
                with contextlib.suppress(ImageError, OSError):
                    find()


@given(st.binary(max_size=2000), st.sampled_from([b"", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh9"]))
def test_any_file_is_an_archive_or_an_image_error(data: bytes, magic: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(magic + data)
        file.flush()
        with contextlib.suppress(ImageError), open_files(Path(file.name)) as opened:
            DockerArchive(opened).find_all(None)
