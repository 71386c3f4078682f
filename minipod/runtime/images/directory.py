"""What is in the image store's directory (layer 3): the index, its lock, blobs, layers, who uses them. Adds no image.

    <data-dir>/images/index.json       which names there are; written whole and renamed, so readers need no lock
    <data-dir>/images/blobs/sha256/    configs, manifests and layers as they came
    <data-dir>/images/layers/<hex>/    each layer unpacked once, named by its diff id
    <data-dir>/images/empty/           the layer of an image that has none
    <data-dir>/images/ingest/          layers in the making (`ingest.py`)
    <data-dir>/images/tmp/             what is being made under the lock; leftovers are removed
    <data-dir>/images/lock             held (flock) by the process that changes any of these

Everything becomes visible by a rename, blobs and layers before the index that names them. A process that is killed
leaves at most something in tmp/ or a layer without a name; the next change sweeps both away.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from minipod.errors import ConflictError, ImageError
from minipod.paths import Paths
from minipod.plan.configs import Image
from minipod.runtime.images.errors import store_errors
from minipod.runtime.images.index import Entry, Index, each_once, hex_of


class StoreDirectory:
    """All methods block. `read_index` and what looks something up need no lock."""

    def __init__(self, paths: Paths) -> None:
        self.path = Path(paths.state) / "images"
        self._containers = Path(paths.root) / "containers"
        self._pods = Path(paths.state) / "pods"
        self._seen: tuple[int, int, int] | None = None  # of index.json: inode, mtime, size
        self._index = Index()

    def image(self, entry: Entry) -> Image:
        return Image(
            id=entry.id,
            reference=entry.reference or f"{entry.name}@{entry.target or entry.digest}",
            digest=entry.target or entry.digest,
            repo_digest=f"{entry.name}@{entry.target or entry.digest}" if entry.pulled else "",
            layers=tuple(str(self.layer_path(diff_id)) for diff_id in each_once(entry.diff_ids))
            or (str(self.path / "empty"),),  # overlayfs wants one
            config=entry.config,
            size_bytes=entry.size_bytes,
        )

    def blob_path(self, digest: str) -> Path:
        return self.path / "blobs" / "sha256" / hex_of(digest)

    def layer_path(self, diff_id: str) -> Path:
        return self.path / "layers" / hex_of(diff_id)

    def read_index(self) -> Index:
        path = self.path / "index.json"
        try:
            found = path.stat()
            identity = (found.st_ino, found.st_mtime_ns, found.st_size)
            if identity != self._seen:
                self._index = msgspec.json.decode(path.read_bytes(), type=Index)
                self._seen = identity
        except FileNotFoundError:
            self._index, self._seen = Index(), None
        except PermissionError as error:
            raise ImageError(f"image store {self.path}: permission denied; run as root") from error
        except msgspec.DecodeError as error:
            raise ImageError(f"image store: {path} is damaged: {error}; remove it and load the images again") from error
        return self._index

    def write_index(self, index: Index) -> None:
        self.write(self.path / "index.json", msgspec.json.format(msgspec.json.encode(index), indent=1))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The store's lock; leftovers of killed processes are removed first."""
        with store_errors("change the image store"):
            # this host's users must not reach set-uid programs inside layers
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock_fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with store_errors("change the image store"):
                fcntl.flock(lock_fd, fcntl.LOCK_EX)
                for name in ("tmp", "ingest", "layers", "blobs/sha256"):
                    (self.path / name).mkdir(mode=0o700, parents=True, exist_ok=True)
                (self.path / "empty").mkdir(exist_ok=True)
                self.sweep()
            yield
        finally:
            os.close(lock_fd)

    def sweep(self) -> None:
        """Removes what the index does not name. Only under the lock: then no other process is making anything."""
        import tempfile

        from minipod.kernel.remove import remove_tree
        from minipod.runtime.images import ingest

        index = self.read_index()
        layers = {hex_of(diff_id) for entry in index.images for diff_id in entry.diff_ids}
        blobs = {hex_of(digest) for entry in index.images for digest in entry.blobs}
        tmp = self.path / "tmp"
        for path in (self.path / "layers").iterdir():
            if path.name not in layers:
                os.rename(path, tempfile.mkdtemp(dir=tmp))  # a removal that is killed half-way must leave no half layer
        for path in (self.path / "blobs" / "sha256").iterdir():
            if path.name not in blobs:
                path.unlink()
        ingest.sweep(self.path / "ingest")
        for path in tmp.iterdir():
            remove_tree(os.fspath(path))

    def write(self, path: Path, data: bytes) -> None:
        import tempfile

        fd, temporary = tempfile.mkstemp(dir=self.path / "tmp")
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)

    def refuse_if_used(self, entry: Entry) -> None:
        """Raises ConflictError."""
        user = self.user_of(entry)
        if user:
            raise ConflictError(f"image {entry.reference or entry.id} is in use by {user}; delete its pod first")

    def user_of(self, entry: Entry) -> str:
        """A container that exists, running or not, or a volume of a pod, that needs its layers; empty without any."""
        try:
            containers = sorted(self._containers.iterdir())
        except FileNotFoundError:
            containers = []
        for container in containers:
            try:
                saved = (container / "container.json").read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                continue
            if entry.id.encode() in saved:
                return f"container {container.name}"
        layers = [hex_of(diff_id) for diff_id in entry.diff_ids]
        pods = f"{os.path.realpath(self._pods)}/"  # not those of other minipods of this host
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                place = line.split()[4]
                is_image = place.startswith(pods) and "/kubernetes.io~image/" in place
                if is_image and any(layer in line for layer in layers):
                    return f"the volume {place}"
        return ""
