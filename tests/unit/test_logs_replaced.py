"""A pod with a hostPath to its own log replaces it: nothing is read, written or renamed elsewhere (unit)."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from minipod.agent.pods import logtail
from minipod.runtime import log_file, log_history
from minipod.runtime.log_file import LogFile
from minipod.streams import crilog
from minipod.streams.crilog import Follower

SECRET = b"2026-01-02T03:04:05Z stdout F secret\n"
ROTATED = "0.log.20200101-000000"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A container's log folder."""
    made = tmp_path / "pods" / "ns_pod_uid" / "main"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    made = tmp_path / "canary"
    made.mkdir()
    for name in ("secret", "0.log", ROTATED):
        (made / name).write_bytes(SECRET)
    return made


def picture(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def folder_by_link(folder: Path, canary: Path) -> None:
    folder.rmdir()
    folder.symlink_to(canary)


def pod_folder_by_link(folder: Path, canary: Path) -> None:
    folder.rmdir()
    folder.parent.rmdir()
    (canary / "main").symlink_to(canary)
    folder.parent.symlink_to(canary)


def file_by_link(folder: Path, canary: Path) -> None:
    (folder / "0.log").symlink_to(canary / "secret")


def file_by_pipe(folder: Path, canary: Path) -> None:
    os.mkfifo(folder / "0.log")


def tail(path: str, count: int) -> list[tuple[str, int]]:
    with log_history.at_once(path) as files:
        return [(file.path, start) for file, start in crilog.tail(files, count)]


Replace = Callable[[Path, Path], None]
REPLACEMENTS = pytest.mark.parametrize("replace", [folder_by_link, pod_folder_by_link, file_by_link, file_by_pipe])


@REPLACEMENTS
def test_the_command_line_reads_no_link(folder: Path, canary: Path, replace: Replace) -> None:
    replace(folder, canary)
    path = str(folder / "0.log")
    for read in (
        lambda: list(log_history.chunks(path)),
        lambda: tail(path, 10),
        lambda: list(Follower(path).read()),
    ):
        with pytest.raises(OSError, match=r"is a link|is no regular file"):
            read()


@REPLACEMENTS
def test_the_agent_reads_no_link(folder: Path, canary: Path, replace: Replace) -> None:
    replace(folder, canary)
    assert logtail.tail_text(str(folder / "0.log"), 10, 1000) == ""
    assert logtail.last_lines(str(folder)) == []


@REPLACEMENTS
def test_the_agent_writes_along_no_link(folder: Path, canary: Path, replace: Replace) -> None:
    replace(folder, canary)
    before = picture(canary) if replace is not pod_folder_by_link else {}
    with pytest.raises(OSError, match=r"is a link|is no regular file"):
        LogFile(str(folder / "0.log"), 0, 0).open()
    assert replace is pod_folder_by_link or picture(canary) == before


@pytest.mark.parametrize("name", [ROTATED, f"{ROTATED}.gz"])
def test_a_rotated_file_that_is_a_link_is_not_read(folder: Path, canary: Path, name: str) -> None:
    (folder / "0.log").write_bytes(SECRET.replace(b"secret", b"own"))
    (canary / "gz").write_bytes(gzip.compress(SECRET))
    (folder / name).symlink_to(canary / ("gz" if name.endswith("gz") else "secret"))
    path = str(folder / "0.log")
    for generation in log_history.generations(path):
        with pytest.raises(OSError, match="is a link"):
            list(log_history.chunks(generation))
    with pytest.raises(OSError, match="is a link"):
        tail(path, 10)


def rotate(folder: Path, between: Callable[[], None]) -> None:
    """A log that is full, whatever `between` made of its place since it was opened."""

    log = LogFile(str(folder / "0.log"), max_size=10, max_files=5)
    log.write(b"begun\n")
    between()
    log.write(b"0123456789abc\n")
    log.write(b"next\n")
    log.close()


def test_rotation_does_not_rename_along_a_folder_that_became_a_link(folder: Path, canary: Path) -> None:
    before = picture(canary)

    def swap() -> None:
        os.rename(folder, folder.parent / "was")
        folder.symlink_to(canary)

    rotate(folder, swap)
    assert picture(canary) == before
    assert (folder.parent / "was" / "0.log").read_bytes() == b"begun\n0123456789abc\nnext\n"


def test_what_keeps_a_log_from_being_rotated_is_said_once(
    folder: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent's own log has no limit, and lies in memory."""
    said: list[str] = []
    monkeypatch.setattr(log_file.log, "warning", lambda form, *words: said.append(form % words))
    log = LogFile(str(folder / "0.log"), max_size=10, max_files=5)
    log.open()
    os.rename(folder, folder.parent / "was")
    folder.symlink_to(canary)
    for _ in range(5):
        log.write(b"0123456789abc\n")
    log.close()
    assert said == [f"log {folder}/0.log: rotation: is a link or no directory, which is not followed"]


def test_compression_does_not_read_a_link_nor_write_through_one(folder: Path, canary: Path) -> None:
    before = picture(canary)

    def swap() -> None:
        (folder / ROTATED).symlink_to(canary / "secret")
        (folder / "0.log.20210101-000000").write_bytes(b"own\n")
        (folder / "0.log.20210101-000000.tmp").symlink_to(canary / "0.log")

    rotate(folder, swap)
    assert picture(canary) == before
    assert (folder / ROTATED).is_symlink()
    assert not (folder / f"{ROTATED}.gz").exists()
    assert gzip.decompress((folder / "0.log.20210101-000000.gz").read_bytes()) == b"own\n"


def test_a_log_that_became_a_link_is_renamed_and_made_anew(folder: Path, canary: Path) -> None:
    before = picture(canary)

    def swap() -> None:
        (folder / "0.log").unlink()
        file_by_link(folder, canary)

    rotate(folder, swap)
    assert picture(canary) == before
    assert (folder / "0.log").read_bytes() == b"next\n"


def test_a_log_as_large_as_a_disk_is_read_in_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terabyte of nothing takes no space, and nobody's memory."""
    monkeypatch.setattr(crilog, "MEMORY_LIMIT", 1 << 20)
    monkeypatch.setattr(log_history, "READ_LIMIT", 1 << 20)
    path = str(folder / "0.log")
    log = LogFile(path, 0, 0)
    log.open()
    os.truncate(path, 1 << 40)
    log.write(b"\n" + SECRET)
    log.close()
    history = log_history.History(path)
    assert list(history.texts(b"stdout")) == [b"secret\n"]
    history.close()
    assert tail(path, 1) == [(path, (1 << 40) + 1)]
    ((_, start),) = tail(path, 10)
    assert start > 1 << 40
    first = next(log_history.chunks(path))
    assert len(first) <= log_history.LINE_LIMIT + log_history.CHUNK + 1
    follower = Follower(path)
    assert len(next(follower.read())) <= log_history.LINE_LIMIT + log_history.CHUNK + 1
    follower.close()


def bomb() -> bytes:
    """20 MB in 20 KB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(20)), packer.flush()])


def test_a_compressed_log_is_read_in_pieces(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crilog, "MEMORY_LIMIT", 1 << 20)
    (folder / f"{ROTATED}.gz").write_bytes(bomb())
    path = str(folder / "0.log")
    follower = Follower(path)
    (folder / "0.log").write_bytes(b"own\n")
    assert list(follower.read()) == [b"own\n"]
    os.rename(folder / "0.log", folder / "0.log.20210101-000000")
    (folder / "0.log.20220101-000000.gz").write_bytes(bomb())
    assert sum(map(len, follower.read())) < 8 << 20
    follower.close()
    assert (
        max(map(len, log_history.chunks(str(folder / f"{ROTATED}.gz"))))
        <= log_history.LINE_LIMIT + log_history.CHUNK + 1
    )


@pytest.mark.parametrize(
    "damage", [lambda text: text[:40], lambda text: b"no gzip", lambda text: text[:60] + b"\xff" * 9]
)
def test_a_damaged_compressed_log_is_read_as_far_as_it_is_well(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    text = b"".join(SECRET.replace(b"secret", str(number).encode()) for number in range(100))
    (folder / f"{ROTATED}.gz").write_bytes(damage(gzip.compress(text)))
    assert text.startswith(b"".join(log_history.chunks(str(folder / f"{ROTATED}.gz"))))


def test_the_last_lines_of_compressed_logs_are_counted_across_pieces(folder: Path) -> None:
    """A line in parts is one, wherever the file was read in two."""
    stamp = b"2026-01-02T03:04:05Z stdout "
    text = b"".join(stamp + (b"P " if number % 3 else b"F ") + b"x" * 999 + b"\n" for number in range(1000))
    (folder / f"{ROTATED}.gz").write_bytes(gzip.compress(text, 1))
    (folder / "0.log").write_bytes(text)
    for count in (1, 7, 65, 66, 200, 334, 1000):
        with log_history.at_once(str(folder / "0.log")) as (compressed, file):
            plain = crilog.tail_offset(file, count)
            starts = crilog._last_starts(compressed, count)
        assert (starts[0], len(starts)) == plain
