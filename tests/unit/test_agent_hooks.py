"""Hooks, termination messages, log tails and what is said of a pod that does not come up (unit)."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minipod.agent.node import Node
from minipod.agent.pods import logtail, termination
from minipod.agent.pods.outcome import failure_of, is_ready, outcome_of, reached
from minipod.agent.probes import hooks
from minipod.api.types import (
    ContainerPort,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ExecAction,
    HTTPGetAction,
    HTTPHeader,
    Lifecycle,
    LifecycleHandler,
    Pod,
    PodCondition,
    PodStatus,
    SleepAction,
)
from minipod.api.types import ContainerStatus as ApiStatus
from minipod.lifecycle import model
from minipod.plan.configs import ContainerConfig, SandboxConfig
from minipod.runtime import offload
from minipod.runtime.spawner.client import SpawnerGoneError
from minipod.runtime.status import ContainerState as RuntimeState
from minipod.runtime.status import ContainerStatus, ExecResult, SandboxState, SandboxStatus
from tests.unit.agent_fakes import FakeRuntime, make_node, make_pod, run_virtually

SANDBOX = SandboxStatus(
    id="s",
    config=SandboxConfig(
        id="s", name="web", namespace="default", uid="u", hostname="web", log_directory="", cgroup_parent=""
    ),
    state=SandboxState.READY,
    created_at_ns=0,
    ips=("127.0.0.1",),
)


def hooked(handler: LifecycleHandler, ports: tuple[ContainerPort, ...] = ()) -> Pod:
    pod = make_pod()
    container = msgspec.structs.replace(
        pod.spec.containers[0], lifecycle=Lifecycle(post_start=handler, pre_stop=handler), ports=ports
    )
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, containers=(container,)))


def hook(folder: Path, test: Callable[[Node], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        node = make_node(folder)
        try:
            await test(node)
        finally:
            node.store.close()

    run_virtually(main)


def action(timeout_s: float | None = None, which: str = "preStop") -> model.RunHook:
    return model.RunHook(name="main", container_id="c", hook=which, timeout_s=timeout_s)


def test_an_exec_hook_runs_in_its_container(tmp_path: Path) -> None:
    async def test(node: Node) -> None:
        pod = hooked(LifecycleHandler(exec=ExecAction(command=("touch", "/x"))))
        assert await hooks.run(node, pod, SANDBOX, action()) == ""
        assert isinstance(node.runtime, FakeRuntime)
        assert node.runtime.log == ["exec_sync touch /x"]

    hook(tmp_path, test)


def test_a_failing_exec_hook_shows_status_and_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(*args: object) -> ExecResult:
        return ExecResult(2, b"", b"no such file\n")

    async def test(node: Node) -> None:
        monkeypatch.setattr(node.runtime, "exec_sync", failing)
        pod = hooked(LifecycleHandler(exec=ExecAction(command=("cat", "/x"))))
        said = await hooks.run(node, pod, SANDBOX, action())
        assert said.startswith('Exec lifecycle hook ([cat /x]) for Container "main" in Pod "')
        assert said.endswith("error: command 'cat /x' exited with 2: no such file\n, message: \"no such file\\n\"")

    hook(tmp_path, test)


def test_a_hook_whose_spawner_dies_is_run_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = LifecycleHandler(exec=ExecAction(command=("touch", "/x")))
    asked = []

    async def test(node: Node) -> None:
        async def dying(*arguments: Any) -> ExecResult:
            asked.append(arguments)
            if len(asked) == 1:
                raise SpawnerGoneError
            return ExecResult(0, b"", b"")

        monkeypatch.setattr(node.runtime, "exec_sync", dying)
        assert await hooks.run(node, hooked(handler), SANDBOX, action()) == ""

    hook(tmp_path, test)
    assert asked[0] == asked[1]


def test_a_sleep_hook_sleeps_and_no_longer_than_it_may(tmp_path: Path) -> None:
    async def test(node: Node) -> None:
        pod = hooked(LifecycleHandler(sleep=SleepAction(seconds=7)))
        loop = asyncio.get_running_loop()
        assert await hooks.run(node, pod, SANDBOX, action()) == ""
        assert loop.time() == pytest.approx(7)
        assert (await hooks.run(node, pod, SANDBOX, action(timeout_s=2))).endswith(
            "failed - error: timed out after 2 s"
        )
        assert loop.time() == pytest.approx(9)

    hook(tmp_path, test)


@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_an_http_hook_asks_the_pod_by_its_port_s_name_and_takes_any_answer(tmp_path: Path, status: int) -> None:
    async def test(node: Node) -> None:
        asked: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 %d X\r\n\r\n" % status)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        get = HTTPGetAction(path="/bye", port="http", http_headers=(HTTPHeader(name="X-A", value="b"),))
        pod = hooked(LifecycleHandler(http_get=get), (ContainerPort(name="http", container_port=port),))
        assert await hooks.run(node, pod, SANDBOX, action()) == ""
        assert asked[0].startswith(b"GET /bye HTTP/1.1\r\n")
        assert b"X-A: b\r\n" in asked[0]
        assert b"User-Agent: kube-lifecycle/1.36\r\n" in asked[0]
        server.close()
        await server.wait_closed()
        assert "connection refused" in await hooks.run(node, pod, SANDBOX, action())

    hook(tmp_path, test)


# -- termination messages


def ended(folder: Path, exit_code: int = 1, message: str = "") -> ContainerStatus:
    config = ContainerConfig(
        id="c", name="main", image="busybox", directory="", termination_message_host_path=f"{folder}/termination-log"
    )
    return ContainerStatus(
        id="c",
        sandbox_id="s",
        config=config,
        state=RuntimeState.EXITED,
        created_at_ns=0,
        exit_code=exit_code,
        log_path=f"{folder}/0.log",
        message=message,
    )


def falling_back(pod: Pod) -> Pod:
    container = msgspec.structs.replace(pod.spec.containers[0], termination_message_policy="FallbackToLogsOnError")
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, containers=(container,)))


def test_the_termination_message_is_the_file_s_end(tmp_path: Path) -> None:
    (tmp_path / "termination-log").write_bytes(b"a" * 10_000 + b"x" * 4000 + b"end")
    assert asyncio.run(termination.message_of(make_pod(), ended(tmp_path))) == "a" * 93 + "x" * 4000 + "end"


def test_logs_are_the_message_only_of_failures_whose_policy_says_so(tmp_path: Path) -> None:
    lines = [f"2026-01-01T00:00:00.0Z stdout F line {number}" for number in range(200)]
    (tmp_path / "0.log").write_text("\n".join(lines) + "\n")
    (tmp_path / "termination-log").touch()
    assert asyncio.run(termination.message_of(make_pod(), ended(tmp_path))) == ""
    assert asyncio.run(termination.message_of(falling_back(make_pod()), ended(tmp_path, 0))) == ""
    text = asyncio.run(termination.message_of(falling_back(make_pod()), ended(tmp_path)))
    assert text.splitlines()[0] == "line 120"
    assert text.splitlines()[-1] == "line 199"
    (tmp_path / "termination-log").write_text("its own")
    assert asyncio.run(termination.message_of(falling_back(make_pod()), ended(tmp_path))) == "its own"


def test_a_log_that_is_not_answered_leaves_an_end_without_its_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hung file system under the logs keeps neither the loop nor the report of the end waiting."""
    answers = threading.Event()

    def hung(*_args: object) -> str:
        assert answers.wait(30)
        return "late"

    async def main() -> list[str]:
        asked = asyncio.gather(*(termination.message_of(falling_back(make_pod()), ended(tmp_path)) for _ in range(2)))
        await asyncio.sleep(0)  # the loop goes on
        messages = await asked
        answers.set()
        while offload._hung:
            await asyncio.sleep(0.001)
        return list(messages)

    monkeypatch.setattr(logtail, "ANSWER_S", 0.05)
    monkeypatch.setattr(logtail, "tail_text", hung)
    try:
        assert asyncio.run(main()) == ["", ""]
    finally:
        answers.set()


def test_a_termination_file_that_is_none_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    os.symlink(tmp_path / "secret", tmp_path / "termination-log")
    assert asyncio.run(termination.message_of(make_pod(), ended(tmp_path))) == ""
    os.unlink(tmp_path / "termination-log")
    os.mkfifo(tmp_path / "termination-log")
    assert asyncio.run(termination.message_of(make_pod(), ended(tmp_path))) == ""


def test_the_last_lines_are_those_of_the_newest_log(tmp_path: Path) -> None:
    assert logtail.last_lines(str(tmp_path / "none")) == []
    (tmp_path / "9.log").write_text("t stdout F old\n")
    (tmp_path / "10.log").write_text("".join(f"t stderr F {text}\n" for text in ("a", "b", "", "c" * 300)))
    (tmp_path / "11.log.gz").touch()
    assert logtail.last_lines(str(tmp_path)) == ["a", "b", "c" * 200]


# -- outcomes


def showing(phase: str, state: ContainerState, ready: bool = False) -> Pod:
    condition = PodCondition(type="Ready", status="True" if ready else "False")
    status = PodStatus(phase=phase, conditions=(condition,), container_statuses=(ApiStatus(name="main", state=state),))
    return msgspec.structs.replace(make_pod(), status=status)


RUNNING = ContainerState(running=ContainerStateRunning())


@pytest.mark.parametrize(
    ("phase", "ready", "goals"),
    [
        ("Pending", False, {"created"}),
        ("Running", False, {"created", "running"}),
        ("Running", True, {"created", "running", "ready"}),
        ("Succeeded", False, {"created", "running", "ready", "succeeded"}),
        ("Failed", False, {"created"}),
    ],
)
def test_goals_follow_from_phase_and_readiness(phase: str, ready: bool, goals: set[str]) -> None:
    pod = showing(phase, RUNNING, ready)
    assert is_ready(pod) == ready
    assert {goal for goal in ("created", "running", "ready", "succeeded") if reached(pod, goal)} == goals


def test_a_pod_whose_container_cannot_be_started_is_not_running_for_who_waits() -> None:
    state = ContainerState(terminated=ContainerStateTerminated(reason="StartError", exit_code=128))
    assert not reached(showing("Running", state), "running")
    assert reached(showing("Running", state), "created")


@pytest.mark.parametrize(
    ("state", "by_runtime"),
    [
        (RUNNING, None),
        (ContainerState(waiting=ContainerStateWaiting(reason="ContainerCreating")), None),
        (ContainerState(waiting=ContainerStateWaiting(reason="ErrImageNeverPull", message="x")), True),
        (ContainerState(waiting=ContainerStateWaiting(reason="CreateContainerConfigError")), True),
        (ContainerState(terminated=ContainerStateTerminated(reason="StartError", exit_code=128)), True),
    ],
)
def test_what_the_runtime_cannot_start_is_a_failure(state: ContainerState, by_runtime: bool | None) -> None:
    failure = failure_of(showing("Pending", state))
    assert (failure.by_runtime if failure else None) == by_runtime


def test_the_outcome_has_every_exit_code() -> None:
    state = ContainerState(terminated=ContainerStateTerminated(reason="OOMKilled", exit_code=137))
    outcome = outcome_of(showing("Failed", state))
    assert outcome.exit_codes == {"main": 137}
    assert outcome.message == 'container "main" ended with exit code 137 (OOMKilled)'
