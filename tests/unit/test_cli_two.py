"""A large log on two processors: what is printed is the same, whatever the lines; a half that fails is noticed."""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

import pytest

from minipod.cli import two
from minipod.errors import AgentError
from minipod.runtime.log_history import OpenLog, at_once
from minipod.streams import crilog


def printed(path: Path, start: int, target: Path) -> bytes:
    """Both processes write to one file, each in its turn."""
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        with at_once(str(path)) as (log,):
            two.print_in_two(log, start, crilog.plain_text, lambda data: (os.write(fd, data), None)[1])
    finally:
        os.close(fd)
    return target.read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A container's log directory."""
    made = tmp_path / "pods" / "ns_pod_uid" / "main"
    made.mkdir(parents=True)
    return made


@pytest.mark.parametrize("seed", range(8))
def test_two_processes_print_what_one_would(
    seed: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = random.Random(seed)
    monkeypatch.setattr(two, "PIECE", choose.choice([64, 700, 5000]))
    monkeypatch.setattr(two, "CHUNK", choose.choice([64, 300]))
    head = "2026-01-02T03:04:05.123456789Z stdout"
    lines = [f"{head} {choose.choice('FFP')} {'x' * choose.randrange(200)}\n" for _ in range(300)]
    text = "".join(lines).encode() + choose.choice([b"", b"no newline"])
    (folder / "0.log").write_bytes(text)
    start = len("".join(lines[: choose.randrange(50)]))
    wanted = crilog.plain_text(text[start:] if text.endswith(b"\n") else text[start:] + b"\n")
    assert printed(folder / "0.log", start, tmp_path / "out") == wanted


def test_a_line_without_end_is_cut_and_not_searched_again_and_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two, "PIECE", 1000)
    monkeypatch.setattr(two, "LINE_LIMIT", 3000)
    (folder / "0.log").write_bytes(b"x" * 50_000)
    assert printed(folder / "0.log", 0, tmp_path / "out").replace(b"\n", b"") == b"x" * 50_000


def test_a_closed_pipe_ends_both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two, "PIECE", 100)
    (folder / "0.log").write_bytes(b"line\n" * 1000)
    reader, writer = os.pipe()
    os.close(reader)
    with at_once(str(folder / "0.log")) as (log,), pytest.raises(BrokenPipeError):
        two.print_in_two(log, 0, bytes, lambda data: (os.write(writer, data), None)[1])
    os.close(writer)


@pytest.mark.parametrize("fails_in_child", [True, False])
def test_a_half_that_fails_fails_the_whole(fails_in_child: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two, "PIECE", 100)
    (folder / "0.log").write_bytes(b"line\n" * 1000)
    parent = os.getpid()

    def write(_data: bytes) -> None:
        if (os.getpid() != parent) is fails_in_child:
            raise ValueError

    with at_once(str(folder / "0.log")) as (log,), pytest.raises((AgentError, ValueError)):
        two.print_in_two(log, 0, bytes, write)


def test_small_and_compressed_logs_and_busy_machines_need_one_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.truncate(os.open(folder / "0.log", os.O_CREAT | os.O_RDWR), two.LEAST)
    (folder / "0.log").rename(folder / "1.log.gz")
    os.truncate(os.open(folder / "0.log", os.O_CREAT | os.O_RDWR), two.LEAST)
    monkeypatch.setattr(two, "_processors", lambda: 2)
    monkeypatch.setattr(two, "_runnable", lambda: 1)
    with (
        at_once(str(folder / "0.log")) as (plain,),
        contextlib.closing(OpenLog(str(folder / "1.log.gz"))) as compressed,
    ):
        assert two.is_worth_it(plain, 0)
        assert not two.is_worth_it(plain, 1)
        assert not two.is_worth_it(compressed, 0)
        monkeypatch.setattr(two, "_runnable", lambda: 2)
        assert not two.is_worth_it(plain, 0)
