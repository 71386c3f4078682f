"""The client of the control socket: framing, errors, starting and replacing an agent."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.cli import start
from minipod.cli.client import Client, RemoteError, error_of
from minipod.errors import AgentError, ConflictError, HostError, ManifestError, NotFoundError
from minipod.paths import Paths
from tests.unit.cli_fakes import FakeAgent, Object, Peer, fake_agent

STAND_IN = """
import os, socket, sys
ready = int(sys.argv[sys.argv.index("--ready-fd") + 1])
root = sys.argv[sys.argv.index("--run-dir") + 1]
if os.path.exists(root + "/refuse"):
    os.write(ready, b"no bridge address is free\\n"); sys.exit(1)
if os.path.exists(root + "/die"):
    sys.exit(1)
sock = socket.socket(socket.AF_UNIX)
if os.path.exists(root + "/agent.sock"):
    os.unlink(root + "/agent.sock")
sock.bind(root + "/agent.sock")
sock.listen()
import json
facts = {"cwd": os.getcwd(), "sid": os.getsid(0) == os.getpid(), "stdin": os.readlink("/proc/self/fd/0")}
status = open("/proc/self/status").read()
facts["blocked"] = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")][0]
facts["ready"] = ready
os.write(ready, b"ready\\n"); os.close(ready)
peer, _ = sock.accept()
peer.recv(65536)
peer.sendall(json.dumps({"ok": True, "facts": facts}).encode() + b"\\n")
"""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(f"{tmp_path}/root", f"{tmp_path}/state")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Starts a small program in place of the agent; it ends after one request and is waited for."""
    pids: list[int] = []
    spawn = os.posix_spawn

    def command(paths: Paths, config: str | None, *more: str) -> list[str]:
        return [sys.executable, "-c", STAND_IN, "--run-dir", paths.root, *more]

    def recording_spawn(*args: Any, **options: Any) -> int:
        pids.append(spawn(*args, **options))
        return pids[-1]

    monkeypatch.setattr(start, "agent_command", command)
    monkeypatch.setattr(os, "posix_spawn", recording_spawn)
    yield
    for pid in pids:
        os.waitpid(pid, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start an agent")
def test_an_agent_is_started_detached_where_none_answers(paths: Paths, stand_in: None) -> None:
    here = os.getcwd()
    _, result = Client(paths).call({"verb": "status"})
    facts = result["facts"]
    assert (facts["cwd"], facts["sid"], facts["stdin"], facts["blocked"]) == ("/", True, "/dev/null", "0" * 16)
    assert os.getcwd() == here


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start an agent")
def test_a_stale_socket_is_no_agent(paths: Paths, stand_in: None) -> None:
    os.makedirs(paths.root)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(paths.agent_socket)
    assert Client(paths).call({"verb": "status"})[1]["ok"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start an agent")
def test_the_reason_of_an_agent_that_cannot_start_is_reported(paths: Paths, stand_in: None) -> None:
    os.makedirs(paths.root)
    Path(paths.root, "refuse").touch()
    with pytest.raises(AgentError, match="no bridge address is free"):
        Client(paths).request({"verb": "status"})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start an agent")
def test_an_agent_that_dies_silently_points_to_its_log(paths: Paths, stand_in: None) -> None:
    os.makedirs(paths.root)
    Path(paths.root, "die").touch()
    with pytest.raises(AgentError, match=r"agent\.log"):
        Client(paths).request({"verb": "status"})


def test_without_root_the_remedy_is_reported(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match=r"minipod run needs root: sudo minipod run …"):
        Client(paths, verb="run").request({"verb": "run"})


def test_reading_verbs_start_nothing_where_no_pod_was_ever_kept(paths: Paths) -> None:
    assert Client(paths).request_if_pods({"verb": "get"}) is None
    assert not os.path.exists(paths.root)


def test_an_agent_of_another_version_is_replaced_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[FakeAgent] = []

    def answer(peer: Peer, _request: Object) -> None:
        peer.ok(version="new")

    def start_agent(paths: Paths, _config: str | None) -> None:
        started.append(FakeAgent(paths))
        started[0].handlers["status"] = answer

    monkeypatch.setattr(start, "start_agent", start_agent)
    monkeypatch.setattr(start, "check_start", lambda *_: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    old = FakeAgent(Paths(f"{tmp_path}/root", f"{tmp_path}/state"))
    old.version = "0.0.1"

    def shutdown(peer: Peer, _request: Object) -> None:
        os.unlink(old.paths.agent_socket)
        peer.ok()

    old.handlers["shutdown"] = shutdown
    read_fd, write_fd = os.pipe()
    try:
        with Client(old.paths).request({"verb": "status", "fds": ["stdin"]}, [read_fd]) as request:
            assert request.next() is None
            assert request.result == {"ok": True, "version": "new"}
    finally:
        os.close(read_fd)
        os.close(write_fd)
        os.close(os.open(old.paths.agent_socket, os.O_PATH))
        started[0].close()
        Path(old.paths.agent_socket).touch()
        old.close()
    assert [request["verb"] for request in old.requests] == ["status", "status", "shutdown"]


def test_the_agent_of_a_service_is_started_again_by_its_manager_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[FakeAgent] = []
    old = FakeAgent(Paths(f"{tmp_path}/root", f"{tmp_path}/state"))
    old.version = "0.0.1"

    def restart(_seconds: float) -> None:
        if not started:
            started.append(FakeAgent(old.paths))
            started[0].handlers["status"] = lambda peer, _: peer.ok(version="new")

    def refused(*_: object) -> None:
        raise AssertionError("an agent beside the service")

    with subprocess.Popen(["true"]) as process:

        def shutdown(peer: Peer, _request: Object) -> None:
            os.unlink(old.paths.agent_socket)
            peer.ok(restarts=True, pid=process.pid)

        old.handlers["shutdown"] = shutdown
        monkeypatch.setattr(start, "check_start", lambda *_: None)
        monkeypatch.setattr(start, "start_agent", refused)
        monkeypatch.setattr("minipod.cli.start.time.sleep", restart)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        try:
            with Client(old.paths).request({"verb": "status"}) as request:
                assert request.next() is None
                assert request.result == {"ok": True, "version": "new"}
        finally:
            started[0].close()
            Path(old.paths.agent_socket).touch()
            old.close()


def test_an_agent_of_another_version_stays_where_none_of_this_one_could_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_start(_paths: Paths, _config: str | None) -> None:
        raise HostError("the database is newer")

    monkeypatch.setattr(start, "check_start", check_start)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    old = FakeAgent(Paths(f"{tmp_path}/root", f"{tmp_path}/state"))
    old.version = "9.9"
    try:
        request = Client(old.paths).request({"verb": "run"})
        with (
            request,
            pytest.raises(AgentError, match=r"keeps running; minipod .* cannot take over: the database is newer"),
        ):
            request.next()
    finally:
        old.close()
    assert [request["verb"] for request in old.requests] == ["run"]


def test_an_agent_that_refuses_to_exit_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "check_start", lambda *_: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    old = FakeAgent(Paths(f"{tmp_path}/root", f"{tmp_path}/state"))
    old.version = "9.9"
    old.handlers["shutdown"] = lambda peer, _: peer.fail("Conflict", "the agent keeps running: use 9.9", 1)
    try:
        request = Client(old.paths).request({"verb": "run"})
        with request, pytest.raises(ConflictError, match="the agent keeps running"):
            request.next()
    finally:
        old.close()


def test_an_agent_that_goes_away_in_the_middle_is_an_error(tmp_path: Path) -> None:
    with fake_agent(tmp_path) as agent:
        agent.handlers["status"] = lambda peer, request: peer.send({"event": "started"})
        with Client(agent.paths).request({"verb": "status"}) as request:
            assert request.next() == {"event": "started"}
            with pytest.raises(AgentError, match="went away in the middle"):
                request.next()


def test_descriptors_arrive_with_their_event(tmp_path: Path) -> None:
    read_fd, write_fd = os.pipe()

    def handler(peer: Peer, _request: Object) -> None:
        peer.send({"event": "first"})
        peer.send({"event": "started"}, (read_fd,))
        peer.ok()

    with fake_agent(tmp_path) as agent:
        agent.handlers["exec"] = handler
        with Client(agent.paths).request({"verb": "exec"}) as request:
            assert [request.next(), request.next()] == [{"event": "first"}, {"event": "started"}]
            received = request.take_fd()
            assert request.next() is None
    os.write(write_fd, b"x")
    assert os.read(received, 1) == b"x"
    for fd in (read_fd, write_fd, received):
        os.close(fd)


def test_a_big_request_and_a_big_answer_pass_whole(tmp_path: Path) -> None:
    text = "x" * 3_000_000
    with fake_agent(tmp_path) as agent:
        agent.handlers["run"] = lambda peer, request: peer.send({"ok": True, "text": request["text"]})
        assert Client(agent.paths).call({"verb": "run", "text": text})[1]["text"] == text


def test_error_kinds_become_exceptions_with_their_exit_status() -> None:
    assert isinstance(error_of({"kind": "NotFound", "message": "x"}), NotFoundError)
    assert isinstance(error_of({"kind": "Host", "message": "x"}), HostError)
    manifest = error_of({"kind": "Manifest", "message": "x", "errors": ["spec: Required value"]})
    assert isinstance(manifest, ManifestError)
    assert (manifest.exit_status, manifest.errors) == (2, ["spec: Required value"])
    runtime = error_of({"kind": "Runtime", "message": "x", "exit": 3})
    assert isinstance(runtime, RemoteError)
    assert runtime.exit_status == 3


def test_an_agent_that_was_just_leaving_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = Paths(f"{tmp_path}/root", f"{tmp_path}/state")
    os.makedirs(paths.root)
    leaving = socket.socket(socket.AF_UNIX)
    leaving.bind(paths.agent_socket)
    leaving.listen()
    started: list[FakeAgent] = []

    def start_agent(paths: Paths, _config: str | None) -> None:
        started.append(FakeAgent(paths))
        started[0].handlers["status"] = lambda peer, _: peer.ok(version="new")

    monkeypatch.setattr(start, "start_agent", start_agent)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    request = Client(paths).request({"verb": "status"})
    os.unlink(paths.agent_socket)
    leaving.close()  # without having accepted
    with request:
        assert request.next() is None
        assert request.result == {"ok": True, "version": "new"}
    started[0].close()
