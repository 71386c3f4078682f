"""A silent agent: the word on stderr after some seconds, and `--request-timeout`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.cli.client import Client
from minipod.cli.patience import Wait, described, patience
from minipod.errors import NotFoundError
from tests.conftest import CHECKOUT
from tests.unit.cli_fakes import FakeAgent, Object, Peer, fake_agent

IMPATIENT = "from minipod.cli import main, patience; patience.SILENCE_S = 0.2; main.entry()"
WORD = f"still waiting for the agent (process {os.getpid()}): "


class Silent:
    """Holds every `get` back until it is released; `first`: what it sends before that."""

    def __init__(self, agent: FakeAgent) -> None:
        self.released = threading.Event()
        self.first: list[Object] = []
        agent.handlers["get"] = self.get

    def get(self, peer: Peer, _request: Object) -> None:
        for message in self.first:
            peer.send(message)
        assert self.released.wait(30)
        peer.ok(resource_version="1")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    with fake_agent(tmp_path) as made:
        yield made


def start(agent: FakeAgent, *words: str) -> subprocess.Popen[str]:
    env = os.environ | {
        "MINIPOD_RUN_DIR": agent.paths.root,
        "MINIPOD_DATA_DIR": agent.paths.state,
        "PYTHONPATH": str(CHECKOUT),
    }
    command = [sys.executable, "-c", IMPATIENT, *words]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_command_that_gets_no_answer_says_what_it_waits_for_and_waits_on(agent: FakeAgent) -> None:
    silent = Silent(agent)
    with start(agent, "get", "pods", "web") as command:
        assert command.stderr is not None
        assert command.stderr.readline() == f"{WORD}get pods web\n"
        silent.released.set()
        _, errors = command.communicate(timeout=30)
    assert WORD not in errors  # once


def test_an_answer_in_time_needs_no_word(agent: FakeAgent) -> None:
    Silent(agent).released.set()
    with start(agent, "get", "pods", "--request-timeout=20s") as command:
        _, errors = command.communicate(timeout=30)
    assert WORD not in errors
    assert command.returncode == 0


@pytest.mark.parametrize(
    "words", [("--request-timeout=300ms", "get", "pods"), ("get", "pods", "--request-timeout", "0.3")]
)
def test_a_request_is_given_up_after_its_timeout(agent: FakeAgent, words: tuple[str, ...]) -> None:
    silent = Silent(agent)
    with start(agent, *words) as command:
        _, errors = command.communicate(timeout=30)
    silent.released.set()
    assert command.returncode == 3
    assert f"error: no answer within 0.3 s (--request-timeout): {WORD}get pods\n" in errors


def test_a_watch_that_has_begun_has_no_timeout_and_needs_no_word(agent: FakeAgent) -> None:
    silent = Silent(agent)
    silent.first = [{"event": "bookmark", "resource_version": "1"}]
    with start(agent, "get", "pods", "-w", "--request-timeout=300ms") as command:
        with pytest.raises(subprocess.TimeoutExpired):
            command.communicate(timeout=1)
        command.kill()
        _, errors = command.communicate()
    silent.released.set()
    assert errors == ""


def test_a_negative_timeout_is_refused(agent: FakeAgent) -> None:
    with start(agent, "get", "pods", "--request-timeout=-1s") as command:
        assert "must not be negative" in command.communicate(timeout=30)[1]


def test_a_stopped_agent_is_named_with_its_remedy_also_in_the_middle_of_a_watch() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        wait = Wait("get pods", process.pid, is_lasting=True)
        wait.heard()
        assert wait.word() == ""
        process.send_signal(19)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert wait.word() == (
            f"still waiting for the agent (process {process.pid}): get pods; it is stopped: "
            f"kill -CONT {process.pid} continues it"
        )
        process.kill()


def test_a_request_that_failed_is_no_longer_waited_for(agent: FakeAgent) -> None:
    agent.handlers["get"] = lambda peer, _request: peer.send({"error": {"kind": "NotFound", "message": "gone"}})
    client = Client(agent.paths)
    request = client.request({"verb": "get", "kind": "pods"})
    with pytest.raises(NotFoundError):
        request.next()
    request.channel.close()
    assert request._wait not in patience._waits


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"verb": "get", "kind": "pods", "name": None}, "get pods"),
        (
            {"verb": "delete", "kind": "pods", "names": ["a", "b"]},
            "delete pods a b (a pod takes up to its grace period to end)",
        ),
        ({"verb": "exec", "pod": "web", "container": "c"}, "exec web"),
        ({"verb": "status"}, "status"),
    ],
)
def test_a_request_is_described_as_it_was_typed(message: Object, words: str) -> None:
    assert described(message) == words
