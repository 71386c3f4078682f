"""CRI's log format: what goes in as bytes comes out as lines."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import resource
import time
from pathlib import Path

import pytest

from minipod.runtime.logs import LINE_LIMIT, ContainerLog, LogFile, format_lines, timestamp

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
    async def write() -> None:
        log = LogFile(str(tmp_path / "0.log"), max_size=10, max_files=3)
        (tmp_path / "0.log.20200101-000000").write_bytes(b"older")
        (tmp_path / "0.log.20190101-000000.gz").write_bytes(b"oldest")
        log.write(b"0123456789abc\n")
        log.write(b"next\n")
        log.close()
        assert log._compressing is not None
        await log._compressing

    asyncio.run(write())
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0] == "0.log"
    assert (tmp_path / "0.log").read_bytes() == b"next\n"
    assert names[1] == "0.log.20200101-000000.gz"
    assert gzip.decompress((tmp_path / names[1]).read_bytes()) == b"older"
    assert (tmp_path / names[2]).read_bytes() == b"0123456789abc\n"
    assert len(names) == 3
    assert {path.stat().st_mode & 0o7777 for path in tmp_path.iterdir() if path.name in names[:2]} == {0o640}


def test_a_file_that_is_filled_within_a_second_is_rotated_as_often_as_it_is_full(tmp_path: Path) -> None:
    """As fast as a container writes, its logs take no more than they may; names go on to sort by age."""

    async def write() -> None:
        log = LogFile(str(tmp_path / "0.log"), max_size=1000, max_files=4)
        for number in range(20):
            log.write(b"%d\n" % number * 500)
        log.close()
        assert log._compressing is not None
        await log._compressing

    asyncio.run(write())
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 4, names
    assert (tmp_path / names[0]).read_bytes() == b""
    texts = [(tmp_path / name).read_bytes() for name in names[1:]]
    plain = [
        gzip.decompress(text) if name.endswith(".gz") else text for name, text in zip(names[1:], texts, strict=True)
    ]
    assert [text.split(b"\n")[0] for text in plain] == [b"17", b"18", b"19"]


def test_output_arrives_in_the_file_and_an_unfinished_line_at_the_end_is_a_full_one(tmp_path: Path) -> None:
    assert _through_a_pipe(tmp_path, [b"one\ntw", b"o\nlast"]) == [b"one", b"two", b"last"]


def test_who_listens_to_all_of_it_hears_what_was_written_before(tmp_path: Path) -> None:
    async def run() -> tuple[list[bytes], list[bytes]]:
        read_fd, write_fd = os.pipe()
        log = ContainerLog(str(tmp_path / "0.log"), 0, 5, str(tmp_path))
        log.add(read_fd, "stdout")
        os.write(write_fd, b"one\ntwo\nthr")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
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
    os.rename(tmp_path / "logs", tmp_path / "away")
    (tmp_path / "logs").write_text("no folder")
    with contextlib.suppress(OSError):
        log.reopen()
    log.write(b"lost\n")
    (tmp_path / "logs").unlink()
    log.write(b"kept\n")
    log.close()
    assert (tmp_path / "logs" / "0.log").read_bytes() == b"kept\n"
