"""CRI's log format: what goes in as bytes comes out as lines."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import os
import random
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minipod.kernel import error_text
from minipod.kernel.limits import Value
from minipod.runtime import log_file, logs
from minipod.runtime.log_file import LINE_LIMIT, LogFile, format_lines, raw_output, timestamp
from minipod.runtime.logs import ContainerLog

NOW_NS = 1_795_403_736_840_719_254
STAMP = b"2026-11-23T03:15:36.840719254Z"


def test_a_timestamp_is_rfc3339_with_nanoseconds() -> None:
    assert timestamp(NOW_NS) == STAMP


def test_whole_lines_are_marked_full_and_the_rest_is_kept() -> None:
    text, rest = format_lines(b"one\ntwo\nthr", b"stdout", NOW_NS)
    assert text == STAMP + b" stdout F one\n" + STAMP + b" stdout F two\n"
    assert rest == b"thr"


def test_an_empty_line_stays_a_line() -> None:
    assert format_lines(b"\n\n", b"stderr", NOW_NS) == ((STAMP + b" stderr F \n") * 2, b"")


def test_a_long_line_is_split_into_parts_of_16_kib() -> None:
    text, rest = format_lines(b"x" * (2 * LINE_LIMIT + 5) + b"\n", b"stdout", NOW_NS)
    tags = [line.split(b" ", 3)[2:] for line in text.splitlines()]
    assert [(tag, len(piece)) for tag, piece in tags] == [(b"P", LINE_LIMIT), (b"P", LINE_LIMIT), (b"F", 5)]
    assert rest == b""


def test_an_endless_line_does_not_grow_in_memory() -> None:
    text, rest = format_lines(b"x" * (3 * LINE_LIMIT), b"stdout", NOW_NS)
    assert text.count(b" P ") == 2
    assert len(rest) == LINE_LIMIT


def test_bytes_that_are_no_text_pass_through_unchanged() -> None:
    text, _ = format_lines(b"\xff\x00\r\n", b"stdout", NOW_NS)
    assert text == STAMP + b" stdout F \xff\x00\r\n"


@pytest.mark.parametrize("length", [LINE_LIMIT - 1, LINE_LIMIT, LINE_LIMIT + 1])
@pytest.mark.parametrize("before", [0, 1, LINE_LIMIT])
def test_a_line_is_cut_at_the_limit_wherever_it_stands(length: int, before: int) -> None:
    lines = [b"a" * before, b"b" * length, b"c"]
    text, _ = format_lines(b"\n".join(lines) + b"\n", b"stdout", NOW_NS)
    told = text.splitlines()
    assert [line.split(b" ", 3)[2] for line in told] == [b"F", *([b"P"] if length > LINE_LIMIT else []), b"F", b"F"]
    assert b"".join(line.split(b" ", 3)[3] for line in told) == b"".join(lines)


def test_a_full_file_is_rotated_and_older_ones_are_compressed(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "0.log"), max_size=14, max_files=3)
    (tmp_path / "0.log.20200101-000000").write_bytes(b"older")
    (tmp_path / "0.log.20190101-000000.gz").write_bytes(b"oldest")
    assert log.write(b"0123456789abc\n") == b""
    assert log.write(b"next\n") == b""
    log.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0] == "0.log"
    assert (tmp_path / "0.log").read_bytes() == b"next\n"
    assert names[1] == "0.log.20200101-000000.gz"
    assert gzip.decompress((tmp_path / names[1]).read_bytes()) == b"older"
    assert (tmp_path / names[2]).read_bytes() == b"0123456789abc\n"
    assert len(names) == 3
    assert {path.stat().st_mode & 0o7777 for path in tmp_path.iterdir() if path.name in names[:2]} == {0o640}


@pytest.mark.parametrize("line", [b"%d\n", b"%d" + b"x" * 300 + b"\n"])
def test_a_file_that_is_filled_within_a_second_is_rotated_as_often_as_it_is_full(tmp_path: Path, line: bytes) -> None:
    """However fast a container writes and however much at once, its logs take no more than they may."""
    log = LogFile(str(tmp_path / "0.log"), max_size=1000, max_files=4)
    text = b"".join(line % number for number in range(5000))
    for start in range(0, len(text), 70_000):
        end = text.rfind(b"\n", start, start + 70_000) + 1
        log.write(text[start:end] if start == 0 else text[text.rfind(b"\n", 0, start) + 1 : end])
        assert max(path.stat().st_size for path in tmp_path.iterdir()) <= 1000
    log.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 4, names
    contents = [(tmp_path / name).read_bytes() for name in [*names[1:], names[0]]]
    plain = [gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data for data in contents]
    kept = b"".join(plain)
    assert text.endswith(kept)
    assert len(kept) > 2000


def test_a_log_that_cannot_be_compressed_takes_no_more_than_its_limit_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    rename = os.rename

    def measured(source: str, target: str, **dirs: Any) -> None:
        nonlocal most
        most = max(most, sum(path.stat().st_size for path in tmp_path.iterdir()))
        rename(source, target, **dirs)

    monkeypatch.setattr(os, "rename", measured)
    log = LogFile(str(tmp_path / "0.log"), max_size=20_000, max_files=4)
    for number in range(1000):
        log.write(random.Random(number).randbytes(500).hex().encode() + b"\n")
    log.close()
    assert 40_000 < most <= 4 * 20_000


def test_what_the_disk_has_no_space_for_is_returned_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a piece that was written is taken back: what is tried again is the whole of it."""
    write, room = os.write, 10

    def on_a_full_disk(fd: int, data: bytes) -> int:
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, bytes(data[:room]))

    log = LogFile(str(tmp_path / "0.log"), max_size=0, max_files=4)
    log.write(b"one\n")
    monkeypatch.setattr(os, "write", on_a_full_disk)
    room = 0
    text = b"two\nthree\n"
    assert log.write(text) == text
    assert (tmp_path / "0.log").read_bytes() == b"one\n"
    room = 3
    assert log.write(text) == b""
    log.close()
    assert (tmp_path / "0.log").read_bytes() == b"one\ntwo\nthree\n"


def test_a_full_disk_is_logged_once_with_its_place_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(log_file.log, "warning", lambda form, *words: logged.append(form % words))
    monkeypatch.setattr(error_text, "read", lambda name, _path: Value(100, 100) if name == "blocks" else Value(1, 100))
    log = LogFile(str(tmp_path / "0.log"), max_size=0, max_files=4)
    log.open()
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        for _ in range(3):
            log.write(b"two\n")
    log.close()
    full_disk = f"No space left on device: no more space on the file system of {tmp_path}: 100 of 100 KiB: free some"
    loss = "its container's output waits until there is space"
    assert logged == [f"log {tmp_path}/0.log: write: {full_disk}: {loss}"]


def test_the_output_of_a_log_text_is_what_the_container_wrote() -> None:
    data = b"a\n\n" + b"b" * (2 * LINE_LIMIT + 3) + b"\nc d e f\n"
    assert raw_output(format_lines(data, b"stdout", NOW_NS)[0]) == data


def test_output_arrives_in_the_file_and_an_unfinished_line_at_the_end_is_a_full_one(tmp_path: Path) -> None:
    assert _through_a_pipe(tmp_path, [b"one\ntw", b"o\nlast"]) == [b"one", b"two", b"last"]


def test_who_listens_to_all_of_it_hears_what_was_written_before(tmp_path: Path) -> None:
    async def run() -> tuple[list[bytes], list[bytes]]:
        read_fd, write_fd = os.pipe()
        log = ContainerLog(str(tmp_path / "0.log"), 0, 5, str(tmp_path))
        log.add(read_fd, "stdout")
        os.write(write_fd, b"one\ntwo\nthr")
        while not (tmp_path / "stdout.partial").exists():
            await asyncio.sleep(0)
        await log.open()  # after the turn that has read this
        whole: list[bytes] = []
        rest: list[bytes] = []
        log.tap("stdout", whole.append, whole=True)
        log.tap("stdout", rest.append)
        os.write(write_fd, b"ee\n")
        os.close(write_fd)
        await log.finish(1)
        late: list[bytes] = []
        log.tap("stdout", late.append, whole=True)
        while len(late) < 2 or whole[-1:] != [b""]:
            await asyncio.sleep(0)
        assert late == [b"one\ntwo\nthree\n", b""]
        return whole, rest

    whole, rest = asyncio.run(run())
    assert b"".join(whole) == b"one\ntwo\nthree\n"
    assert b"".join(rest) == b"three\n"


def test_a_killed_agent_loses_nothing_of_an_unfinished_line(tmp_path: Path) -> None:
    async def first_agent() -> int:
        reader, writer = os.pipe()
        log = ContainerLog(str(tmp_path / "0.log"), 0, 5, str(tmp_path))
        log.add(os.dup(reader), "stdout")
        os.write(writer, b"whole\nunfini")
        while not (tmp_path / "stdout.partial").exists():
            await asyncio.sleep(0)
        log.detach()  # what a killed agent leaves: no word about the rest
        os.write(writer, b"shed\n")
        os.close(writer)
        return reader

    async def second_agent(reader: int) -> None:
        log = ContainerLog(str(tmp_path / "0.log"), 0, 5, str(tmp_path))
        log.add(reader, "stdout")
        await log.finish(5)

    reader = asyncio.run(first_agent())
    asyncio.run(second_agent(reader))
    assert _texts(tmp_path / "0.log") == [b"whole", b"unfinished"]


def test_a_pipe_that_somebody_still_holds_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async def run() -> float:
        reader, writer = os.pipe()
        log = ContainerLog(str(tmp_path / "0.log"), 0, 5, str(tmp_path))
        log.add(reader, "stdout")
        os.write(writer, b"said\n")
        begin = time.monotonic()
        await log.finish(0.01)
        os.close(writer)
        return time.monotonic() - begin

    assert asyncio.run(run()) < 5
    assert _texts(tmp_path / "0.log") == [b"said"]


def _through_a_pipe(folder: Path, pieces: list[bytes]) -> list[bytes]:
    async def run() -> None:
        reader, writer = os.pipe()
        log = ContainerLog(str(folder / "0.log"), 0, 5, str(folder))
        log.add(reader, "stdout")
        for piece in pieces:
            os.write(writer, piece)
        os.close(writer)
        await log.finish(5)

    asyncio.run(run())
    return _texts(folder / "0.log")


def _texts(path: Path) -> list[bytes]:
    return [line.split(b" ", 3)[3] for line in path.read_bytes().splitlines()]


def test_a_disk_that_was_full_costs_whole_lines_only(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "0.log"), max_size=0, max_files=5)
    log.write(b"one\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))  # Python ignores SIGXFSZ: writes fail with EFBIG
    try:
        log.write(b"two\nthree\n")
        log.write(b"four and so on\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.write(b"five\n")
    log.close()
    assert (tmp_path / "0.log").read_bytes() == b"one\ntwo\nfive\n"


def test_a_file_that_could_not_be_opened_when_it_was_rotated_is_tried_again(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "logs" / "0.log"), max_size=0, max_files=5)
    log.open()
    os.rename(tmp_path / "logs", tmp_path / "away")
    (tmp_path / "logs").write_text("no folder")
    with contextlib.suppress(OSError):
        log.open()
    log.write(b"lost\n")
    (tmp_path / "logs").unlink()
    log.write(b"kept\n")
    log.close()
    assert (tmp_path / "logs" / "0.log").read_bytes() == b"kept\n"


class Disk:
    """The disk of the logs: writes to `0.log` find no space, or get no answer, as long as the test wants it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        self.answers = threading.Event()
        self.answers.set()
        self.asked = threading.Event()
        self._write = os.write
        monkeypatch.setattr(log_file, "os", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, fd: int, data: bytes) -> int:
        self.asked.set()
        assert self.answers.wait(30)
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(fd, data)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr(logs, "_RETRY_S", 0.01)
    return Disk(monkeypatch)


async def reached(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_container_waits_for_space_on_a_full_disk_and_loses_nothing(tmp_path: Path, disk: Disk) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(60_000))

    async def run() -> None:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        log = ContainerLog(str(tmp_path / "0.log"), 0, 5, str(tmp_path))
        log.add(reader, "stdout")
        disk.is_full = True
        at = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                at += os.write(writer, lines[at : at + 4096])
                await reached(disk.asked.is_set)
                await asyncio.sleep(0.001)
        assert 0 < at < 500_000  # its pipe is full: it waits
        disk.is_full = False
        while at < len(lines):
            with contextlib.suppress(BlockingIOError):
                at += os.write(writer, lines[at : at + 4096])
            await asyncio.sleep(0)
        os.close(writer)
        await log.finish(5)

    asyncio.run(run())
    assert b"\n".join(_texts(tmp_path / "0.log")) + b"\n" == lines


def test_what_an_agent_could_not_write_is_written_by_the_next(tmp_path: Path, disk: Disk) -> None:
    """The disk is full when it exits; half a line of what it has read is in the file already."""

    async def first() -> int:
        reader, writer = os.pipe()
        log = ContainerLog(str(tmp_path / "0.log"), 0, 5, str(tmp_path))
        log.add(os.dup(reader), "stdout")
        disk.is_full = True
        os.write(writer, b"one\ntwo\nthr")
        await reached(lambda: (tmp_path / "stdout.partial").exists())
        log.detach()
        os.write(writer, b"ee\n")
        os.close(writer)
        return reader

    async def second(reader: int) -> None:
        disk.is_full = False
        log = ContainerLog(str(tmp_path / "0.log"), 0, 5, str(tmp_path))
        log.add(reader, "stdout")
        await log.finish(5)

    reader = asyncio.run(first())
    asyncio.run(second(reader))
    assert _texts(tmp_path / "0.log") == [b"one", b"two", b"three"]


def test_the_end_of_a_container_waits_only_shortly_for_a_full_disk_and_its_last_lines_come_later(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_WRITE_S", 0.01)

    async def run() -> None:
        reader, writer = os.pipe()
        log = ContainerLog(str(tmp_path / "0.log"), 0, 5, str(tmp_path))
        log.add(reader, "stdout")
        disk.is_full = True
        os.write(writer, b"one\nlast")
        os.close(writer)
        listened: list[bytes] = []
        log.tap("stdout", listened.append)
        await log.finish(0.01)
        assert listened[-1] == b""
        assert not (tmp_path / "0.log").exists() or not (tmp_path / "0.log").read_bytes()
        disk.is_full = False
        await reached(lambda: not logs._lingering)

    asyncio.run(run())
    assert _texts(tmp_path / "0.log") == [b"one", b"last"]


def test_an_agent_that_ends_before_there_is_space_logs_what_is_lost(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(logs.log, "warning", lambda form, *words: logged.append(form % words))
    monkeypatch.setattr(logs, "_WRITE_S", 0.01)

    async def run() -> None:
        reader, writer = os.pipe()
        log = ContainerLog(str(tmp_path / "0.log"), 0, 5, str(tmp_path))
        log.add(reader, "stdout")
        disk.is_full = True
        os.write(writer, b"one\n")
        os.close(writer)
        await log.finish(0.01)

    asyncio.run(run())
    assert logged == [f"log {tmp_path}/0.log: its last lines are lost: there was no space until the agent ended"]


def test_a_disk_that_does_not_answer_keeps_no_one_waiting_but_its_container(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_WRITE_S", 0.01)

    async def run() -> None:
        reader, writer = os.pipe()
        log = ContainerLog(str(tmp_path / "0.log"), 0, 5, str(tmp_path))
        log.add(reader, "stdout")
        disk.answers.clear()
        os.write(writer, b"one\n")
        await reached(disk.asked.is_set)  # the loop goes on
        os.close(writer)
        await log.finish(0.01)
        disk.answers.set()
        await reached(lambda: not logs._lingering)

    try:
        asyncio.run(run())
    finally:
        disk.answers.set()
    assert _texts(tmp_path / "0.log") == [b"one"]


def test_a_container_waits_for_a_listener_that_is_behind(tmp_path: Path) -> None:
    async def run() -> list[bytes]:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        log = ContainerLog(str(tmp_path / "0.log"), 0, 5, str(tmp_path))
        log.add(reader, "stdout")
        heard: list[bytes] = []
        behind = True
        log.tap("stdout", heard.append, is_full=lambda: behind and bool(heard))
        os.write(writer, b"one\n")
        await reached(lambda: bool(heard))
        os.write(writer, b"two\n")
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert heard == [b"one\n"]
        behind = False
        await reached(lambda: len(heard) == 2)
        os.close(writer)
        await log.finish(5)
        return heard

    assert asyncio.run(run()) == [b"one\n", b"two\n", b""]


def test_whoever_listens_to_all_gets_rotated_files_too(tmp_path: Path) -> None:
    async def run() -> list[bytes]:
        reader, writer = os.pipe()
        log = ContainerLog(str(tmp_path / "0.log"), 5000, 4, str(tmp_path))
        log.add(reader, "stdout")
        os.write(writer, b"".join(b"%d\n" % number for number in range(300)))
        await reached(lambda: len(list(tmp_path.glob("0.log*"))) > 2)
        heard: list[bytes] = []
        log.tap("stdout", heard.append, whole=True)
        await reached(lambda: bool(heard))
        os.close(writer)
        await log.finish(5)
        await reached(lambda: heard[-1] == b"")
        return heard

    assert b"".join(asyncio.run(run())) == b"".join(b"%d\n" % number for number in range(300))
