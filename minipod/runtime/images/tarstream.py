"""Reads tar archives as a stream of bytes (layer 3): ustar, pax, GNU and v7 headers. Writes nothing, trusts nothing.

tarfile would do, at 150 µs an entry where this takes 15, and with text where an archive has bytes. The formats are
those of tar(5) and pax(1); what Go's archive/tar refuses is refused. Imported by a process that is about to enter a
chroot: nothing but what the interpreter has loaded anyway.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK = 512
ZEROS = bytes(BLOCK)
#: of a pax header, a long name: what Go's archive/tar allows
MAX_SPECIAL_BYTES = 1 << 20
MAX_SPARSE_PARTS = 1 << 20
MAX_SHOWN = 200  # of a name, in an error
NS = 1_000_000_000

REGULAR, HARD_LINK, SYMLINK, CHAR, BLOCK_DEVICE, FOLDER, FIFO = range(7)
KINDS = {
    ord("0"): REGULAR,
    0: REGULAR,
    ord("7"): REGULAR,
    ord("S"): REGULAR,
    ord("1"): HARD_LINK,
    ord("2"): SYMLINK,
    ord("3"): CHAR,
    ord("4"): BLOCK_DEVICE,
    ord("5"): FOLDER,
    ord("6"): FIFO,
}
LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL, GNU_SPARSE = b"LKxgS"
XATTR_RECORD = b"SCHILY.xattr."


class BadLayerError(Exception):
    """The archive is not one that a runtime may unpack; the text says what is wrong with which entry."""


class Stream:
    """An uncompressed stream read once, from front to back. `next_chunk` gives b"" at its end."""

    def __init__(self, next_chunk: Callable[[], bytes]) -> None:
        self._next_chunk = next_chunk
        self._view = memoryview(b"")
        self._at = 0

    def _more(self) -> bool:
        chunk = self._next_chunk()
        self._view, self._at = memoryview(chunk), 0
        return bool(chunk)

    def take(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end only."""
        start, end = self._at, self._at + size
        if end <= len(self._view):
            self._at = end
            return bytes(self._view[start:end])
        parts = [bytes(self._view[start:])]
        missing = size - len(parts[0])
        self._at = len(self._view)
        while missing and self._more():
            self._at = min(missing, len(self._view))
            parts.append(bytes(self._view[: self._at]))
            missing -= self._at
        return b"".join(parts)

    def pieces(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes in pieces as they come; each is valid until the next. Raises BadLayerError."""
        while size:
            if self._at == len(self._view) and not self._more():
                raise BadLayerError("the archive ends in the middle of a file")
            start = self._at
            self._at = min(start + size, len(self._view))
            size -= self._at - start
            yield self._view[start : self._at]

    def skip(self, size: int) -> None:
        for _ in self.pieces(size):
            pass


class Entry:
    """One member. `name`, `link`: as in the archive. `size`: bytes of content; `parts` where it is sparse."""

    __slots__ = (
        "device",
        "gid",
        "kind",
        "link",
        "mode",
        "mtime_ns",
        "name",
        "parts",
        "real_size",
        "size",
        "uid",
        "xattrs",
    )

    def __init__(self) -> None:
        self.name = b""
        self.link = b""
        self.kind = REGULAR
        self.mode = self.uid = self.gid = self.size = self.real_size = self.mtime_ns = 0
        self.device = (0, 0)
        self.xattrs: dict[bytes, bytes] = {}
        self.parts: list[tuple[int, int]] | None = None  # offset, size


def entries(stream: Stream) -> Iterator[Entry]:
    """Each entry; the caller has consumed its `size` bytes before it asks for the next. Raises BadLayerError."""
    global_records: dict[bytes, bytes] = {}
    records: dict[bytes, bytes] = {}
    long_name = long_link = b""
    while len(header := stream.take(BLOCK)) == BLOCK and header != ZEROS:
        _check_sum(header)
        kind, size = header[156], _number(header[124:136], "size")
        if size < 0:
            raise BadLayerError("damaged header: negative size")
        if kind in (LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL):
            data = _special(stream, size)
            if kind == LONG_NAME:
                long_name = data.split(b"\0", 1)[0]
            elif kind == LONG_LINK:
                long_link = data.split(b"\0", 1)[0]
            elif kind == PAX:
                records = _pax_records(data)
            else:
                global_records.update(_pax_records(data))
                if sum(map(len, global_records.values())) + 64 * len(global_records) > MAX_SPECIAL_BYTES:
                    raise BadLayerError("damaged header: too many global records")
            continue
        entry = _entry(header, size, long_name, long_link)
        if global_records:
            records = {**global_records, **records}
        if records:
            _apply_records(entry, records)
        if kind == GNU_SPARSE:
            _read_old_sparse(stream, header, entry)
        elif entry.parts is None and records and records.get(b"GNU.sparse.major") == b"1":
            _read_sparse_map(stream, entry)
        padding = -size_in_archive(entry, size, records) % BLOCK
        if header[156] == 0 and entry.name.endswith(b"/"):
            _make_folder(stream, entry)
        records, long_name, long_link = {}, b"", b""
        yield entry
        if padding:
            stream.skip(padding)
    if 0 < len(header) < BLOCK:
        raise BadLayerError("the archive ends in the middle of a header")


def _make_folder(stream: Stream, entry: Entry) -> None:
    """v7 tar writes directories as files with a slash at the end. As in Go's archive/tar content is passed over and not
    taken for entries, and a file of ustar's own type stays one whatever its name: readers must agree on what is where.
    """
    stream.skip(entry.size)
    entry.kind, entry.size, entry.real_size, entry.parts = FOLDER, 0, 0, None


def size_in_archive(entry: Entry, size: int, records: dict[bytes, bytes]) -> int:
    """What is padded to whole blocks: the content, with its map where that stands before it."""
    if entry.kind != REGULAR:
        return 0
    return int(records.get(b"size") or size)


def _entry(header: bytes, size: int, long_name: bytes, long_link: bytes) -> Entry:
    entry = Entry()
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    entry.name = long_name or name
    entry.link = long_link or header[157:257].split(b"\0", 1)[0]
    kind = KINDS.get(header[156])
    if kind is None:
        raise BadLayerError(f"{shown(entry.name)}: unknown type {bytes(header[156:157])!r}")
    entry.kind = kind
    entry.mode = _number(header[100:108], "mode")
    entry.uid = _number(header[108:116], "uid")
    entry.gid = _number(header[116:124], "gid")
    entry.mtime_ns = _number(header[136:148], "mtime") * NS
    if kind == REGULAR:
        entry.size = entry.real_size = size
    elif kind in (CHAR, BLOCK_DEVICE):
        entry.device = (_number(header[329:337], "major"), _number(header[337:345], "minor"))
    return entry


def _number(field: bytes, what: str) -> int:
    """Octal text, or GNU's base 256."""
    if field[-1] in b"\0 ":
        try:
            return int(field[:-1], 8)  # nearly all: seven or eleven digits and their end
        except ValueError:
            pass
    first = field[0]
    if first & 0x80:
        value = int.from_bytes(field, "big")
        return value - (1 << (8 * len(field))) if first == 0xFF else value & ~(0x80 << (8 * (len(field) - 1)))
    text = field.split(b"\0", 1)[0].strip()
    try:
        return int(text, 8) if text else 0
    except ValueError:
        raise BadLayerError(f"damaged header: {what} is {text!r}") from None


def _check_sum(header: bytes) -> None:
    """tar(5): the sum of all bytes, the field itself taken as spaces; old programs summed signed bytes."""
    wanted = _number(header[148:156], "checksum")
    found = sum(header) - sum(header[148:156]) + 256
    if found != wanted and found - 256 * sum(byte > 127 for byte in header[:148] + header[156:]) != wanted:
        raise BadLayerError("damaged header: bad checksum")


def _special(stream: Stream, size: int) -> bytes:
    if size > MAX_SPECIAL_BYTES:
        raise BadLayerError(f"damaged header: {size} bytes for a name or a pax header")
    data = stream.take(size + -size % BLOCK)
    if len(data) < size:
        raise BadLayerError("the archive ends in the middle of a header")
    return data[:size]


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """`<length> <key>=<value>\\n` …, the length that of the whole record. Sparse maps of version 0.0 come together."""
    records: dict[bytes, bytes] = {}
    offsets: list[bytes] = []
    at = 0
    while at < len(data) and data[at]:
        space = data.find(b" ", at, at + 12)
        digits = data[at:space]
        if space < 0 or not digits.isdigit():
            raise BadLayerError("damaged pax header: no length")
        end = at + int(digits)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end <= space or not equals or data[end - 1 : end] != b"\n":
            raise BadLayerError("damaged pax header: bad record")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            offsets.append(value)
        else:
            records[key] = value
        at = end
    if offsets:
        records[b"GNU.sparse.map"] = b",".join(offsets)
    return records


def _apply_records(entry: Entry, records: dict[bytes, bytes]) -> None:
    try:
        for key, value in records.items():
            if key.startswith(XATTR_RECORD):
                entry.xattrs[key[len(XATTR_RECORD) :]] = value
            elif not value:
                continue  # pax(1): the record counts as absent, what the header says stays
            elif key == b"path":
                entry.name = value
            elif key == b"linkpath":
                entry.link = value
            elif key == b"size" and entry.kind == REGULAR:
                entry.size = entry.real_size = _natural(value)
            elif key == b"uid":
                entry.uid = int(value)
            elif key == b"gid":
                entry.gid = int(value)
            elif key == b"mtime":
                entry.mtime_ns = _nanoseconds(value)
        if b"GNU.sparse.name" in records:
            entry.name = records[b"GNU.sparse.name"]
        real_size = records.get(b"GNU.sparse.realsize", records.get(b"GNU.sparse.size"))
        if real_size is not None:
            entry.real_size = _natural(real_size)
        if b"GNU.sparse.map" in records:
            entry.parts = _parts([_natural(text) for text in records[b"GNU.sparse.map"].split(b",")], entry)
    except ValueError as error:
        raise BadLayerError(f"{shown(entry.name)}: damaged pax header: {error}") from None


def _natural(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise ValueError(f"{text[:40]!r} is no size")
    return int(text)


def _nanoseconds(text: bytes) -> int:
    seconds, _, fraction = text.partition(b".")
    if fraction and not fraction.isdigit():
        raise ValueError(f"{text[:40]!r} is no time")
    part = int((fraction + b"000000000")[:9])
    return int(seconds or b"0") * NS + (-part if seconds.startswith(b"-") else part)


def _parts(numbers: list[int], entry: Entry) -> list[tuple[int, int]]:
    """Offsets and sizes, which must follow one another inside the file and make up its content."""
    parts = list(zip(numbers[::2], numbers[1::2], strict=False))
    end = 0
    for offset, size in parts:
        if offset < end or offset + size > entry.real_size:
            raise BadLayerError(f"{shown(entry.name)}: damaged map of a sparse file")
        end = offset + size
    if len(numbers) % 2 or sum(size for _, size in parts) != entry.size:
        raise BadLayerError(f"{shown(entry.name)}: damaged map of a sparse file")
    return parts


def _read_old_sparse(stream: Stream, header: bytes, entry: Entry) -> None:
    entry.real_size = _number(header[483:495], "real size")
    numbers: list[int] = []
    table, count, more = header[386:482], 4, header[482]
    while True:
        for place in range(0, count * 24, 24):
            if table[place]:
                numbers += (
                    _number(table[place : place + 12], "offset"),
                    _number(table[place + 12 : place + 24], "size"),
                )
        if not more:
            break
        block = stream.take(BLOCK)
        if len(block) < BLOCK or len(numbers) > 2 * MAX_SPARSE_PARTS:
            raise BadLayerError(f"{shown(entry.name)}: damaged map of a sparse file")
        table, count, more = block[:504], 21, block[504]
    entry.parts = _parts(numbers, entry)


def _read_sparse_map(stream: Stream, entry: Entry) -> None:
    """pax 1.0: the map is lines of numbers before the content, filled up to whole blocks."""
    text, wanted = b"", 1
    numbers: list[int] = []
    while len(numbers) < wanted:
        block = stream.take(BLOCK)
        entry.size -= BLOCK
        if len(block) < BLOCK or entry.size < 0:
            raise BadLayerError(f"{shown(entry.name)}: damaged map of a sparse file")
        *lines, text = (text + block).split(b"\n")
        for line in lines[: wanted - len(numbers) if numbers else None]:
            if not line.isdigit() or len(line) > 20:
                raise BadLayerError(f"{shown(entry.name)}: damaged map of a sparse file")
            numbers.append(int(line))
            if len(numbers) == 1:
                wanted = 1 + 2 * numbers[0]
                if numbers[0] > MAX_SPARSE_PARTS:
                    raise BadLayerError(f"{shown(entry.name)}: damaged map of a sparse file")
            if len(numbers) == wanted:
                break
    entry.parts = _parts(numbers[1:], entry)


def shown(name: bytes) -> str:
    """A name as an error shows it: quoted, one line."""
    return repr(shortened(name.decode("utf-8", "backslashreplace")))


def shortened(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
