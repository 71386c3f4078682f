"""What a killed agent had taken out of a pipe: at every moment the next one has each byte of it exactly once."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.runtime.log_copy import Copy
from minipod.runtime.log_file import LINE_LIMIT, LogFile, format_lines, raw_output
from minipod.runtime.staged import CHUNK, Names, Stage, Stages, recover, unwritten


class Agent:
    """One stream of one container, as an agent that is killed has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "c").mkdir(exist_ok=True)
        self.partial = folder / "c" / "stdout.partial"
        self.log = LogFile(str(folder / "log" / "a" / "b" / "0.log"), 0, 0)
        self.names = Names(str(self.partial), self.log.path, "stdout")
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.stage = Stages(str(folder / "staged")).of_this_thread()

    def read(self, output: bytes, rest: bytes = b"") -> bytes:
        os.write(self.writer, output)
        return self.stage.read(self.reader, self.names, rest)

    def kept(self) -> bytes:
        """What the next agent begins with."""
        recover(str(self.folder / "staged"))
        assert list((self.folder / "staged").iterdir()) == []
        return self.partial.read_bytes()

    def logged(self) -> bytes:
        return raw_output(Path(self.log.path).read_bytes())

    def close(self) -> None:
        self.log.close()
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    made = Agent(tmp_path)
    yield made
    made.close()


def state(stage: Stage, number: int) -> None:
    assert stage._view is not None
    stage._view[0] = number


def test_what_was_read_and_not_written_is_kept_behind_the_unfinished_line(agent: Agent) -> None:
    agent.read(b"cd\nef", b"ab")
    assert agent.kept() == b"abcd\nef"


def test_what_was_read_is_kept_if_its_length_was_not_noted_yet(agent: Agent) -> None:
    agent.read(b"before\n")
    agent.stage.done()
    agent.read(b"cd\n", b"ab")
    state(agent.stage, 1)
    assert agent.kept() == b"abcd\n"


def test_nothing_is_kept_of_a_read_that_brought_nothing(agent: Agent) -> None:
    with pytest.raises(BlockingIOError):
        agent.stage.read(agent.reader, agent.names, b"")
    recover(str(agent.folder / "staged"))
    assert not agent.partial.exists()


def test_of_what_the_log_has_only_the_unfinished_line_is_kept(agent: Agent) -> None:
    text, _ = format_lines(agent.read(b"cd\nef"), b"stdout", 5)
    agent.log.write(text, agent.stage.appends)
    assert (agent.logged(), agent.kept()) == (b"cd\n", b"ef")


def test_a_line_that_was_cut_off_is_taken_out_of_the_log(agent: Agent) -> None:
    text, _ = format_lines(agent.read(b"one\ntwo\nth"), b"stdout", 5)
    agent.log.open()
    before = os.stat(agent.log.path)
    agent.stage.appends(before.st_ino, 0, 0, len(text))
    Path(agent.log.path).write_bytes(text[:-3])
    assert (agent.kept(), agent.logged()) == (b"two\nth", b"one\n")


def test_an_append_to_a_log_that_was_rotated_since_is_complete(agent: Agent) -> None:
    text, _ = format_lines(agent.read(b"one\ntwo\n"), b"stdout", 5)
    half = len(text) // 2
    agent.log.open()
    agent.stage.appends(os.stat(agent.log.path).st_ino, 0, 0, half)
    agent.log.write(text[:half])
    os.rename(agent.log.path, agent.log.path + ".1")
    assert agent.kept() == b"two\n"
    (agent.folder / "staged").rmdir()


def test_what_is_written_and_kept_is_not_kept_again(agent: Agent) -> None:
    agent.read(b"cd\n")
    agent.stage.done()
    recover(str(agent.folder / "staged"))
    assert not agent.partial.exists()


@pytest.mark.parametrize(("written", "kept"), [(False, b"ab"), (True, b"")])
def test_a_last_line_is_in_the_log_once(agent: Agent, written: bool, kept: bytes) -> None:
    agent.stage.begin(agent.names, b"ab", at_end=True)
    if written:
        agent.log.write(b"1970-01-01T00:00:00.000000000Z stdout F ab\n", agent.stage.appends)
    assert agent.kept() == kept


def test_output_of_a_container_that_is_removed_is_dropped(agent: Agent) -> None:
    agent.read(b"ab\n")
    agent.partial.parent.rmdir()
    recover(str(agent.folder / "staged"))
    assert list((agent.folder / "staged").iterdir()) == []


def test_a_damaged_stage_is_left_alone_and_the_others_are_recovered(agent: Agent) -> None:
    agent.read(b"ab\n")
    (agent.folder / "staged" / "0").write_bytes(b"\2")
    recover(str(agent.folder / "staged"))
    assert agent.partial.read_bytes() == b"ab\n"
    assert [path.name for path in (agent.folder / "staged").iterdir()] == ["0"]


def test_without_memory_for_a_stage_output_is_read_all_the_same(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stage = Stages(str(tmp_path / "file")).of_this_thread()
    os.write(agent.writer, b"ab\n")
    assert stage.read(agent.reader, agent.names, b"") == b"ab\n"
    stage.begin(agent.names, b"x")
    stage.appends(1, 2, 3, 4)
    stage.done()


def test_a_stream_that_is_followed_leaves_no_stage_when_its_agent_exits(agent: Agent, tmp_path: Path) -> None:
    stages = Stages(str(tmp_path / "others"))
    copy = Copy(agent.reader, "stdout", agent.log, str(agent.partial), stages)
    for output in (b"x" * CHUNK, b"\nab"):
        os.write(agent.writer, output)
        copy.turn(lambda: True)
    assert agent.logged() + agent.partial.read_bytes() == b"x" * CHUNK + b"\nab"
    stages.remove()
    assert not (tmp_path / "others").exists()


def test_at_every_byte_of_an_append_log_and_rest_are_what_was_written() -> None:
    chance = random.Random(5)
    for _ in range(200):
        pieces = [b"a" * chance.choice((0, 1, 30, LINE_LIMIT - 1, LINE_LIMIT, LINE_LIMIT + 7)) for _ in range(5)]
        raw = b"\n".join(pieces)
        text, _ = format_lines(raw, b"stdout", 7)
        written = chance.randrange(len(text) + 1) if text else 0
        left, cut = unwritten(raw, "stdout", False, written)
        again, rest = format_lines(left, b"stdout", 7)
        assert text[: written - cut] + again == text
        assert rest == format_lines(raw, b"stdout", 7)[1]
