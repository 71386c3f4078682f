"""What an ended child leaves outlives agent and spawner, and what a spawner held outlives it (a real kernel)."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from minipod.paths import Paths
from minipod.plan.process.identity import AssumeUser, NewSession, OpenTerminal
from minipod.runtime.spawner import versions
from minipod.runtime.spawner.start import start_spawner
from tests.spawner_host import (
    HERE,
    Host,
    answer_of,
    closed,
    connected,
    gate,
    gone,
    next_agent_after_the_spawner,
    on_host,
    opened,
    shell,
    until,
    whole,
)

#: whether a process learns how another's child ended (PIDFD_INFO_EXIT)
KNOWS_ENDS_OF_OTHERS = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15)


def test_output_that_no_agent_has_read_outlives_the_last_child_and_its_spawner(paths: Paths) -> None:
    async def body(host: Host) -> None:
        for key in ("a", "b"):
            script = shell(f"{gate(paths, key)} seq 1 20000; echo error >&2; exit 5")
            closed((await host.spawners.current.spawn(key, HERE, script)).fds)
        await next_agent_after_the_spawner(host, "a", "b")
        for key in ("a", "b"):
            ended = (await host.spawners.children())[key]
            assert ended is not None
            assert ended.code == 5
            fds = await host.spawners.reattach(key)
            assert set(fds) == {"stdout", "stderr"}
            assert whole(fds["stdout"]).split() == [b"%d" % number for number in range(1, 20001)]
            assert whole(fds["stderr"]) == b"error\n"
            closed(fds)
        assert not list(Path(paths.root, "exits").glob("*.std*"))

    on_host(paths, body)


def test_a_start_that_no_agent_saw_is_adopted_from_the_spawner_after_its_own(paths: Paths) -> None:
    async def body(host: Host) -> None:
        script = [*shell(f"{gate(paths, 'k')} echo last")]
        operations = [AssumeUser(uid=0, gid=0, groups=(7,), home="/x"), *script]
        closed((await host.spawners.current.spawn("k", HERE, operations)).fds)
        await next_agent_after_the_spawner(host, "k")
        assert list(await host.spawners.children()) == ["k"]
        adopted = await host.spawners.adopt("k")
        assert {name: adopted.facts[name] for name in ("uid", "groups", "home")} == {
            "uid": 0,
            "groups": [7],
            "home": "/x",
        }
        assert whole(adopted.fds["stdout"]) == b"last\n"
        closed(adopted.fds)

    on_host(paths, body)


def test_output_of_a_terminal_outlives_its_spawner(paths: Paths) -> None:
    async def body(host: Host) -> None:
        operations = [OpenTerminal(), NewSession(terminal=True), *shell(f"{gate(paths, 't')} echo last")[1:]]
        root = {"root": os.open("/", os.O_PATH | os.O_CLOEXEC)}
        closed((await host.spawners.current.spawn("t", HERE, operations, stdio="terminal", fds=root)).fds)
        closed(root)
        await next_agent_after_the_spawner(host, "t")
        fds = await host.spawners.reattach("t")
        assert whole(fds["stdout"]) == b"last\r\n"
        closed(fds)

    on_host(paths, body)


def test_an_exit_that_cannot_be_written_is_kept_until_it_can(paths: Paths) -> None:
    async def body(host: Host) -> None:
        record = Path(paths.root, "exits", "k")
        obstacle = Path(f"{record}.new")
        obstacle.mkdir()
        closed((await host.spawners.current.spawn("k", HERE, shell(f"{gate(paths, 'k')} exit 7"))).fds)
        process = host.process()
        host.spawners.close()
        await opened(paths, "k")
        await until(lambda: not process.children())
        with pytest.raises(psutil.TimeoutExpired):
            process.wait(1)
        obstacle.rmdir()
        await until(record.exists)
        assert json.loads(record.read_bytes())["code"] == 7
        await gone(process.pid)
        host.spawners = Host(paths).spawners
        host.spawners.open()
        await host.spawners.forget("k")

    on_host(paths, body)


def test_what_an_agent_holds_is_held_by_the_spawner_after_one_that_was_killed(paths: Paths) -> None:
    async def body(host: Host) -> None:
        script = shell(f"echo early; {gate(paths, 'k')} echo late; read x; echo $x; exit 9")
        spawned = await host.spawners.current.spawn("k", HERE, script, stdin=True)
        host.process().kill()
        await until(lambda: host.lost == 1)
        await host.spawners.current.hold("k", spawned.pid, spawned.started_at_ns, spawned.fds)
        closed(spawned.fds)
        host.spawners.close()  # now the agent is gone, too
        await opened(paths, "k")
        host.spawners = (again := Host(paths)).spawners
        host.spawners.open()
        fds = await host.spawners.reattach("k")
        os.write(fds["stdin"], b"input\n")
        ended = await again.end_of("k")
        if KNOWS_ENDS_OF_OTHERS:
            assert (ended.code, ended.known) == (9, True)
        assert json.loads(Path(paths.root, "exits", "k").read_bytes())["code"] == ended.code
        assert whole(fds["stdout"]) == b"early\nlate\ninput\n"
        closed(fds)

    on_host(paths, body)


def test_a_spawner_that_cannot_be_replaced_now_is_replaced_later(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_RETRY_S", 0.01)
    failures = [BlockingIOError("no process"), OSError("no memory")]

    def start(*arguments: str) -> None:
        if failures:
            raise failures.pop()
        start_spawner(*arguments)

    async def body(host: Host) -> None:
        spawned = await host.spawners.current.spawn("k", HERE, shell("exec sleep 1000"))
        monkeypatch.setattr(versions, "start_spawner", start)
        host.process().kill()
        await until(lambda: host.lost == 1)
        assert failures == []
        await host.spawners.current.hold("k", spawned.pid, spawned.started_at_ns, spawned.fds)
        signal.pidfd_send_signal(spawned.fds["pidfd"], signal.SIGKILL)
        await host.end_of("k")
        closed(spawned.fds)

    on_host(paths, body)


def test_a_list_of_more_than_a_message_holds_comes_in_parts(paths: Paths) -> None:
    async def body(host: Host) -> None:
        spawned = await host.spawners.current.spawn("k", HERE, shell("exec sleep 1000"))
        pidfd = {"pidfd": spawned.fds["pidfd"]}
        keys = sorted(f"{number:064x}" for number in range(2000))
        for key in keys:
            await host.spawners.current.hold(key, spawned.pid, spawned.started_at_ns, pidfd)
        host.spawners.close()
        with connected(paths) as sock:
            first = answer_of(sock, b'{"id": 1, "do": "list"}', [])
            assert first["more"]
            assert [child["key"] for child in first["children"]] == keys[: len(first["children"])]
        host.spawners = Host(paths).spawners
        host.spawners.open()
        assert sorted(await host.spawners.children()) == [*keys, "k"]
        signal.pidfd_send_signal(spawned.fds["pidfd"], signal.SIGKILL)
        closed(spawned.fds)

    on_host(paths, body)
