"""Unpacks one image layer (layer 3). A process of its own that locks itself into the target; starts nothing else.

An archive comes from strangers: absolute names, `..`, links that point outside. So `layers.py` runs this module as
a separate process, which enters the target by chroot before it reads the first header; whatever a name then says,
it ends below the target. It imports little, and nothing at all once it is inside: a late import would run code out
of the archive.

    python3 -I -S -c "…main()" TARGET MAX_BYTES < BLOB

writes `sha256:…`, the diff id, or errno, path and error with NULs between them.
The layer is left as overlayfs wants it: a whiteout is a character device 0:0, an opaque directory carries
trusted.overlay.opaque (kernel Documentation/filesystems/overlayfs.rst; image-spec layer.md).
"""

from __future__ import annotations

# _signal, _thread, _queue: without what the public modules load, which would be half of the start
import _signal  # type: ignore[import-not-found]  # typeshed has none
import _thread
import hashlib
import os
import stat
import sys
import zlib
from _queue import SimpleQueue

from minipod.runtime.images import tarstream
from minipod.runtime.images.tarstream import BadLayerError, Entry, Stream, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

WHITEOUT_PREFIX = b".wh."
WHITEOUT_META_PREFIX = b".wh..wh."
WHITEOUT_OPAQUE = b".wh..wh..opq"
OPAQUE_XATTR = b"trusted.overlay.opaque"
#: what an archive may set; trusted.overlay.* would let it redirect lookups of the finished overlay
XATTRS_KEPT = (b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default", b"user.")
XATTRS_REFUSED = (b"user.overlay.",)
CHUNK_IN = 1 << 17
CHUNK_OUT = 1 << 20
CHUNKS_AHEAD = 4
MAX_ID = 2**32 - 2
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


# ---- from the blob to the archive


def compression_of(head: bytes) -> str:
    """gzip, zstd or none, by the first bytes: media types are wrong often enough (podman save writes plain layers as
    gzip), and whatever is read must have the right diff id in the end."""
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    if head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return "zstd"  # RFC 8878: a frame, or one to be skipped
    return "none"


def plain(fd: int) -> Callable[[], bytes]:
    return lambda: os.read(fd, CHUNK_OUT)


def gunzip(fd: int, make: Callable[..., Any]) -> Callable[[], bytes]:
    """All members of a gzip file. `make`: zlib's decompressobj, or one that behaves like it."""
    inflater = make(wbits=31)
    pending = os.read(fd, CHUNK_IN)
    begun = False

    def next_chunk() -> bytes:
        nonlocal inflater, pending, begun
        while True:
            if not pending:
                pending = os.read(fd, CHUNK_IN)
            if inflater.eof:
                while pending and not pending.strip(b"\0"):  # padding behind the last member
                    pending = os.read(fd, CHUNK_IN)
                if not pending:
                    return b""
                inflater, begun = make(wbits=31), False
            if not pending and not begun:
                raise BadLayerError("the gzip file ends in the middle")
            data: bytes = inflater.decompress(pending, CHUNK_OUT)
            at_end = not pending
            pending = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            begun = True
            if data:
                return data
            if at_end and not inflater.eof:
                raise BadLayerError("the gzip file ends in the middle")

    return next_chunk


def unzstd(fd: int) -> Callable[[], bytes]:
    import zstandard

    reader = zstandard.ZstdDecompressor().stream_reader(
        os.fdopen(os.dup(fd), "rb", buffering=0), read_size=CHUNK_IN, read_across_frames=True
    )
    return lambda: reader.read(CHUNK_OUT)


class Hashed:
    """Passes chunks on and hashes them: the diff id is the digest of the uncompressed archive. Bounded."""

    def __init__(self, next_chunk: Callable[[], bytes], max_bytes: int) -> None:
        self._next_chunk = next_chunk
        self._hash = hashlib.sha256()
        self._max_bytes = max_bytes
        self.size = 0

    def __call__(self) -> bytes:
        chunk = self._next_chunk()
        self.size += len(chunk)
        if self.size > self._max_bytes:
            raise BadLayerError(f"it unpacks to more than {self._max_bytes} bytes, too much for its size")
        self._hash.update(chunk)
        return chunk

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def ahead(next_chunk: Callable[[], bytes]) -> Callable[[], bytes]:
    """The same chunks, read by a thread of its own: one processor inflates and hashes, the other makes files."""
    room: SimpleQueue[None] = SimpleQueue()
    for _ in range(CHUNKS_AHEAD):
        room.put(None)
    chunks: SimpleQueue[bytes | BaseException] = SimpleQueue()

    def read() -> None:
        try:
            chunk = b"-"
            while chunk:
                room.get()
                chunk = next_chunk()
                chunks.put(chunk)
        except BaseException as error:  # raised where the chunk is missing
            chunks.put(error)

    _thread.start_new_thread(read, ())

    def next_read() -> bytes:
        found = chunks.get()
        if not isinstance(found, bytes):
            raise found
        if found:
            room.put(None)
        else:
            chunks.put(found)  # the next caller gets it again
        return found

    return next_read


# ---- from the archive to files


class Unpacker:
    """Makes what an archive says below `/`, which is the target by now."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._folders: list[tuple[bytes, int]] = []
        self._acls = False  # a default ACL changes the modes of what is made below it
        self._set_gid = False  # such a directory changes the group

    def run(self) -> None:
        """Raises BadLayerError, OSError."""
        for entry in tarstream.entries(self._stream):
            path = path_of(entry.name)
            if path[path.rfind(b"/") + 1 :].startswith(WHITEOUT_PREFIX):
                self._stream.skip(entry.size)
                apply_whiteout(path)
                continue
            if not 0 <= entry.uid <= MAX_ID or not 0 <= entry.gid <= MAX_ID:
                raise BadLayerError(f"{shown(entry.name)}: owner {entry.uid}:{entry.gid} is out of range")
            if entry.kind == tarstream.REGULAR:
                self._write_file(entry, path)
            else:
                self._make(entry, path)
        for path, mtime_ns in reversed(self._folders):  # last, as each new entry touches its directory
            try:
                found = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if stat.S_ISDIR(found.st_mode):
                os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)

    def _write_file(self, entry: Entry, path: bytes) -> None:
        mode = stat.S_IMODE(entry.mode)
        try:
            fd = os.open(path, CREATE, mode)
        except OSError:
            make_place(path, for_folder=False)
            fd = os.open(path, CREATE, mode)
        try:
            if entry.parts is None:
                for piece in self._stream.pieces(entry.size):
                    write_all(fd, piece)
            else:
                self._write_parts(fd, entry)
            if entry.uid or entry.gid or self._set_gid:
                os.fchown(fd, entry.uid, entry.gid)
                os.fchmod(fd, mode)  # after the owner, which clears set-uid
            elif self._acls:
                os.fchmod(fd, mode)
            if entry.xattrs:
                self._set_xattrs(entry, fd)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _write_parts(self, fd: int, entry: Entry) -> None:
        for offset, size in entry.parts or ():
            os.lseek(fd, offset, os.SEEK_SET)
            for piece in self._stream.pieces(size):
                write_all(fd, piece)
        os.ftruncate(fd, entry.real_size)

    def _make(self, entry: Entry, path: bytes) -> None:
        """Anything but a regular file, with owner, mode, attributes and time."""
        is_folder = entry.kind == tarstream.FOLDER
        try:
            make_node(entry, path)
        except (FileExistsError, FileNotFoundError, NotADirectoryError):
            if entry.kind == tarstream.HARD_LINK:
                check_link(entry)
            if not is_folder or not is_real_folder(path):
                opaque = make_place(path, for_folder=is_folder)
                make_node(entry, path)
                if is_folder and opaque:
                    os.setxattr(path, OPAQUE_XATTR, b"y")
        if entry.kind == tarstream.HARD_LINK:
            return  # owner, mode and time are those of the first name
        if entry.uid or entry.gid or self._set_gid or is_folder:
            os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        if entry.kind != tarstream.SYMLINK:
            os.chmod(path, stat.S_IMODE(entry.mode))  # after the owner, which clears set-uid
        if entry.xattrs:
            self._set_xattrs(entry, path)
        if is_folder:
            self._folders.append((path, entry.mtime_ns))
            self._set_gid = self._set_gid or bool(entry.mode & stat.S_ISGID)
        else:
            os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)

    def _set_xattrs(self, entry: Entry, place: int | bytes) -> None:
        for name, value in entry.xattrs.items():
            if not name.startswith(XATTRS_KEPT) or name.startswith(XATTRS_REFUSED):
                continue
            self._acls = self._acls or name.startswith(b"system.")
            if isinstance(place, int):
                os.setxattr(place, name, value)
            else:
                os.setxattr(place, name, value, follow_symlinks=False)


def is_real_folder(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def path_of(name: bytes) -> bytes:
    return os.path.normpath(b"/" + name.lstrip(b"/"))


def write_all(fd: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(fd, piece) :]


def make_node(entry: Entry, path: bytes) -> None:
    kind = entry.kind
    if kind == tarstream.FOLDER:
        os.mkdir(path, 0o700)
    elif kind == tarstream.SYMLINK:
        os.symlink(entry.link, path)
    elif kind == tarstream.HARD_LINK:
        os.link(path_of(entry.link), path, follow_symlinks=False)
    elif kind == tarstream.FIFO:
        os.mkfifo(path, 0o600)
    else:
        of_kind = stat.S_IFCHR if kind == tarstream.CHAR else stat.S_IFBLK
        os.mknod(path, of_kind | 0o600, os.makedev(*entry.device))


def check_link(entry: Entry) -> None:
    """Raises BadLayerError where the first name of a hard link is not in this layer."""
    if not os.path.lexists(path_of(entry.link)):
        raise BadLayerError(f"{shown(entry.name)}: hard link to {shown(entry.link)}, which the layer does not have")


def make_place(path: bytes, for_folder: bool) -> bool:
    """Parents, which an archive need not name; and room: a later entry replaces an earlier one of its name.

    Returns whether a whiteout has made room: then a directory is to be opaque, so that both count.
    """
    make_folders(os.path.dirname(path))
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(path)
    elif not for_folder:
        remove_tree(path)
    return is_whiteout(found)


def make_folders(path: bytes) -> None:
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        try:
            os.mkdir(folder, 0o755)
        except FileExistsError:
            if not is_whiteout(os.lstat(folder)):
                raise
            os.unlink(folder)
            os.mkdir(folder, 0o755)
            os.setxattr(folder, OPAQUE_XATTR, b"y")


def is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def remove_tree(path: bytes) -> None:
    """Inside the chroot and alone there, so names are safe; no other module can be loaded here."""
    folders = [path]
    for folder in folders:  # grows while it is walked
        for entry in list(os.scandir(folder)):
            folders.append(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
    for folder in reversed(folders):
        os.rmdir(folder)


def apply_whiteout(path: bytes) -> None:
    """A whiteout is for the layers below: what its own layer brings stays, whichever comes first in the archive."""
    folder, name = os.path.split(path)
    make_folders(folder)
    if name == WHITEOUT_OPAQUE:
        os.setxattr(folder, OPAQUE_XATTR, b"y")
        return
    if name.startswith(WHITEOUT_META_PREFIX):  # aufs' own bookkeeping, in images of old
        return
    hidden = name.removeprefix(WHITEOUT_PREFIX)
    if hidden in (b"", b".", b".."):
        raise BadLayerError(f"whiteout of nothing: {shown(name)}")
    target = os.path.join(folder, hidden)
    try:
        os.mknod(target, stat.S_IFCHR | 0o000, os.makedev(0, 0))
    except FileExistsError:
        if stat.S_ISDIR(os.lstat(target).st_mode):
            os.setxattr(target, OPAQUE_XATTR, b"y")


# ---- the process


def enter(target: str) -> None:
    """From here on `/` is the target, which is verified, for names in archives are used as they are. No module can be
    loaded any more."""
    shed_protection()
    wanted = os.stat(target)
    os.chroot(target)
    os.chdir("/")
    if not os.path.samestat(wanted, os.stat("/")) or not os.path.samestat(wanted, os.stat(".")):
        raise BadLayerError("the root directory is not the layer's: nothing is unpacked")
    os.umask(0)
    sys.path.clear()
    sys.meta_path.clear()


def shed_protection(path: str = "/proc/self/oom_score_adj") -> None:
    """The agent's protection from the OOM killer ends here: others are not to pay for what a layer makes of memory."""
    with open(path, "r+", encoding="ascii") as file:
        if int(file.read()) < 0:
            file.seek(0)
            file.write("0")


def source() -> tuple[Callable[[], bytes], tuple[type[Exception], ...]]:
    """How to read the blob on standard input, and what that may raise. Loads the library: before `enter`."""
    compression = compression_of(os.pread(0, 4, 0))
    if compression == "none":
        return plain(0), ()
    if compression == "zstd":
        import zstandard

        return unzstd(0), (zstandard.ZstdError,)
    try:
        from isal import isal_zlib  # two to three times as fast as zlib; not built for every machine
    except ImportError:
        return gunzip(0, zlib.decompressobj), (zlib.error,)
    isal_error: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # typed as OSError, which it is not
    return gunzip(0, isal_zlib.decompressobj), (zlib.error, isal_error)


def main() -> NoReturn:
    """Ends by os._exit: an interpreter that is torn down ends its threads, for which glibc loads libgcc_s.so.1, and
    that would be the archive's."""
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    target, max_bytes = sys.argv[1:]
    status, answer = 1, ""
    try:
        answer = unpack(target, int(max_bytes))
        status = 0
    except (BadLayerError, EOFError, ValueError, OverflowError) as error:
        answer = f"0\0\0{error}" if str(error) else f"0\0\0{type(error).__name__}"
    except OSError as error:
        answer = f"{error.errno or 0}\0{_text(error.filename)}\0{error.strerror or error}"
    except BaseException as error:  # a fault of ours
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
    finally:
        os.write(1, answer.encode("utf-8", "backslashreplace"))
        os._exit(status)


def unpack(target: str, max_bytes: int) -> str:
    """The diff id. Raises BadLayerError, EOFError, ValueError, OverflowError, OSError."""
    next_chunk, errors = source()
    hashed = Hashed(next_chunk, max_bytes)
    enter(target)
    chunks = ahead(hashed)
    try:
        Unpacker(Stream(chunks)).run()
        while chunks():  # the padding after the archive's end belongs to the digest
            pass
    except errors as error:
        raise BadLayerError(str(error) or type(error).__name__) from None
    return hashed.digest


def _text(name: object) -> str:
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name or "")
    return tarstream.shortened(text)
