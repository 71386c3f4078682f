"""Generated tar archives: read as Python's tarfile reads them, or refused; nothing else is raised, nothing grows."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from itertools import zip_longest
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from minipod.runtime.images.tarstream import BLOCK, FOLDER, HARD_LINK, KINDS, REGULAR, BadLayerError, Stream, entries

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
Read = list[tuple[Any, ...]]

names = st.one_of(
    st.sampled_from(["a", "a/b", "./a", "/a", "../a", "a/", "é", "a" * 99, "a" * 100, "a" * 101, "d/" * 60 + "f"]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12),
)
numbers = st.one_of(st.sampled_from([0, 1, 0o7777777, 0o10000000, 2**31, 2**32 - 2]), st.integers(0, 2**33))


@st.composite
def members(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(draw(names))
    member.type = draw(
        st.sampled_from(
            [tarfile.REGTYPE] * 4
            + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
        )
    )
    member.mode = draw(st.integers(0, 0o7777))
    member.uid, member.gid = draw(numbers), draw(numbers)
    member.mtime = draw(st.sampled_from([0, 1, 1.5, 2**31, 0.25]) | st.integers(0, 2**34))
    if member.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        member.linkname = draw(names)
    if member.type == tarfile.CHRTYPE:
        member.devmajor, member.devminor = draw(st.integers(0, 4095)), draw(st.integers(0, 4095))
    content = draw(st.binary(max_size=20) | st.just(bytes(BLOCK)) | st.just(b"x" * 1500))
    member.size = len(content) if member.isreg() else 0
    return member, content if member.isreg() else b""


def archive(listed: list[tuple[tarfile.TarInfo, bytes]], form: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for member, content in listed:
            try:
                tar.addfile(member, io.BytesIO(content))
            except ValueError:  # ustar has no place for it
                continue
    return file.getvalue()


def ours(data: bytes, piece: int) -> tuple[Read, bool]:
    """What is read, and whether to the end."""
    found: Read = []
    source = io.BytesIO(data)
    stream = Stream(lambda: source.read(piece))
    try:
        for entry in entries(stream):
            content = b"".join(bytes(part) for part in stream.pieces(entry.size)) if entry.parts is None else None
            if entry.parts is not None:
                stream.skip(entry.size)
            found.append((entry.name, entry.kind, entry.link, entry.uid, entry.gid, entry.mode & 0o7777, content))
    except BadLayerError:
        return found, False
    return found, True


def theirs(data: bytes) -> Read:
    """What tarfile reads of it: it ends without a word at what is no header."""
    found: Read = []
    try:
        with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape", encoding="utf-8") as tar:
            for member in tar:
                kind = KINDS.get(member.type[0], REGULAR)
                if member.type == tarfile.GNUTYPE_SPARSE or member.issparse():
                    found.append((_bytes(member.name), None))
                    continue
                content = _content(tar, member) if member.isreg() else b""
                link = _bytes(member.linkname)
                found.append((_bytes(member.name), kind, link, member.uid, member.gid, member.mode & 0o7777, content))
    except (tarfile.TarError, ValueError, OverflowError, EOFError):
        pass
    return found


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file is not None else b""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def comparable(read: tuple[Any, ...]) -> tuple[Any, ...]:
    """tarfile takes the slash off a name's end."""
    name, kind, *rest = read
    return (name.rstrip(b"/"), kind, *rest)


@given(st.lists(members(), max_size=5), st.sampled_from(FORMATS), st.sampled_from([1, 100, 512, 700, 1 << 20]))
def test_what_tarfile_writes_is_read_as_tarfile_reads_it(
    listed: list[tuple[tarfile.TarInfo, bytes]], form: int, piece: int
) -> None:
    data = archive(listed, form)
    read, whole = ours(data, piece)
    assert whole
    assert list(map(comparable, read)) == list(map(comparable, theirs(data)))


# -- damaged ones

#: where a header's fields are, for changes that reach them
PLACES = (0, 99, 100, 107, 108, 116, 124, 125, 135, 136, 148, 156, 157, 257, 263, 329, 345, 386, 482, 483)
TYPES = b"0\x0012345678LKxgSAZ"


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[int, int, bytes, bool]]:
    """Which block, where in it, what comes there, and whether its checksum is made right again."""
    new = st.one_of(
        st.sampled_from([b"\0", b" ", b"\xff", b"\x80", b"7", b"-1", b"00000001000\0", b"77777777777", b"\xff" * 12]),
        st.binary(min_size=1, max_size=12),
        st.sampled_from([bytes((kind,)) for kind in TYPES]),
    )
    place = st.sampled_from(PLACES) | st.integers(0, BLOCK - 1)
    return draw(st.lists(st.tuples(st.integers(0, 12), place, new, st.booleans() | st.just(True)), max_size=4))


def damaged(data: bytes, changes: list[tuple[int, int, bytes, bool]], length: int | None) -> bytes:
    result = bytearray(data)
    for number, place, new, is_mended in changes:
        start = number * BLOCK
        if start + BLOCK > len(result):
            continue
        block = result[start : start + BLOCK]
        block[place : place + len(new)] = new
        block = block[:BLOCK]
        if is_mended:
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
        result[start : start + BLOCK] = block
    return bytes(result[:length])


damaged_archives = st.builds(
    lambda listed, form, changes, length: damaged(archive(listed, form), changes, length),
    st.lists(members(), min_size=1, max_size=4), st.sampled_from(FORMATS), damages(), st.none() | st.integers(0, 6000),
)  # fmt: skip


@given(damaged_archives, st.sampled_from([1, 512, 1 << 20]))
def test_a_damaged_archive_is_refused_or_read_as_tarfile_reads_it(data: bytes, piece: int) -> None:
    """Content that one reader takes for an entry and another does not would be a way past a reader that checks."""
    read, _ = ours(data, piece)
    assert len(read) <= len(data) // BLOCK
    for mine, other in zip_longest(read, theirs(data)):
        if mine is None or other is None or other[1] is None:
            break
        assert (mine[1] == REGULAR, mine[6] or b"") == (other[1] == REGULAR, other[6]), (mine, other)


@given(st.binary(max_size=3000) | st.binary(max_size=40).map(lambda text: text * 40))
def test_any_bytes_are_an_archive_or_are_refused(data: bytes) -> None:
    ours(data, 512)


def header(kind: bytes, size: bytes) -> bytes:
    made = tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT)
    return damaged(made, [(0, 156, kind, False), (0, 124, size, True)], None)


@given(
    st.sampled_from([b"L", b"K", b"x", b"g", b"S", b"0", b"5"]),
    st.sampled_from([b"77777777777\0", b"\x80" + b"\xff" * 11]),
)
@example(b"S", b"00000000000\0")
def test_a_size_that_is_promised_takes_no_memory(kind: bytes, size: bytes) -> None:
    data = header(kind, size) * 3
    tracemalloc.start()
    ours(data, 1 << 20)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 20


def test_a_file_whose_name_ends_like_a_folders_keeps_its_content() -> None:
    """As in Go's archive/tar and in tarfile: its content is no entry. With v7's type it is a folder."""
    inner = tarfile.TarInfo("smuggled").tobuf(tarfile.USTAR_FORMAT)
    for kind, wanted in ((b"0", REGULAR), (b"\0", FOLDER)):
        member = tarfile.TarInfo("a/")
        member.size = len(inner)
        made = damaged(member.tobuf(tarfile.USTAR_FORMAT), [(0, 156, kind, True)], None)
        made = made.replace(b"a\0", b"a/", 1) if not made.startswith(b"a/") else made
        made = damaged(made, [(0, 156, kind, True)], None)
        read, whole = ours(made + inner + bytes(2 * BLOCK), 512)
        assert (len(read), whole) == (1, True), read
        assert (read[0][0], read[0][1]) == (b"a/", wanted)


def test_kinds_are_those_of_tarfile() -> None:
    assert KINDS[tarfile.LNKTYPE[0]] == HARD_LINK
    assert KINDS[tarfile.DIRTYPE[0]] == FOLDER
