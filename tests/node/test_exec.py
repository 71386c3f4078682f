"""Commands in running containers, on the kernel: launched and forked they are the same."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import psutil
import pytest

from minipod.config import Config
from minipod.kernel import launcher
from minipod.paths import Paths
from minipod.runtime.execs import CannotExecute, ExecSession
from minipod.runtime.facts import host_facts
from minipod.runtime.runtime import Runtime
from tests.builders import container, manifest, pod
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

WAIT_S = 20.0 * SLOWNESS
IDLE = "trap 'exit 0' TERM; sleep 1000 & wait"

#: all that a process can tell of itself; what is different each time is taken out
TELL = r"""
grep -vE '^(P?Pid|Tgid|NS|Ngid|Name|Vm|Rss|Hugetlb|.*ctxt|Cpus|Mems|SigQ|Threads|State)' /proc/self/status
for kind in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$kind; done
cat /proc/self/cgroup /proc/self/oom_score_adj /proc/self/limits
pwd; umask; env | sort
ls /proc/$$/fd
for fd in 0 1 2; do readlink /proc/$$/fd/$fd | cut -d: -f1; done
cut -d' ' -f4-8 /proc/$$/stat | cut -d' ' -f1,4,5
"""

CONTAINERS = (
    container("plain", IDLE),
    container("user", IDLE, workingDir="/var",
              env=[{"name": "A", "value": "b c=d"}],
              securityContext={"runAsUser": 1000, "runAsGroup": 1001, "allowPrivilegeEscalation": False,
                               "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}),
    container("all", IDLE, securityContext={"privileged": True}),
    container("free", IDLE, securityContext={"seccompProfile": {"type": "Unconfined"},
                                             "capabilities": {"drop": ["CHOWN"], "add": ["SYS_TIME"]}}),
)  # fmt: skip


def in_pod(node: Node, body: Callable[[Runtime, dict[str, str]], Awaitable[None]]) -> None:
    """A pod of all these containers; `body` gets a runtime of the test's own and their ids by name."""
    text = manifest(pod("many", *CONTAINERS, terminationGracePeriodSeconds=1, securityContext={"fsGroup": 2000}))
    node("run", "-d", "--until", "running", "-", input=text)
    agent = psutil.Process(node.agent_pid())
    node.ask("shutdown")
    agent.wait(WAIT_S)
    asyncio.run(_with_runtime(node.paths, body))


async def _with_runtime(paths: Paths, body: Callable[[Runtime, dict[str, str]], Awaitable[None]]) -> None:
    runtime = Runtime(paths, Config(), host_facts(Config()))
    await runtime.open()
    try:
        await body(runtime, {one.config.name: one.id for one in runtime.list_containers()})
    finally:
        await runtime.close()


def test_a_command_is_the_same_launched_as_forked(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[bool, dict[str, str]] = {True: {}, False: {}}

    async def tell(runtime: Runtime, ids: dict[str, str], launched: bool) -> None:
        for name, container_id in ids.items():
            result = await runtime.exec_sync(container_id, ["sh", "-c", TELL], WAIT_S)
            assert (result.exit_code, result.stderr) == (0, b""), name
            told[launched][name] = result.stdout.decode()

    in_pod(node, lambda runtime, ids: tell(runtime, ids, True))
    monkeypatch.setattr(launcher, "is_known", lambda: False)
    asyncio.run(_with_runtime(node.paths, lambda runtime, ids: tell(runtime, ids, False)))
    assert told[True] == told[False]
    assert len(told[True]) == len(CONTAINERS)
    assert "NoNewPrivs:\t1" in told[True]["user"]
    assert "uid=" not in told[True]["user"]


def test_what_cannot_be_executed_is_reported_as_by_a_shell(node: Node) -> None:
    async def body(runtime: Runtime, ids: dict[str, str]) -> None:
        for command, status, words in (
            (["nosuch"], 127, "executable file not found"),
            (["/etc"], 126, "is a directory"),
            (["/etc/passwd"], 126, "permission denied"),
        ):
            with pytest.raises(CannotExecute, match=words) as caught:
                await runtime.exec_sync(ids["plain"], command, WAIT_S)
            assert caught.value.exit_status == status

    in_pod(node, body)


def test_many_commands_at_once_each_get_their_own_end_and_output(node: Node) -> None:
    async def one(runtime: Runtime, container_id: str, number: int) -> None:
        command = ["sh", "-c", f"echo {number}; echo e{number} >&2; exit {number % 256}"]
        result = await runtime.exec_sync(container_id, command, WAIT_S)
        said = f"{number}\n".encode()
        assert (result.exit_code, result.stdout, result.stderr) == (number % 256, said, b"e" + said)

    async def body(runtime: Runtime, ids: dict[str, str]) -> None:
        work: list[Coroutine[Any, Any, None]] = [one(runtime, ids["plain"], number) for number in range(60)]
        await asyncio.gather(*work)

    in_pod(node, body)


def test_a_command_whose_time_is_up_is_killed_and_one_that_says_much_is_heard(node: Node) -> None:
    async def body(runtime: Runtime, ids: dict[str, str]) -> None:
        with pytest.raises(TimeoutError):
            await runtime.exec_sync(ids["plain"], ["sleep", "4321"], 0.5)
        result = await runtime.exec_sync(ids["plain"], ["sh", "-c", "head -c 3000000 /dev/zero; echo end >&2"], WAIT_S)
        assert (len(result.stdout), result.stderr) == (3000000, b"end\n")
        async with asyncio.timeout(WAIT_S):
            while any("4321" in (process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])):
                await asyncio.sleep(0.01)

    in_pod(node, body)


def test_what_a_command_leaves_running_does_not_hold_its_answer_up(node: Node) -> None:
    """It holds the command's streams open; all that the command itself said is there."""

    async def body(runtime: Runtime, ids: dict[str, str]) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            command = ["sh", "-c", "sleep 8765 & head -c 50000 /dev/zero; echo end >&2; exit 3"]
            result = await runtime.exec_sync(ids["plain"], command, WAIT_S)
            assert (result.exit_code, len(result.stdout), result.stderr) == (3, 50000, b"end\n")
        assert len(os.listdir("/proc/self/fd")) == before + 1  # the program, which is kept

    in_pod(node, body)


def test_a_command_whose_time_is_up_takes_what_it_started_along(node: Node) -> None:
    async def body(runtime: Runtime, ids: dict[str, str]) -> None:
        with pytest.raises(TimeoutError):
            await runtime.exec_sync(ids["plain"], ["sh", "-c", "sleep 5432; true"], 0.5 * SLOWNESS)
        async with asyncio.timeout(WAIT_S):
            while any("5432" in (process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])):
                await asyncio.sleep(0.01)

    in_pod(node, body)


def test_only_so_much_of_an_output_is_kept(node: Node) -> None:
    async def body(runtime: Runtime, ids: dict[str, str]) -> None:
        result = await runtime.exec_sync(ids["plain"], ["head", "-c", "3000000", "/dev/zero"], WAIT_S, 10_000)
        assert (result.exit_code, len(result.stdout)) == (0, 10_000)

    in_pod(node, body)


def test_a_loop_that_was_held_up_takes_no_command_for_too_slow(node: Node) -> None:
    async def body(runtime: Runtime, ids: dict[str, str]) -> None:
        work = [asyncio.ensure_future(runtime.exec_sync(ids["plain"], ["true"], 2.0 * SLOWNESS)) for _ in range(10)]
        for _ in range(5):
            await asyncio.sleep(0)  # turns of the loop, until they are under way
        time.sleep(3.0 * SLOWNESS)  # a disk that is waited for
        assert [result.exit_code for result in await asyncio.gather(*work)] == [0] * 10

    in_pod(node, body)


@pytest.mark.parametrize("launched", [True, False])
def test_a_terminal_is_the_user_s_and_leads_a_session(
    node: Node, monkeypatch: pytest.MonkeyPatch, launched: bool
) -> None:
    script = "stat -c '%u %t' $(tty); stty size; cut -d' ' -f6 /proc/$$/stat; echo $$; id -u; pwd; exit 3"

    async def forked(*_: object) -> ExecSession:
        raise AssertionError("it was not launched")

    async def body(runtime: Runtime, ids: dict[str, str]) -> None:
        if launched:
            monkeypatch.setattr(runtime._execs, "_forked", forked)
        else:
            monkeypatch.setattr(runtime._execs, "_can_launch", False)
        session = await runtime.exec(
            ids["user"], ["sh", "-c", script], stdin_fd=None, stdout_fd=None, stderr_fd=None, tty=(24, 80)
        )
        assert await session.wait() == 3
        said = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
            while chunk := os.read(session.tty_fd, 4096):
                said += chunk
        os.close(session.tty_fd)
        owner, size, leads, pid, user, cwd = said.decode().split("\r\n")[:6]
        assert (owner, size, user, cwd) == ("1000 88", "24 80", "1000", "/var")  # major 136: a pty
        assert leads == pid

    in_pod(node, body)


def test_a_command_in_a_container_that_is_ending_fails_with_the_exit_code_of_the_container(node: Node) -> None:
    """At whatever moment of its end: it is never the kernel's `No such process`."""
    for number in range(4):
        name = f"ending{number}"
        text = manifest(pod(name, container("main", "sleep 0.4; exit 3"), restartPolicy="Never"))
        node("run", "-d", "--until", "running", "-", input=text)
        deadline = time.monotonic() + WAIT_S
        while (done := node("exec", name, "-q", "-c", "main", "--", "true", check=False)).returncode in (0, 137):
            assert time.monotonic() < deadline
        assert 'container "main"' in done.stderr
        assert "has ended (exit code 3)" in done.stderr, done.stderr
        assert done.returncode == 1
