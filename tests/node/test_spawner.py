"""The spawner on the real kernel: what outlives the agent, what outlives the spawner, and what a child may see."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import socket
from pathlib import Path

import pytest

import minipod
from minipod.paths import Paths
from minipod.plan.cgroup import JoinCgroup
from minipod.plan.operation import ChildOperation
from minipod.plan.process.identity import AssumeUser, Exec, SetOomScoreAdj
from minipod.runtime.spawner.client import SpawnerClient, SpawnError
from tests.spawner_host import HERE, Host, answer_of, closed, connected, on_host, shell, until


def test_an_end_is_reported_with_its_code_and_kept_on_disk_until_it_is_forgotten(paths: Paths) -> None:
    async def body(host: Host) -> None:
        closed((await host.spawners.current.spawn("k", HERE, shell("exit 7"))).fds)
        ended = await host.end_of("k")
        assert (ended.code, ended.signal) == (7, 0)
        assert Path(paths.root, "exits", "k").exists()
        await host.spawners.forget("k")
        assert not Path(paths.root, "exits", "k").exists()

    on_host(paths, body)


def test_an_end_by_a_signal_is_128_and_its_number(paths: Paths) -> None:
    async def body(host: Host) -> None:
        closed((await host.spawners.current.spawn("k", HERE, shell("kill -9 $$"))).fds)
        ended = await host.end_of("k")
        assert (ended.code, ended.signal) == (137, 9)

    on_host(paths, body)


def test_a_command_that_does_not_exist_is_reported_before_anything_counts_as_started(paths: Paths) -> None:
    async def body(host: Host) -> None:
        with pytest.raises(SpawnError, match="executable file not found") as caught:
            await host.spawners.current.spawn("k", HERE, [Exec(argv=("nosuch",), env=("PATH=/bin",))])
        assert caught.value.errno == 2
        assert await host.spawners.children() == {}

    on_host(paths, body)


def test_an_operation_that_fails_names_itself_and_the_kernel_s_reason(paths: Paths) -> None:
    async def body(host: Host) -> None:
        with pytest.raises(SpawnError) as caught:
            await host.spawners.current.spawn("k", HERE, [AssumeUser(uid=0, gid=0), SetOomScoreAdj(99999), *shell("")])
        assert caught.value.operation == "SetOomScoreAdj"
        assert caught.value.errno == 22

    on_host(paths, body)


def test_another_agent_finds_the_children_their_pipes_and_their_ends(paths: Paths) -> None:
    async def body(host: Host) -> None:
        closed(
            (await host.spawners.current.spawn("k", HERE, shell("echo early; read x; echo $x; exit 5"), stdin=True)).fds
        )
        host.spawners.close()  # the first agent is gone
        again = Host(paths)
        again.spawners.open()
        fds = await again.spawners.reattach("k")
        assert os.read(fds["stdout"], 100) == b"early\n"
        os.write(fds["stdin"], b"late\n")
        assert (await again.end_of("k")).code == 5
        assert os.read(fds["stdout"], 100) == b"late\n"
        closed(fds)
        host.spawners = again.spawners

    on_host(paths, body)


def test_a_child_that_does_not_exec_yet_is_answered_to_the_agent_that_adopts_it(paths: Paths) -> None:
    """Its own agent is gone: neither the answer nor the number of its request may reach the next one otherwise."""

    async def body(host: Host) -> None:
        gate = Path(paths.root, "tasks")  # its opening blocks until there is a reader
        os.mkfifo(gate)
        host.spawners.close()
        before = SpawnerClient(lambda _: None, lambda: None)
        before.connect(f"{paths.root}/spawners/{minipod.__version__}.sock")
        blocked: list[ChildOperation] = [JoinCgroup("/gate", (paths.root,)), *shell("exit 7")]
        asyncio.ensure_future(before.spawn("k", HERE, blocked)).add_done_callback(lambda done: done.exception())
        await until(lambda: any(process.children() for process in host.processes()))
        before.close()
        host.spawners.open()
        adoption = asyncio.ensure_future(host.spawners.adopt("k"))
        assert "k" in await host.spawners.children()
        assert not adoption.done()
        await asyncio.to_thread(gate.read_bytes)
        spawned = await adoption
        assert spawned.started_at_ns
        assert sorted(spawned.fds) == ["pidfd", "stderr", "stdout"]
        closed(spawned.fds)
        assert (await host.end_of("k")).code == 7
        again = await host.spawners.adopt("k")
        assert (again.pid, again.started_at_ns) == (spawned.pid, spawned.started_at_ns)
        closed(again.fds)

    on_host(paths, body)


def test_what_no_spawner_has_cannot_be_adopted(paths: Paths) -> None:
    async def body(host: Host) -> None:
        with pytest.raises(SpawnError, match="k is not known"):
            await host.spawners.adopt("k")

    on_host(paths, body)


def test_a_spawner_that_is_killed_is_replaced_and_its_children_live_on(paths: Paths) -> None:
    async def body(host: Host) -> None:
        spawned = await host.spawners.current.spawn("k", HERE, shell("exec sleep 1000"))
        before = host.process()
        before.kill()
        await until(lambda: host.lost == 1)
        after = await host.spawners.current.spawn("other", HERE, shell("exit 0"))
        assert (await host.end_of("other")).code == 0
        signal.pidfd_send_signal(spawned.fds["pidfd"], 0)  # still there
        signal.pidfd_send_signal(spawned.fds["pidfd"], signal.SIGKILL)
        closed(spawned.fds)
        closed(after.fds)

    on_host(paths, body)


def test_a_child_has_no_descriptor_but_its_three(paths: Paths) -> None:
    async def body(host: Host) -> None:
        spawned = await host.spawners.current.spawn("k", HERE, shell("cd /proc/self/fd; echo *"))
        await host.end_of("k")
        assert os.read(spawned.fds["stdout"], 100).split() in ([b"0", b"1", b"2"], [b"0", b"1", b"2", b"3"])
        closed(spawned.fds)

    on_host(paths, body)


def test_a_child_begins_with_default_signals_and_an_empty_mask(paths: Paths) -> None:
    async def body(host: Host) -> None:
        spawned = await host.spawners.current.spawn("k", HERE, shell("grep -E 'Sig(Blk|Ign)' /proc/self/status"))
        await host.end_of("k")
        masks = os.read(spawned.fds["stdout"], 200).split()[1::2]
        assert [int(mask, 16) for mask in masks] == [0, 0]
        closed(spawned.fds)

    on_host(paths, body)


def test_the_spawner_can_not_be_read_or_traced_by_others_and_runs_from_a_read_only_mount(paths: Paths) -> None:
    async def body(host: Host) -> None:
        pid = host.process().pid
        assert os.stat(f"/proc/{pid}/fd").st_uid == 0
        with pytest.raises(OSError, match=r"Read-only file system|Text file busy"):
            os.open(f"/proc/{pid}/exe", os.O_WRONLY)

    on_host(paths, body)


LIST = b'{"id":1,"do":"list"}'
MALFORMED = (
    b'{"id":1,"do":"forget","key":"\xff"}',
    b'{"id":1,"do":"list"',
    b'{"id":1,"do":"list","x":' + b"[" * 100_000,
    b'{"id":1,"do":"fly","key":"k"}',
    b'{"id":1,"do":"forget","key":"../k"}',
    b'{"id":1,"do":"launch","key":"k"}',
    b'{"id":1,"do":"spawn","key":"k"}',
    b'{"id":1,"do":"spawn","key":"k","ops":5}',
    b'{"id":1,"do":"spawn","key":"k","ops":[{"op":"Fly"}]}',
    b'{"id":1,"do":"spawn","key":"k","ops":[{"op":"Exec","argv":5}]}',
    b'{"id":1,"do":"spawn","key":"k","clone":{"namespaces":["fly"]},"ops":[{"op":"Exec","argv":["x"],"env":[]}]}',
    b'{"id":1,"do":"spawn","key":"k","clone":{"cgroup2":"/no/such"},"ops":[{"op":"Exec","argv":["x"],"env":[]}]}',
    b'{"id":1,"do":"list","fds":["a","a"]}',
)


def test_a_malformed_message_is_answered_and_leaves_no_descriptor(paths: Paths) -> None:
    async def body(host: Host) -> None:
        # What it has to look after, so that it stays without an agent.
        closed((await host.spawners.current.spawn("stays", HERE, shell("read x; exit 6"), stdin=True)).fds)
        host.spawners.close()
        spawner = host.process()
        with connected(paths) as sock:
            assert [child["key"] for child in answer_of(sock, LIST, [])["children"]] == ["stays"]
            before = spawner.num_fds()
            for data in MALFORMED:
                for fds in ([], [0], [0] * 8, [0] * 20):
                    answer = answer_of(sock, data, fds)
                    assert answer["id"] == 1, data
                    assert answer["error"]["message"], data
        for data in (b"", b"\xff"):  # as if it were the end; whose it is cannot be known
            with connected(paths) as sock:
                socket.send_fds(sock, [data], [0])
                assert sock.recv(100) == b""
        with connected(paths) as sock:
            assert "children" in answer_of(sock, LIST, [])
            assert spawner.num_fds() == before
        host.spawners.open()
        await host.spawners.close_stdin("stays")
        assert (await host.end_of("stays")).code == 6
        assert host.process() == spawner

    on_host(paths, body)


def test_a_spawner_without_free_descriptors_refuses_loses_none_and_goes_on(paths: Paths) -> None:
    async def body(host: Host) -> None:
        closed((await host.spawners.current.spawn("stays", HERE, shell("read x; exit 6"), stdin=True)).fds)
        spawner = host.process()
        before, limits = spawner.num_fds(), resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE)
        highest = max(int(fd) for fd in os.listdir(f"/proc/{spawner.pid}/fd"))
        refused = []
        for number in range(60):
            resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE, (highest + 1 + number, limits[1]))
            try:
                closed((await host.spawners.current.spawn(f"k{number}", HERE, shell("exit 7"), stdin=True)).fds)
            except SpawnError as error:
                refused.append(error.errno)
            else:
                assert (await host.end_of(f"k{number}")).code == 7
                await host.spawners.forget(f"k{number}")
            await until(lambda: spawner.num_fds() == before)
        assert set(refused) == {errno.EMFILE}
        assert 3 < len(refused) < 60  # as long as it has not twice as many as it needs, for all else
        resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE, limits)
        await host.spawners.close_stdin("stays")
        assert (await host.end_of("stays")).code == 6
        assert host.process() == spawner

    on_host(paths, body)


LONG_NAMES = ("x" * 70_000, "\u202e\x1b" * 30_000, "/" + "y/" * 60_000)


def test_a_command_with_a_name_longer_than_a_report_fails_alone(paths: Paths) -> None:
    """Its error, with the name in it, was cut off on the way, and ended the spawner."""

    async def body(host: Host) -> None:
        spawner = host.process()
        closed((await host.spawners.current.spawn("stays", HERE, shell("read x; exit 6"), stdin=True)).fds)
        for name in LONG_NAMES:
            with pytest.raises(SpawnError) as caught:
                await host.spawners.current.spawn("k", HERE, [Exec(argv=(name,), env=("PATH=/bin",))])
            assert caught.value.operation == "Exec"
            assert len(str(caught.value)) < 5000
        await host.spawners.close_stdin("stays")
        assert (await host.end_of("stays")).code == 6
        assert host.process() == spawner

    on_host(paths, body)


def test_facts_longer_than_a_report_end_their_process_alone(paths: Paths) -> None:
    """An image may say that its user's home is 70 kB long."""

    async def body(host: Host) -> None:
        spawner = host.process()
        long = AssumeUser(uid=0, gid=0, home="/" + "h" * 70_000)
        with pytest.raises(SpawnError, match="longer than 64 KiB"):
            await host.spawners.current.spawn("k", HERE, [long, *shell("exec sleep 1000")])
        await until(lambda: not spawner.children())
        assert host.process() == spawner

    on_host(paths, body)


def test_a_key_that_is_taken_is_refused_and_its_child_stays(paths: Paths) -> None:
    async def body(host: Host) -> None:
        closed((await host.spawners.current.spawn("k", HERE, shell("read x; exit 4"), stdin=True)).fds)
        with pytest.raises(SpawnError, match="there already"):
            await host.spawners.current.spawn("k", HERE, shell("exit 5"))
        await host.spawners.close_stdin("k")
        assert (await host.end_of("k")).code == 4

    on_host(paths, body)
