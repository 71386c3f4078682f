"""`minipod exec`: who gets which descriptor, relaying, terminals, signals."""

from __future__ import annotations

import os
import pty
import signal
import stat
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.unit.cli_fakes import FakeAgent, Object, Peer, fake_agent


def start(agent: FakeAgent, *words: str, **options: object) -> subprocess.Popen[bytes]:
    env = os.environ | {
        "MINIPOD_RUN_DIR": agent.paths.root,
        "MINIPOD_DATA_DIR": agent.paths.state,
        "PYTHONPATH": str(CHECKOUT),
    }
    command = [sys.executable, "-m", "minipod", "exec", *words]
    return subprocess.Popen(command, env=env, **options)  # type: ignore[call-overload,no-any-return]


def run(agent: FakeAgent, *words: str, **options: object) -> tuple[int, bytes, bytes]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options
    text = options.pop("input", None)
    if text is not None:
        options["stdin"] = subprocess.PIPE
    with start(agent, *words, **options) as process:
        out, err = process.communicate(text, timeout=30)  # type: ignore[arg-type]
    return process.returncode, out, err


class Command:
    """Plays a command: reads its stdin to the end, writes, ends with `code`."""

    def __init__(self, agent: FakeAgent, code: int = 0) -> None:
        self.code = code
        self.read = b""
        self.kinds: dict[str, str] = {}
        agent.handlers["exec"] = self.execute

    def execute(self, peer: Peer, request: Object) -> None:
        fds = dict(zip(request["fds"], peer.fds, strict=True))
        for name, fd in fds.items():
            mode = os.fstat(fd).st_mode
            self.kinds[name] = "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "other"
        peer.send({"event": "started"})
        if "stdin" in fds:
            while data := os.read(fds["stdin"], 65536):
                self.read += data
        os.write(fds["stdout"], b"to stdout\n")
        os.write(fds["stderr"], b"to stderr\n")
        peer.close_fds()
        peer.ok(exit_code=self.code)


def test_pipes_are_relayed_and_the_exit_status_is_the_commands(tmp_path: Path) -> None:
    with fake_agent(tmp_path) as agent:
        command = Command(agent, 42)
        assert run(agent, "-i", "web", "--", "sh", "-c", "exit 42", input=b"input") == (
            42,
            b"to stdout\n",
            b"to stderr\n",
        )
        request = agent.requests[-1]
    assert (request["pod"], request["command"], request["tty"]) == ("web", ["sh", "-c", "exit 42"], None)
    assert request["fds"] == ["stdin", "stdout", "stderr"]
    assert command.read == b"input"


def test_without_i_there_is_no_stdin(tmp_path: Path) -> None:
    with fake_agent(tmp_path) as agent:
        Command(agent)
        assert run(agent, "pod/web", "-c", "app", "--", "true")[0] == 0
        assert (agent.requests[-1]["fds"], agent.requests[-1]["container"]) == (["stdout", "stderr"], "app")


def test_files_and_devices_are_relayed_through_pipes(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"x" * 1_000_000)
    with fake_agent(tmp_path) as agent, source.open("rb") as stdin, target.open("wb") as stdout:
        command = Command(agent)
        assert run(agent, "-i", "web", "--", "cat", stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL)[0] == 0
    assert command.kinds == {"stdin": "pipe", "stdout": "pipe", "stderr": "pipe"}
    assert command.read == b"x" * 1_000_000
    assert target.read_bytes() == b"to stdout\n"


def test_a_command_that_does_not_read_its_stdin_ends_all_the_same(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"x" * 1_000_000)

    def ignore_stdin(peer: Peer, _request: Object) -> None:
        peer.send({"event": "started"})
        os.close(peer.fds.pop(0))
        os.write(peer.fds[0], b"done\n")
        peer.close_fds()
        peer.ok(exit_code=0)

    with fake_agent(tmp_path) as agent, source.open("rb") as stdin:
        agent.handlers["exec"] = ignore_stdin
        assert run(agent, "-i", "web", "--", "true", stdin=stdin) == (0, b"done\n", b"")


def test_signals_are_forwarded_to_the_command(tmp_path: Path) -> None:
    received: list[Object | None] = []

    def wait_for_signal(peer: Peer, _request: Object) -> None:
        peer.send({"event": "started"})
        os.write(peer.fds[0], b"ready\n")
        received.append(peer.receive())
        peer.close_fds()
        peer.ok(exit_code=143)

    master_fd, slave_fd = pty.openpty()  # what is shown on a terminal has come through the client: it is under way
    with fake_agent(tmp_path) as agent:
        agent.handlers["exec"] = wait_for_signal
        with start(agent, "web", "--", "sleep", "9", stdout=slave_fd) as process:
            read_until(master_fd, b"ready")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 143
    os.close(master_fd)
    os.close(slave_fd)
    assert received == [{"verb": "signal", "signal": int(signal.SIGTERM)}]


def test_an_error_of_the_agent_is_one_line(tmp_path: Path) -> None:
    with fake_agent(tmp_path) as agent:
        agent.handlers["exec"] = lambda peer, _: peer.fail("NotFound", 'pods "web" not found')
        assert run(agent, "web", "--", "true") == (1, b"", b'error: pods "web" not found\n')


class Terminal:
    """Plays a command on a pty of its own: tells its window size, then echoes lines in capitals until `exit`."""

    def __init__(self, agent: FakeAgent) -> None:
        agent.handlers["exec"] = self.execute
        self.sizes: list[tuple[int, int]] = []

    def execute(self, peer: Peer, request: Object) -> None:
        assert request["fds"] == []
        master_fd, slave_fd = pty.openpty()
        peer.send({"event": "started", "fds": ["tty"]}, (master_fd,))
        os.close(master_fd)
        os.write(slave_fd, b"hello\n")
        while (data := os.read(slave_fd, 1000)) not in (b"", b"exit\n"):
            if data == b"size\n":
                self.sizes.append(struct.unpack("HHHH", ioctl(slave_fd, termios.TIOCGWINSZ, bytes(8)))[:2])
            os.write(slave_fd, data.upper())
        os.close(slave_fd)
        peer.ok(exit_code=7)


def read_until(fd: int, text: bytes) -> bytes:
    data = b""
    while text not in data:
        data += os.read(fd, 1000)
    return data


def test_a_terminal_is_raw_sized_and_restored(tmp_path: Path) -> None:
    master_fd, slave_fd = pty.openpty()
    ioctl(slave_fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    before = termios.tcgetattr(slave_fd)
    with fake_agent(tmp_path) as agent:
        terminal = Terminal(agent)
        options = {"stdin": slave_fd, "stdout": slave_fd, "stderr": slave_fd}
        with start(agent, "-it", "-c", "app", "web", "--", "sh", **options, start_new_session=True) as process:
            read_until(master_fd, b"hello\r\n")
            raw = termios.tcgetattr(slave_fd)
            os.write(master_fd, b"size\r")
            assert b"SIZE" in read_until(master_fd, b"SIZE\r\n")
            os.write(master_fd, b"exit\r")
            assert process.wait(30) == 7
        assert agent.requests[-1]["tty"] == [33, 101]
        assert terminal.sizes == [(33, 101)]
    assert not raw[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
    assert termios.tcgetattr(slave_fd) == before
    os.close(master_fd)
    os.close(slave_fd)


def test_the_terminal_is_restored_when_the_agent_dies(tmp_path: Path) -> None:
    master_fd, slave_fd = pty.openpty()
    before = termios.tcgetattr(slave_fd)

    def die(peer: Peer, _request: Object) -> None:
        inner_master, inner_slave = pty.openpty()
        peer.send({"event": "started", "fds": ["tty"]}, (inner_master,))
        os.write(inner_slave, b"hello\n")
        read_until(master_fd, b"hello\r\n")
        os.close(inner_master)
        os.close(inner_slave)

    with fake_agent(tmp_path) as agent:
        agent.handlers["exec"] = die
        options = {"stdin": slave_fd, "stdout": slave_fd, "stderr": subprocess.PIPE}
        with start(agent, "-it", "web", "-q", "-c", "app", "--", "sh", **options, start_new_session=True) as process:
            _, err = process.communicate(timeout=30)
        assert process.returncode == 3
    assert b"went away" in err
    assert termios.tcgetattr(slave_fd) == before
    os.close(master_fd)
    os.close(slave_fd)


def test_a_terminal_fed_from_a_pipe_gets_the_end_of_input(tmp_path: Path) -> None:
    with fake_agent(tmp_path) as agent:
        Terminal(agent)
        status, out, err = run(agent, "-it", "web", "-c", "app", "--", "sh", input=b"abc\n")
    assert status == 7
    assert b"hello" in out
    assert b"ABC" in out
    assert err == b"Unable to use a TTY - input is not a terminal or the right kind of file\n"


@pytest.mark.parametrize("size", [(40, 132)])
def test_a_changed_window_is_passed_on(tmp_path: Path, size: tuple[int, int]) -> None:
    master_fd, slave_fd = pty.openpty()
    ioctl(slave_fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with fake_agent(tmp_path) as agent:
        terminal = Terminal(agent)
        options = {"stdin": slave_fd, "stdout": slave_fd, "stderr": slave_fd}
        with start(agent, "-it", "-c", "app", "web", "--", "sh", **options, start_new_session=True) as process:
            read_until(master_fd, b"hello\r\n")
            ioctl(slave_fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
            process.send_signal(signal.SIGWINCH)
            while not terminal.sizes or terminal.sizes[-1] != size:
                os.write(master_fd, b"size\r")
                read_until(master_fd, b"SIZE\r\n")
            os.write(master_fd, b"exit\r")
            assert process.wait(30) == 7
    os.close(master_fd)
    os.close(slave_fd)
