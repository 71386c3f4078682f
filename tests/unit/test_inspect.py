"""`minipod inspect`, `top` and `ps`: what is read of the host, what it means, how it is laid out."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import msgspec
import pytest

from minipod.cli.options import load_verb, parse
from minipod.cli.show.inspect_pod import binary_size, text_of, values_of
from minipod.cli.verbs import ps, top
from minipod.control.verbs.inspect import shared_namespaces
from minipod.errors import UsageError
from minipod.plan.configs import HostFacts
from minipod.runtime import inspection
from minipod.runtime.cgroup import CgroupStats
from minipod.runtime.inspection import ContainerInspection, Group, Link, Process, SandboxInspection
from tests.unit.agent_client import Agent, with_agent
from tests.unit.agent_fakes import until
from tests.unit.cli_fakes import Object, fake_agent, minipod_command, pod

V1_FILES = {
    "memory/g/memory.usage_in_bytes": "1363149",
    "memory/g/memory.limit_in_bytes": "9223372036854771712",
    "memory/g/memory.oom_control": "oom_kill 2",
    "cpuacct/g/cpuacct.usage": "1230000000",
    "cpu/g/cpu.shares": "512",
    "cpu/g/cpu.cfs_quota_us": "50000",
    "cpu/g/cpu.cfs_period_us": "100000",
    "pids/g/pids.current": "3",
    "pids/g/pids.max": "max",
}
V2_FILES = {
    "g/memory.current": "1363149",
    "g/memory.max": "67108864",
    "g/memory.events": "oom_kill 2",
    "g/cpu.stat": "usage_usec 1230000\nuser_usec 5",
    "g/cpu.weight": "20",
    "g/cpu.max": "max 100000",
    "g/pids.current": "3",
    "g/pids.max": "9",
}


@pytest.mark.parametrize(
    ("version", "files", "expected"),
    [
        (1, V1_FILES, "MEMORY 1.3Mi, LIMIT none, CPU TIME 1.23s, SHARES 512, QUOTA 0.50 cpus, PIDS 3, MOST none"),
        (2, V2_FILES, "MEMORY 1.3Mi, LIMIT 64Mi, CPU TIME 1.23s, WEIGHT 20, QUOTA none, PIDS 3, MOST 9"),
    ],
)
def test_the_values_of_a_group_are_read_from_both_versions(
    tmp_path: Path, version: int, files: dict[str, str], expected: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    mounts = {name: f"{tmp_path}/{name}" for name in ("memory", "cpu", "cpuacct", "pids")} if version == 1 else {}
    facts = HostFacts(
        node_name="n", cpus=1, memory_bytes=1, cgroup_version=version, cgroup_mounts=mounts or {"": str(tmp_path)}
    )
    group = inspection.group_of("/g", facts)
    shown = values_of(msgspec.to_builtins(group))
    assert ", ".join(f"{title} {value}" for title, value in shown.items()) == expected
    assert (group.oom_kills, group.usage.pids, group.usage.cpu_usage_ns) == (2, 3, 1230000000)
    assert len(group.directories) == (4 if version == 1 else 1)


def test_a_process_is_seen_with_its_namespaces_and_mounts(tmp_path: Path) -> None:
    facts = HostFacts(node_name="n", cpus=1, memory_bytes=1, cgroup_version=2, cgroup_mounts={"": str(tmp_path)})
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "cgroup.procs").write_text(f"{os.getpid()}\n")
    found = inspection.container("/g", os.getpid(), facts)
    assert found.namespaces["net"] == os.stat("/proc/self/ns/net").st_ino
    assert [(process.pid, process.uid) for process in found.processes] == [(os.getpid(), os.getuid())]
    assert "python" in found.processes[0].command
    assert "/proc" in {mount.path for mount in found.mounts if mount.type == "proc"}
    gone = inspection.container("/none", 0, facts)
    assert (gone.namespaces, gone.processes, gone.mounts, gone.group.files) == ({}, (), (), {})


def group(path: str = "/g") -> Group:
    return Group(path, (f"/sys{path}",), {f"/sys{path}/memory.current": "4096"}, CgroupStats(), 0)


SANDBOX = SandboxInspection(
    group=group(),
    namespaces={"net": 1, "ipc": 2},
    pins={"net": "/run/netns/web", "ipc": "/r/ns/ipc"},
    host_namespaces={"net": 9, "ipc": 9, "uts": 9, "pid": 9, "mnt": 9},
    link=Link(name="veth1", index=7, bridge="br0", port=1, state="up", received_bytes=1, sent_bytes=2),
)
ONE = {"net": 1, "ipc": 2, "uts": 9, "pid": 5, "mnt": 6}


def test_each_namespace_is_the_host_s_the_pod_s_or_a_container_s() -> None:
    found = shared_namespaces(SANDBOX, {"a": ONE, "b": {**ONE, "pid": 7, "mnt": 8}})
    lines = [f"{e['type']} {e['inode']} {e['whose']} {'+'.join(e['containers'])} {e['kept_by']}".strip() for e in found]
    assert lines == [
        "net 1 pod a+b /run/netns/web",
        "ipc 2 pod a+b /r/ns/ipc",
        "uts 9 host a+b",
        "pid 5 container a",
        "pid 7 container b",
        "mnt 6 container a",
        "mnt 8 container b",
    ]


def test_the_agent_answers_and_the_text_shows_what_a_pod_is(tmp_path: Path) -> None:
    answers: list[Object] = []

    async def test(agent: Agent) -> None:
        async def sandbox(sandbox_id: str) -> SandboxInspection:
            return SANDBOX

        async def container(container_id: str) -> ContainerInspection:
            processes = (Process(41, 1, 0, "sh -c 'evil\x1b[2J'"),)
            return ContainerInspection(
                group=group("/g/c"), namespaces=ONE, processes=processes, process_count=2, mounts=()
            )

        agent.runtime.inspect_pod_sandbox = sandbox  # type: ignore[attr-defined]
        agent.runtime.inspect_container = container  # type: ignore[attr-defined]
        await agent.run_detached()
        await until(lambda: agent.runtime.is_running("main"))
        (answer,) = await agent.ask(verb="inspect", namespace="default", pod="web")
        answers.append(answer)
        (refused,) = await agent.ask(verb="inspect", namespace="default", pod="nope")
        assert refused["error"]["kind"] == "NotFound"

    with_agent(tmp_path, test)
    answer = json.loads(json.dumps(answers[0]))
    assert answer["sandbox"]["network"]["veth"]["bridge"] == "br0"
    assert [found["name"] for found in answer["containers"]] == ["main"]
    text = text_of(answer, answer["sandbox"]["created_at_ns"] / 1e9 + 5)
    for words in (
        "Pod default/web on ",
        "5s old, ready",
        "net   1      the pod's   main",
        "veth1 on the host  its other end, link 7, port 1 of bridge br0",
        "the pod   4Ki",
        "CONTAINER main",
        "sh -c 'evil^[[2J'",
        "and 1 more",
    ):
        assert words in text, words
    assert "\x1b" not in text


def test_a_pod_without_a_sandbox_says_so() -> None:
    found = {"pod": {"namespace": "d", "name": "p", "node": "n", "phase": "Pending", "uid": "u"}, "sandbox": None}
    end = {"name": "a", "exit_code": 3, "reason": "Error", "message": "", "finished_at_ns": 5_000_000_000}
    text = text_of({**found, "containers": [], "ended": [end]}, 9)
    assert "It has no sandbox" in text
    assert "CONTAINER a  exited 4s ago with 3, Error" in text


@pytest.mark.parametrize(("size", "text"), [(512, "512"), (4096, "4Ki"), (1363149, "1.3Mi"), (1 << 30, "1Gi")])
def test_sizes_are_written_as_quantities(size: int, text: str) -> None:
    assert binary_size(size) == text


def usage(name: str, cpu_ns: int, at_ns: int, memory: int = 5 << 20, container: str = "app") -> Object:
    entry = {"name": container, "id": f"{name}/{container}", "read_at_ns": at_ns, "cpu_usage_ns": cpu_ns}
    return {"namespace": "d", "name": name, "containers": [{**entry, "memory_working_set_bytes": memory}]}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["NAME CPU(cores) MEMORY(bytes)", "a 250m 5Mi", "b 500m 1Mi"]),
        (["--sort-by=cpu", "--no-headers"], ["b 500m 1Mi", "a 250m 5Mi"]),
        (["--sort-by=memory", "--no-headers"], ["a 250m 5Mi", "b 500m 1Mi"]),
        (["--containers", "--sum", "--no-headers"], ["a app 250m 5Mi", "b app 500m 1Mi", "750m 6Mi"]),
        (["-A", "--no-headers"], ["d a 250m 5Mi", "d b 500m 1Mi"]),
    ],
)
def test_top_has_kubectls_columns(words: list[str], expected: list[str]) -> None:
    args = parse("top", load_verb("top"), ["pod", *words])
    before = [usage("b", 0, 0), usage("a", 1000, 0)]
    after = [usage("b", 50, 100, 1 << 20), usage("a", 1025, 100), usage("new", 1, 100)]
    assert [" ".join(row).strip() for row in top.lines(top.rates(before, after), args)] == expected


def test_the_agent_counts_what_runs(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        agent.runtime.container_stats = lambda _id: CgroupStats(7, 9, 8, 1)  # type: ignore[attr-defined]
        await agent.run_detached()
        await until(lambda: agent.runtime.is_running("main"))
        (answer,) = await agent.ask(verb="usage", namespace="default")
        ((counters,),) = [found["containers"] for found in answer["pods"]]
        assert (counters["cpu_usage_ns"], counters["memory_working_set_bytes"]) == (7, 8)
        assert (await agent.ask(verb="usage", selector="app=other"))[0]["pods"] == []
        agent.runtime.end(agent.runtime.find("main").id, 0)
        await asyncio.sleep(1)
        assert (await agent.ask(verb="usage"))[0]["pods"] == []
        assert (await agent.ask(verb="usage", name="web"))[0]["error"]["kind"] == "NotFound"

    with_agent(tmp_path, test)


def mixed_pod() -> Object:
    found = pod("web", ("app", "side"))
    found["spec"]["containers"][0]["ports"] = [
        {"containerPort": 80, "hostPort": 18080},
        {"containerPort": 53, "hostPort": 53, "hostIP": "127.0.0.1", "protocol": "UDP"},
        {"containerPort": 9},
    ]
    found["spec"]["initContainers"] = [{"name": "prepare", "image": "busybox"}]
    ended = {"exitCode": 3, "startedAt": "2026-01-02T03:04:00Z", "finishedAt": "2026-01-02T03:04:05Z"}
    found["status"]["initContainerStatuses"] = [
        {"name": "prepare", "containerID": "minipod://" + "ab" * 32, "state": {"terminated": ended}}
    ]
    found["status"]["containerStatuses"][1] |= {"ready": False}
    return found


def test_ps_shows_containers_with_images_and_ports(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = {entry["Name"]: entry for entry in ps.containers_of(mixed_pod(), 1767323055.0)}
    assert list(found) == ["prepare", "app", "side"]
    assert (found["prepare"]["Status"], found["prepare"]["ID"]) == ("Exited (3) 10s ago", "ab" * 32)
    assert (found["app"]["Status"], found["side"]["Status"]) == ("Up 10s", "Up 10s (not ready)")
    assert found["app"]["Ports"] == "0.0.0.0:18080->80/tcp, 127.0.0.1:53->53/udp, 9/tcp"
    with fake_agent(tmp_path) as agent:
        agent.serve_pods(mixed_pod())
        for words, expected in (
            (["ps", "--format", "{{.Pod}}/{{ .Name }} {{.State}}"], "web/app running\nweb/side running\n"),
            (["ps", "-aq"], "abababababab\n"),
            (["ps", "-aq", "--no-trunc"], "ab" * 32 + "\n"),
            (["container", "ls", "-a", "--format", "{{.Name}}"], "prepare\napp\nside\n"),
        ):
            assert minipod_command(agent.paths, *words) == 0
            assert capfd.readouterr().out == expected
        assert minipod_command(agent.paths, "ps") == 0
        assert capfd.readouterr().out.splitlines()[0].split() == [
            "CONTAINER",
            "ID",
            "IMAGE",
            "CREATED",
            "STATUS",
            "PORTS",
            "POD",
            "NAME",
        ]


@pytest.mark.parametrize("template", ["{{.Nope}}", "{{if .Name}}x{{end}}", "{{range .}}"])
def test_ps_refuses_a_template_that_it_does_not_know(template: str) -> None:
    args = parse("ps", load_verb("ps"), ["--format", template])
    with pytest.raises(UsageError, match="json, or"):
        ps.text_of([], args)
