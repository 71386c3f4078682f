"""Brings an image's layers into the store (layer 3): fetched, checked, unpacked, several at once. Names no image.

    <images>/ingest/<blob>.<diff id>/    one layer in the making; flock'd
        blob.part   what was fetched so far      blob   all of it, checked
        tree.part   being unpacked               tree   unpacked, and what the image says it is

The thread that makes a layer holds its directory's lock exclusively, a thread that waits to use it shares it. So two
pulls of the same image fetch each layer once, in any order: no thread holds an exclusive lock while it waits for
another. A directory that is not locked is left over: the next attempt continues with it, `sweep` removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

import msgspec

from minipod.errors import ImageError
from minipod.failpoint import reached
from minipod.kernel.remove import remove_tree
from minipod.kernel.threads import OwnThread
from minipod.runtime.images.errors import Stopped
from minipod.runtime.images.manifests import Descriptor, FoundImage

FETCHES = 3  # at once, for one image; as docker and containerd
POLL_S = 0.02
KEPT_S = 24 * 3600.0  # unfinished layers, for an attempt to come
#: unpacking is work for the processor, so all images together get no more than there are
_unpack_slots = threading.BoundedSemaphore(max(1, len(os.sched_getaffinity(0))))


class LayerProgress(msgspec.Struct, frozen=True):
    """How far a layer is. `state`: exists, waiting, downloading, unpacking, done."""

    digest: str
    state: str
    done_bytes: int = 0
    total_bytes: int = 0


Progress = Callable[[LayerProgress], None]


class Source(Protocol):
    """Where layers come from."""

    def fetch(self, descriptor: Descriptor, part: Path, report: Callable[[int], None]) -> None:
        """Leaves the whole blob, checked, in the file `part`, which may hold its beginning. Raises ImageError."""


class Layer:
    """One layer in the making. Made and used by one thread; `close` gives up its lock."""

    def __init__(self, folder: Path, descriptor: Descriptor, diff_id: str, has: Callable[[], bool]) -> None:
        self._has = has
        self.descriptor = descriptor
        self.diff_id = diff_id
        self.path = folder / f"{descriptor.hex}.{diff_id.removeprefix('sha256:')}"
        self._fd = -1

    @property
    def blob(self) -> Path:
        return self.path / "blob"

    @property
    def tree(self) -> Path:
        return self.path / "tree"

    def make(self, source: Source, report: Progress, stop: threading.Event) -> None:
        """Returns when blob and tree are there, with the lock shared. Raises ImageError, OSError, Stopped."""
        report(self._progress("waiting"))
        if self._lock(stop):
            if self._has():  # another pull was faster, and has put it in its place
                self.discard()
                report(self._progress("exists", self.descriptor.size))
                return
            if not self.blob.exists():
                source.fetch(
                    self.descriptor, self.path / "blob.part", lambda n: report(self._progress("downloading", n))
                )
                reached("image.fetched")
                os.rename(self.path / "blob.part", self.blob)
                reached("image.blob-named")
            if not self.tree.exists():
                self._unpack(report, stop)
            fcntl.flock(self._fd, fcntl.LOCK_SH)
        report(self._progress("done", self.descriptor.size))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        """Removes what came so far, unless another pull uses it."""
        remove_unused(self.path, self._fd)

    def _unpack(self, report: Progress, stop: threading.Event) -> None:
        # late: a pull of what is there is to be quick
        from minipod.kernel.sync import sync_file_system
        from minipod.runtime.images.layers import unpack_layer

        part = self.path / "tree.part"
        if part.exists():
            remove_tree(os.fspath(part))
        part.mkdir(mode=0o755)
        part.chmod(0o755)  # the root directory of containers, unless the archive says otherwise
        digest = self.descriptor.digest
        try:
            with _slot(stop):
                report(self._progress("unpacking", self.descriptor.size))
                found = unpack_layer(self.blob, digest, part, (self._fd,), stop)
            if found != self.diff_id:
                raise ImageError(f"layer {digest} unpacks to {found}, but the image says {self.diff_id}")
            sync_file_system(part)  # while others unpack; after a power loss a tree is whole or has no name
        except BaseException as error:
            if isinstance(error, ImageError):  # also of a blob that a power loss has torn: it is to be fetched again
                self.blob.unlink()
            remove_tree(os.fspath(part))
            raise
        reached("image.unpacked")
        os.rename(part, self.tree)
        reached("image.tree-named")

    def _lock(self, stop: threading.Event) -> bool:
        """True: alone with the directory, to make it. False: it is made, and stays while it is shared."""
        while True:
            if stop.is_set():
                raise Stopped
            self.path.mkdir(mode=0o700, exist_ok=True)
            try:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            if _flock(self._fd, fcntl.LOCK_EX) and _is_still(self.path, self._fd):
                return True
            if _flock(self._fd, fcntl.LOCK_SH) and _is_still(self.path, self._fd) and self.tree.exists():
                return False
            self.close()
            stop.wait(POLL_S * (1 + random.random()))

    def _progress(self, state: str, done_bytes: int = 0) -> LayerProgress:
        return LayerProgress(self.descriptor.digest, state, done_bytes, self.descriptor.size)


@contextmanager
def layers_of(
    found: FoundImage,
    folder: Path,
    has: Callable[[Descriptor, str], bool],
    source: Source,
    report: Progress,
    stop: threading.Event,
    *,
    keep: bool,
) -> Iterator[list[Layer]]:
    """The layers that the store lacks, made; they are not removed until the context ends.

    `has`: which of them the store has. `keep`: the parts of a layer are kept when another fails. Raises ImageError,
    OSError.
    """
    wanted = dict(
        zip(((d.digest, i) for d, i in zip(found.layers, found.diff_ids, strict=True)), found.layers, strict=True)
    )
    missing = []
    for (_, diff_id), descriptor in wanted.items():
        if has(descriptor, diff_id):
            report(LayerProgress(descriptor.digest, "exists", descriptor.size, descriptor.size))
        else:
            missing.append(Layer(folder, descriptor, diff_id, partial(has, descriptor, diff_id)))
    folder.mkdir(mode=0o700, exist_ok=True)
    with ExitStack() as stack:
        for layer in missing:
            stack.callback(layer.close)
        try:
            _make(missing, source, report, stop)
            yield missing
        except BaseException as error:
            # a full disk is not to stay full because of what did not fit
            if not keep or isinstance(error, OSError):
                for layer in missing:
                    layer.discard()
            raise


def _make(layers: Sequence[Layer], source: Source, report: Progress, stop: threading.Event) -> None:
    """All of them, or the first error when all have stopped. The largest first: it takes longest to unpack."""
    waiting: SimpleQueue[Layer] = SimpleQueue()
    for layer in sorted(layers, key=lambda layer: -layer.descriptor.size):
        waiting.put(layer)
    failed = threading.Event()
    either = _Either(stop, failed)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while not either.is_set():
                waiting.get_nowait().make(source, report, either)
        except Empty:
            pass
        except BaseException as error:  # raised by the thread that waits
            errors.append(error)
            failed.set()

    threads: list[OwnThread[None]] = []
    try:
        for _ in layers[: FETCHES + 2]:
            threads.append(OwnThread(work))
        for thread in threads:
            thread.wait()
    except BaseException:
        failed.set()
        for thread in threads:
            with contextlib.suppress(MemoryError):  # it has not begun
                thread.wait()
        raise
    for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
        raise error
    if stop.is_set():
        raise Stopped


class _Either(threading.Event):
    """Set when one of two is."""

    def __init__(self, first: threading.Event, second: threading.Event) -> None:
        super().__init__()
        self._both = (first, second)

    def is_set(self) -> bool:
        return any(event.is_set() for event in self._both)

    def wait(self, timeout: float | None = None) -> bool:
        end = time.monotonic() + (timeout if timeout is not None else threading.TIMEOUT_MAX)
        while not self.is_set() and (left := end - time.monotonic()) > 0:
            self._both[1].wait(min(left, 0.1))
        return self.is_set()


@contextmanager
def _slot(stop: threading.Event) -> Iterator[None]:
    while not _unpack_slots.acquire(timeout=0.2):
        if stop.is_set():
            raise Stopped
    try:
        yield
    finally:
        _unpack_slots.release()


def sweep(folder: Path, *, everything: bool = False) -> int:
    """Removes layers that no process makes any more: old ones, or `everything`. Returns the bytes of their blobs."""
    freed = 0
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            with contextlib.suppress(FileNotFoundError):
                if everything or is_older(path, KEPT_S):
                    freed += _size(path)
                    remove_unused(path)
    return freed


def is_older(path: Path, seconds: float) -> bool:
    """Whether the file was last written so long ago. What has a date in the future is older than that: the clock was
    set back since. Raises OSError."""
    return not 0 <= time.time() - path.stat().st_mtime <= seconds


def remove_unused(path: Path, held_fd: int = -1) -> bool:
    """Removes a layer in the making unless another holds its lock; whether it did. `held_fd`: the caller's own."""
    try:
        fd = held_fd if held_fd >= 0 else os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if not _flock(fd, fcntl.LOCK_EX) or not _is_still(path, fd):
            return False
        if (path / "tree").exists():  # a process that is killed here must leave nothing that looks finished
            if (path / "tree.part").exists():
                remove_tree(os.fspath(path / "tree.part"))
            os.rename(path / "tree", path / "tree.part")
        for name in ("blob", "blob.part"):
            (path / name).unlink(missing_ok=True)
        remove_tree(os.fspath(path))
        return True
    finally:
        if fd != held_fd:
            os.close(fd)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir() if file.is_file())


def _flock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(path: Path, fd: int) -> bool:
    """Whether the name still stands for the directory that was locked."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
