"""The agent's verbs as a client of the control socket sees them, on a fake runtime and a virtual clock (unit)."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minipod import __version__
from minipod.agent import leftovers
from minipod.api.timestamps import timestamp
from minipod.control.verbs.execute import running
from minipod.errors import ConflictError, ImageError
from minipod.lifecycle import model
from minipod.plan.operation import HostOperation
from minipod.runtime.images.registry.pull import Pulled
from tests.unit.agent_client import MANIFEST, Agent, with_agent
from tests.unit.agent_fakes import Noted, until


def is_step(*names: str) -> Callable[[dict[str, Any]], bool]:
    return lambda message: message.get("step") in names


def test_a_detached_run_shows_its_steps_and_leaves_the_pod(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        events = await agent.run_detached()
        kinds = [event.get("step") or event.get("event") for event in events]
        assert kinds[0] == "pod"
        steps = [event["step"] for event in events if event.get("event") == "step"]
        assert steps[:4] == ["sandbox", "ip", "image", "container"]
        (log,) = [event for event in events if event.get("event") == "log"]
        assert log["path"].endswith("/main/0.log")
        assert log["path"].startswith(events[0]["log_directory"])
        assert events[-1]["ok"]
        assert events[-1]["pods"][0]["phase"] == "Running"
        assert len(agent.pods) == 1

    with_agent(tmp_path, test)


@pytest.mark.parametrize("goal", ["created", "running", "ready", "succeeded"])
def test_a_detached_run_returns_when_its_goal_is_reached(tmp_path: Path, goal: str) -> None:
    async def test(agent: Agent) -> None:
        running = asyncio.ensure_future(agent.run_detached(until=goal))
        await until(lambda: agent.runtime.is_running("main"))
        await asyncio.sleep(10)
        assert running.done() == (goal != "succeeded")
        agent.runtime.end(agent.runtime.find("main").id, 0)
        assert (await running)[-1]["ok"]

    with_agent(tmp_path, test)


def test_a_foreground_pod_that_ends_is_reported_and_then_gone(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        client = await agent.run_foreground()
        event = await client.until_event(lambda message: message.get("event") == "log")
        folder = Path(event["path"]).parent
        folder.mkdir(parents=True)
        await until(lambda: agent.runtime.is_running("main"))
        agent.runtime.end(agent.runtime.find("main").id, 7)
        last = await client.last()
        assert last["pods"] == [
            {
                "namespace": "default",
                "name": "web",
                "phase": "Failed",
                "reason": "",
                "message": 'container "main" ended with exit code 7 (Error)',
                "exit_codes": {"main": 7},
            }
        ]
        assert not agent.runtime.sandboxes
        assert len(agent.pods) == 0
        assert folder.exists(), "the client may still be reading"
        client.close()
        await until(lambda: not folder.exists())

    with_agent(tmp_path, test)


def test_a_foreground_pod_ends_with_its_connection(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        client = await agent.run_foreground()
        await client.until_event(is_step("ready"))
        client.close()
        await until(lambda: not len(agent.pods))
        assert "stop_container 30" in agent.runtime.log
        assert not agent.runtime.sandboxes
        assert agent.node.store.objects("Pod") == []

    with_agent(tmp_path, test)


def test_an_interrupt_ends_gracefully_and_a_second_word_at_once(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        agent.runtime.stop_takes_s = 1000
        client = await agent.run_foreground()
        await client.until_event(is_step("ready"))
        await client.send(verb="interrupt")
        await client.until_event(is_step("terminating"))
        await asyncio.sleep(3)
        assert agent.runtime.is_running("main")
        await client.send(verb="kill")
        last = await client.last()
        assert last["pods"][0]["exit_codes"] == {"main": 137}
        assert last["pods"][0]["phase"] == "Failed"
        assert asyncio.get_running_loop().time() < 10

    with_agent(tmp_path, test)


def test_an_interrupt_during_a_pull_says_so_and_reports_no_exit_code(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        def fetch(reference: str, secrets: Any = (), report: Any = None, *, stop: threading.Event) -> Pulled:
            stop.wait()
            raise ImageError("stopped")

        agent.runtime.images.known.clear()
        agent.runtime.images.fetch = fetch  # type: ignore[method-assign, assignment]
        client = await agent.run_foreground()
        await client.until_event(is_step("image"))
        await client.send(verb="interrupt")
        (ended,) = (await client.last())["pods"]
        assert (ended["phase"], ended["reason"], ended["exit_codes"]) == ("Pending", "", {})
        assert ended["message"] == "cancelled while its image was pulled"
        assert not [event for event in client.events if event.get("step") == "failed"], "the pull was not at fault"
        assert len(agent.pods) == 0

        agent.runtime.images.known.add("busybox")
        other = '  - {name: other, image: "reg/other", command: [sleep, "1"]}\n'
        client = await agent.run_foreground(MANIFEST + other)
        await client.until_event(lambda message: message.get("message") == "other: pulling reg/other")
        await client.send(verb="interrupt")
        (ended,) = (await client.last())["pods"]
        assert ended["message"].endswith('container "other" was cancelled while its image was pulled')
        assert (ended["phase"], set(ended["exit_codes"])) == ("Failed", {"main"})
        assert not [event for event in client.events if event.get("step") == "failed"]

    with_agent(tmp_path, test)


def test_a_missing_image_fails_the_foreground_run_and_leaves_nothing(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        client = await agent.run_foreground(MANIFEST.replace("image: busybox", "image: nothing"))
        last = await client.last()
        assert last["error"]["kind"] == "Runtime"
        assert last["error"]["exit"] == 3
        assert 'container "main": ErrImagePull' in last["error"]["message"]
        assert len(agent.pods) == 0

    with_agent(tmp_path, test)


def test_a_detached_run_that_cannot_start_says_why_and_what_was_logged_last(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        running = asyncio.ensure_future(agent.run_detached(until="succeeded"))
        await until(lambda: agent.runtime.is_running("main"))
        folder = Path(agent.pods.log_directory(agent.pods.find("default", "web").pod)) / "main"
        folder.mkdir(parents=True)
        (folder / "0.log").write_text("2026-01-01T00:00:00.0Z stderr F no such table: users\n")
        agent.runtime.end(agent.runtime.find("main").id, 3)
        error = (await running)[-1]["error"]
        assert error["exit"] == 1
        assert error["message"] == (
            'pod "web": container "main" ended with exit code 3 (Error); it last logged: no such table: users'
        )
        assert len(agent.pods) == 1

    with_agent(tmp_path, test)


def test_a_broken_sandbox_is_reported_at_once(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        agent.runtime.fail["run_pod_sandbox"] = OSError("no address is free")
        error = (await agent.run_detached())[-1]["error"]
        assert "sandbox: no address is free; it keeps retrying" in error["message"]

    with_agent(tmp_path, test)


def test_a_wrong_manifest_starts_nothing_and_shows_every_finding(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        text = MANIFEST + "---" + MANIFEST.replace("name: web", "name: other").replace("command", "comand")
        text += "---" + MANIFEST.replace("name: web", "name: UPPER")
        error = (await agent.run_detached(text))[-1]["error"]
        assert error["kind"] == "Manifest"
        assert error["exit"] == 2
        assert error["message"] == "2 errors in the manifest"
        assert error["errors"][0].startswith("pod.yaml:16:")
        assert "did you mean" in error["errors"][0]
        assert len(agent.pods) == 0

    with_agent(tmp_path, test)


def test_a_namespace_that_does_not_match_is_reported_as_by_kubectl(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        text = MANIFEST.replace("name: web", "name: web, namespace: one")
        files = [{"name": "pod.yaml", "text": text}]
        error = (await agent.ask(verb="run", files=files, namespace="two", detach=True))[-1]["error"]
        assert 'the namespace from the provided object "one" does not match the namespace "two"' in error["message"]

    with_agent(tmp_path, test)


def test_several_pods_in_one_run_are_all_awaited(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        client = await agent.run_foreground(MANIFEST + "---" + MANIFEST.replace("name: web", "name: other"))
        await until(lambda: len(agent.runtime.containers) == 2)
        await asyncio.sleep(5)
        for status in agent.runtime.list_containers():
            agent.runtime.end(status.id, 0)
        last = await client.last()
        assert {pod["name"]: pod["phase"] for pod in last["pods"]} == {"web": "Succeeded", "other": "Succeeded"}

    with_agent(tmp_path, test)


def test_the_name_of_a_running_pod_is_a_conflict(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        error = (await agent.run_detached())[-1]["error"]
        assert error["kind"] == "Conflict"
        assert re.match(r'pod "web" already exists \(started \d+s ago, Running\): delete it first', error["message"])

    with_agent(tmp_path, test)


def test_get_gives_tables_and_objects(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached(until="ready")
        (table, _) = await agent.ask(verb="get", kind="pods", namespace="default", name=None, output="table")
        assert table["columns"] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
        assert table["rows"][0][:4] == ["web", "1/1", "Running", "0"]
        (table, _) = await agent.ask(verb="get", namespace=None, output="wide")
        assert table["columns"][0] == "NAMESPACE"
        (found, _) = await agent.ask(verb="get", namespace="default", name="web", output="object")
        assert found["object"]["kind"] == "Pod"
        assert found["object"]["status"]["phase"] == "Running"
        (error,) = await agent.ask(verb="get", namespace="default", name="none")
        assert error["error"]["message"] == 'pods "none" not found'

    with_agent(tmp_path, test)


def test_get_selects_by_labels_and_fields(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached(until="ready")

        async def names(**more: Any) -> list[str]:
            events = await agent.ask(verb="get", namespace="default", output="object", **more)
            return [event["object"]["metadata"]["name"] for event in events if "object" in event]

        assert await names(field_selector="status.phase=Running,metadata.name!=db") == ["web"]
        assert await names(field_selector="status.phase=Failed") == []
        assert await names(selector="app=none") == []
        assert await names(selector="!app", listing=False) == []
        (error,) = await agent.ask(verb="get", namespace="default", field_selector="spec.tolerations=x")
        assert error["error"]["message"].startswith("field label not supported: spec.tolerations")
        (table, _) = await agent.ask(
            verb="get", namespace="default", output="table", label_columns=["example.com/tier"], show_labels=True
        )
        assert (table["columns"][-2:], table["rows"][0][-2:]) == (["TIER", "LABELS"], ["", "<none>"])

    with_agent(tmp_path, test)


def test_delete_returns_when_the_pod_is_gone_and_shows_what_was_not_there(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        agent.runtime.stop_takes_s = 12
        before = asyncio.get_running_loop().time()
        events = await agent.ask(verb="delete", namespace="default", names=["web", "none"])
        assert events[0] == {"event": "deleted", "name": "web"}
        assert events[1]["error"]["message"] == 'pods "none" not found'
        assert asyncio.get_running_loop().time() - before >= 12
        assert len(agent.pods) == 0

    with_agent(tmp_path, test)


def test_a_second_delete_with_a_shorter_grace_period_cuts_the_first(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        agent.runtime.stop_takes_s = 1000
        first = asyncio.ensure_future(agent.ask(verb="delete", namespace="default", names=["web"]))
        await asyncio.sleep(1)
        second = await agent.ask(verb="delete", namespace="default", names=["web"], force=True)
        assert second[-1]["ok"]
        assert (await first)[-1]["ok"]
        assert asyncio.get_running_loop().time() < 10

    with_agent(tmp_path, test)


def test_exec_hands_descriptors_over_and_gives_the_exit_code(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        client = agent.client()
        read_fd, write_fd = os.pipe()
        await client.send((write_fd,), verb="exec", namespace="default", pod="web", command=["true"], fds=["stdout"])
        os.close(write_fd)
        assert await client.line() == {"event": "started"}
        assert os.read(read_fd, 1) == b"", "the agent keeps no end of the client's pipe"
        os.close(read_fd)
        agent.runtime.sessions[0].ended.set_result(42)
        assert await client.line() == {"ok": True, "exit_code": 42}

    with_agent(tmp_path, test)


def test_exec_passes_signals_on_and_ends_with_its_client(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        client = agent.client()
        await client.send(verb="exec", namespace="default", pod="web", command=["sleep"], fds=[])
        await client.line()
        await client.send(verb="signal", signal=15)
        assert await client.line() == {"ok": True, "exit_code": 143}
        other = agent.client()
        await other.send(verb="exec", namespace="default", pod="web", command=["sleep"], fds=[])
        await other.line()
        other.close()
        await until(lambda: agent.runtime.sessions[1].signals == [9])

    with_agent(tmp_path, test)


def test_exec_refuses_what_is_no_pipe(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        client = agent.client()
        fd = os.open("/dev/null", os.O_RDWR)
        await client.send((fd,), verb="exec", namespace="default", pod="web", command=["true"], fds=["stdin"])
        os.close(fd)
        last = await client.last()
        assert "must be a pipe or a connected unix stream" in last["error"]["message"]
        (error,) = await agent.ask(verb="exec", namespace="default", pod="web", container="x", command=["a"], fds=[])
        assert error["error"]["message"] == "container x is not valid for pod web: it has main"

    with_agent(tmp_path, test)


def test_exec_into_a_container_that_has_not_begun_says_so(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        state = msgspec.structs.replace(agent.pods.find("default", "web").state, containers={})
        with pytest.raises(ConflictError, match='container "main" of pod "web" does not run yet'):
            running(state, "main")
        run = model.Run(id="c", state="exited", exit_code=3)
        container = msgspec.structs.replace(agent.pods.find("default", "web").state.containers["main"], run=run)
        state = msgspec.structs.replace(state, containers={"main": container})
        with pytest.raises(ConflictError, match=r'container "main" of pod "web" has ended \(exit code 3\)'):
            running(state, "main")

    with_agent(tmp_path, test)


def test_status_counts_and_shutdown_leaves(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        (status,) = await agent.ask(verb="status")
        assert (status["pods"], status["pid"], status["version"]) == (1, os.getpid(), __version__)
        assert (await agent.ask(verb="shutdown"))[-1]["ok"]
        assert agent.left
        assert len(agent.pods) == 1, "pods keep running"

    with_agent(tmp_path, test)


def test_halt_ends_the_containers_of_all_pods_and_resume_starts_them_again(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached(MANIFEST.replace("Never", "Always"))
        assert (await agent.ask(verb="halt", grace_period=5))[-1]["stopped"] == ["default/web"]
        assert not agent.runtime.is_running("main")
        (refused,) = await agent.run_detached(MANIFEST.replace("web", "db"))
        assert "minipod agent start-pods" in refused["error"]["message"]
        await asyncio.sleep(1000)
        assert not agent.runtime.is_running("main")
        assert (await agent.ask(verb="resume"))[-1]["ok"]
        await until(lambda: agent.runtime.is_running("main"))

    with_agent(tmp_path, test)


def test_containers_continue_to_end_where_the_client_of_halt_has_gone(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        agent.runtime.stop_takes_s = 15
        client = agent.client()
        await client.send(verb="halt", grace_period=20)
        await until(lambda: agent.pods.halted)
        client.close()
        await until(lambda: not agent.runtime.is_running("main"))

    with_agent(tmp_path, test)


def test_after_a_sudden_end_only_what_has_no_sandbox_is_swept(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        config = msgspec.structs.replace(next(iter(agent.runtime.sandboxes.values())).config, uid="lost", name="lost")
        await agent.runtime.run_pod_sandbox(msgspec.structs.replace(config, id="f" * 64))
        folders = Path(agent.node.paths.state) / "pods"
        for name in (agent.pods.find("default", "web").uid, "lost", "stranger"):
            (folders / name / "volumes").mkdir(parents=True)
        (tmp_path / "left").touch()
        agent.runtime.leftovers = [Noted(str(tmp_path / "left"))]
        await leftovers.sweep(agent.node, agent.pods)
        assert not (tmp_path / "left").exists()
        assert sorted(path.name for path in folders.iterdir()) == sorted(
            [agent.pods.find("default", "web").uid, "lost"]
        )
        assert len(agent.runtime.sandboxes) == 2

    with_agent(tmp_path, test)


def test_gc_removes_what_belongs_to_no_pod_and_nothing_else(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        mine = agent.pods.find("default", "web")
        folders = Path(agent.node.paths.state) / "pods"
        for name in (mine.uid, "stranger"):
            (folders / name / "volumes").mkdir(parents=True)
        config = msgspec.structs.replace(next(iter(agent.runtime.sandboxes.values())).config, uid="x", name="lost")
        await agent.runtime.run_pod_sandbox(msgspec.structs.replace(config, id="f" * 64))
        (tmp_path / "left").touch()
        left: HostOperation = Noted(str(tmp_path / "left"))
        agent.runtime.leftovers = [left]
        *found, last = await agent.ask(verb="gc", dry_run=True)
        assert [event["message"] for event in found] == [
            "sandbox ffffffffffff of pod default/lost, which is not known",
            f"note {tmp_path}/left",
            f"folder {folders}/stranger",
        ]
        assert last["removed"] == 0
        assert (folders / "stranger").exists()
        *_, last = await agent.ask(verb="gc", dry_run=False)
        assert last["removed"] == 3
        assert not (folders / "stranger").exists()
        assert not (tmp_path / "left").exists()
        assert (folders / mine.uid).exists()
        assert len(agent.runtime.sandboxes) == 1

    with_agent(tmp_path, test)


def test_what_the_network_warns_of_is_reported_to_the_run_that_caused_it_and_as_an_event(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        agent.runtime.warnings = ["pods get other addresses"]
        events = await agent.run_detached()
        warnings = [event["message"] for event in events if event.get("event") == "warning"]
        assert warnings == ['pod "web": pods get other addresses']
        assert any(b"pods get other addresses" in event.data for event in agent.node.store.events())

    with_agent(tmp_path, test)


@pytest.mark.parametrize(
    "request_",
    [
        {"verb": "resize", "limits": {"cpu": "x"}},
        {"verb": "resize", "requests": {"name": "x"}},
        {"verb": "debug", "container": {"name": "d", "image": "busybox", "resources": {"limits": {"cpu": "x"}}}},
        {"verb": "debug", "container": {"name": "d", "image": 5}},
        {"verb": "debug", "container": {"name": "d", "image": "busybox", "imagee": "x"}},
        {"verb": "debug", "container": ["d"]},
        {"verb": "debug", "container": {"name": "d", "image": "x" * (4 << 20)}},
    ],
    ids=lambda request: str(request)[:60],
)
def test_parts_of_a_pod_in_a_request_are_decoded_as_in_a_manifest(tmp_path: Path, request_: dict[str, Any]) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        (answer,) = await agent.ask(namespace="default", pod="web", **{"container": "main", **request_})
        assert answer["error"]["kind"] in ("Manifest", "Usage")

    with_agent(tmp_path, test)


def test_a_grace_period_beyond_all_time_is_a_time_or_is_refused(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        for wrong in (2**63, 10**30, -1):
            (answer,) = await agent.ask(verb="delete", names=["web"], grace_period=wrong)
            assert answer["error"]["kind"] == "Usage"

    with_agent(tmp_path, test)
    assert timestamp(2.0**62) == "9999-12-31T23:59:59Z"
