"""Row 1 of the catalogue: a path of the container that begins at what the process that starts it still holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import ContainerError
from minipod.runtime.container import Container
from minipod.runtime.images import busybox
from minipod.runtime.runtime import Runtime
from minipod.runtime.spawner.client import SpawnError
from tests import guard
from tests.attacks.canary import Canary
from tests.attacks.conftest import AttackedNode
from tests.attacks.evil import EvilImages
from tests.attacks.swapper import Swapper
from tests.builders import container, manifest, mount, pod
from tests.layouts import Entry, entry, folder, symlink
from tests.own_runtime import in_own_runtime
from tests.volume_pods import wait_for

NUMBERS = range(65)  # more than the spawner holds in these tests
UP = "/.." * 8
SLEEP = "exec sleep 100000"
#: what a way out ends with, whichever it is: the kernel's words, or the runtime's for them
REFUSED = ("Too many levels of symbolic links", "a magic link of /proc", "no such file", "No such file", "not found",
           "its interpreter is not there", "not a directory")  # fmt: skip


def held(number: int) -> str:
    return f"/proc/self/fd/{number}"


def look(canary: Canary) -> str:
    """Prints the secret by whatever the working directory leads to."""
    relative = f"{UP[1:]}{canary.file}"
    return f"cat {relative} .{UP}{canary.file} 2>/dev/null; readlink /proc/self/cwd"


def said_of(node: AttackedNode) -> dict[str, str]:
    """Container → why it has not been started, or how it is; once all have come that far."""

    def states() -> dict[str, dict[str, Any]]:
        return {one["name"]: one["state"] for one in node.pod("p")["status"]["containerStatuses"]}  # type: ignore[index]

    wait_for(lambda: not any({"reason": "ContainerCreating"} in state.values() for state in states().values()))
    return {name: str(state) for name, state in states().items()}


# ---- as a container starts


def links(outside: str) -> list[Entry]:
    """One of each kind for every number: to a folder, to a program, a script whose interpreter is there."""
    return [
        made
        for n in NUMBERS
        for made in (
            symlink(f"folder{n}", held(n)),
            symlink(f"program{n}", f"{held(n)}{UP}{outside}"),
            entry(f"script{n}", f"#!{held(n)}{UP}{outside} echo\n".encode(), mode=0o755),
        )
    ]


def way_out(kind: str, n: int, outside: str) -> dict[str, Any]:
    """Fields of a container that would be outside; what it says then is harmless."""
    escaped = ["echo", "escaped"]
    shell = {"command": ["/bin/busybox", *escaped]}
    ways: dict[str, dict[str, Any]] = {
        "folder": {"workingDir": held(n), **shell},
        "folder above": {"workingDir": f"{held(n)}/../..", **shell},
        "link to a folder": {"workingDir": f"/folder{n}", **shell},
        "program": {"command": [f"{held(n)}{UP}{outside}", *escaped]},
        "link to a program": {"command": [f"/program{n}", *escaped]},
        "script": {"command": [f"/script{n}", "escaped"]},
        "PATH": {"command": ["busybox", *escaped], "env": [{"name": "PATH", "value": f"{held(n)}{UP}/usr/bin"}]},
    }
    return ways[kind]


KINDS = ("folder", "folder above", "link to a folder", "program", "link to a program", "script", "PATH")


@pytest.mark.attack(row=1)
@pytest.mark.parametrize("kind", KINDS)
def test_no_descriptor_of_the_runtimes_is_a_way_out_for_a_container_that_starts(
    node: AttackedNode, evil: EvilImages, kind: str
) -> None:
    """CVE-2024-21626: each number in a container of its own, all in one pod."""
    outside = str(busybox.find_busybox())
    image = evil("links", *links(outside))
    ways = [{**container(f"c{n}", image=image), **way_out(kind, n, outside)} for n in NUMBERS]
    done = node("run", "-d", "--timeout", "20s", "-", input=manifest(pod("p", *ways)), check=False)
    assert "cannot be started" in done.stderr, done.stderr
    said = said_of(node)
    assert len(said) == len(NUMBERS)
    assert {name: why for name, why in said.items() if not any(words in why for words in REFUSED)} == {}
    assert [name for name, why in said.items() if "StartError" not in why] == []


@pytest.mark.attack(row=1)
@pytest.mark.vm
@pytest.mark.parametrize("place", ["/proc/self/fd/4/../..", "/proc/self/cwd/..", "/proc/self/root", "/folder5"])
def test_an_images_folder_is_resolved_as_the_manifests(node: AttackedNode, evil: EvilImages, place: str) -> None:
    """Image WORKDIR: the published exploit's `docker build`. Also links of /proc that would lead inside."""
    image = evil("workdir", symlink("folder5", held(5)), config={"WorkingDir": place})
    only = pod("p", container("c", "echo escaped", image=image))
    node("run", "-d", "--timeout", "20s", "-", input=manifest(only), check=False)
    assert "StartError" in said_of(node)["c"]


@pytest.mark.attack(row=1)
def test_a_volumes_folder_that_is_exchanged_for_a_link_while_containers_start_in_it(
    node: AttackedNode, evil: EvilImages, canary: Canary
) -> None:
    """/v/d is a folder with 65 folders, or a link to the descriptors: resolved in between, it is one of the two."""
    swapper = Swapper(node, evil, "/proc/self/fd", "mkdir $(seq -f /v/d/%g 0 64)")
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    seen: set[str] = set()
    for _ in range(4):
        victims = [
            container(f"c{n}", look(canary), workingDir=f"/v/d/{n}", volumeMounts=[mount("data", "/v")])
            for n in NUMBERS
        ]
        node("run", "-d", "--timeout", "20s", "-", input=manifest(pod("p", *victims, volumes=[volume])), check=False)
        said = said_of(node)
        started = {name for name, why in said.items() if "StartError" not in why}
        refused = {name for name, why in said.items() if any(words in why for words in REFUSED)}
        assert started | refused == set(said)
        for name in started:
            where = node("logs", "p", "-c", name).stdout.strip() if len(seen) < 2 else "/v/d"
            assert where.startswith("/v/"), where
        seen |= ({"started"} if started else set()) | ({"refused"} if refused else set())
        node("delete", "pod", "p", "--grace-period=0", "--force")
        if len(seen) > 1:
            break
    swapper.assert_raced(seen)


# ---- a command in a container


class Swapped:
    """The container's own root, where it has exchanged its working directory /w for a link."""

    def __init__(self, pid: int) -> None:
        self._root_fd = guard.root_of(pid)
        os.rmdir("w", dir_fd=self._root_fd)

    def link_to(self, target: str) -> None:
        os.symlink(target, "new", dir_fd=self._root_fd)
        os.rename("new", "w", src_dir_fd=self._root_fd, dst_dir_fd=self._root_fd)

    def close(self) -> None:
        os.close(self._root_fd)


async def said_by(runtime: Runtime, one: Container, command: tuple[str, ...], canary: Canary) -> dict[str, str]:
    """Way of a command → what it was refused with; what it printed where it was not."""
    said: dict[str, str] = {}
    try:
        found = await runtime.exec_sync(one.status.id, command, 10)  # launched; forked where that fails
        said["to its end"] = f"ran: {found.stdout!r}"
        canary.hear(found.stdout)
    except (ContainerError, SpawnError) as error:
        said["to its end"] = str(error)
    try:
        session = await runtime.exec(one.status.id, command, stdin_fd=None, stdout_fd=None, stderr_fd=None, tty=(1, 1))
        said["with a terminal"] = f"ran: {session.pid}"
        await session.wait()
        canary.hear(os.read(session.tty_fd, 65536))
        os.close(session.tty_fd)
    except (ContainerError, SpawnError) as error:
        said["with a terminal"] = str(error)
    return said


@pytest.mark.attack(row=1)
@pytest.mark.vm
@pytest.mark.parametrize("kind", ["folder", "folder above", "program"])
def test_no_descriptor_is_a_way_out_for_a_command_in_a_container_that_changes_its_folder(
    node: AttackedNode, canary: Canary, kind: str
) -> None:
    """The folder is a link by the time of the command, launched, forked after that has failed, and with a terminal."""
    outside = str(busybox.find_busybox())

    async def attack(runtime: Runtime, containers: dict[str, Container]) -> None:
        one = containers["c"]
        swapped = Swapped(one.status.pid)
        ran = await said_by(runtime, one, ("true",), canary)
        assert "no such file" in ran["to its end"], "the folder is there still"
        for n in NUMBERS:
            swapped.link_to("/tmp" if kind == "program" else held(n) + ("/../.." if kind == "folder above" else ""))
            program = f"{held(n)}{UP}{outside}" if kind == "program" else "/bin/sh"
            arguments = ("echo", "escaped") if kind == "program" else ("-c", look(canary))
            for way, words in (await said_by(runtime, one, (program, *arguments), canary)).items():
                assert any(text in words for text in REFUSED), (n, way, words)
        swapped.link_to("/tmp")
        ran = await said_by(runtime, one, ("/bin/sh", "-c", "readlink /proc/self/cwd"), canary)
        assert ran["to its end"] == "ran: b'/tmp\\n'", "nothing was attacked: commands do not begin in /w"
        swapped.close()

    victim = container("c", SLEEP, workingDir="/w")
    node("run", "-d", "--timeout", "20s", "-", input=manifest(pod("p", victim)))
    in_own_runtime(node, attack)


@pytest.mark.attack(row=1)
@pytest.mark.parametrize(
    ("hook", "numbers", "sign"),
    [
        ("postStart", range(4, 7), "FailedPostStartHook"),  # one after the other
        ("preStop", range(3, 19), "FailedPreStopHook"),
        ("readinessProbe", range(3, 19), "chdir /w"),
    ],
)
def test_no_descriptor_is_a_way_out_for_hooks_and_probes(
    node: AttackedNode, canary: Canary, hook: str, numbers: range, sign: str
) -> None:
    """In containers that exchange their folder at once, one for each number; what they see is in their logs."""
    seen = {"exec": {"command": ["/bin/sh", "-c", f"{{ {look(canary)}; }} > /proc/1/fd/1; echo seen > /proc/1/fd/1"]}}
    fields: dict[str, Any] = {"lifecycle": {hook: seen}} if hook != "readinessProbe" else {
        hook: {**seen, "periodSeconds": 1, "failureThreshold": 1000}
    }  # fmt: skip
    victims = [
        container(f"c{n}", f"cd /; rmdir /w; ln -s {held(n)}{UP} /w; {SLEEP}", workingDir="/w", **fields)
        for n in numbers
    ]
    node("run", "-d", "--until", "running", "--timeout", "20s", "-", input=manifest(pod("p", *victims)), check=False)
    if hook == "preStop":
        node("delete", "pod", "p")

    def refusals() -> list[str]:
        return [line for line in node("events").stdout.splitlines() if sign in line]

    wait_for(lambda: len(refusals()) > 0)


@pytest.mark.attack(row=1)
@pytest.mark.vm
def test_no_magic_link_is_a_way_to_a_program(node: AttackedNode, canary: Canary) -> None:
    """/proc/self/exe is the runtime's own when it is resolved; the others would lead inside."""
    programs = ("/proc/self/exe", "/proc/self/root/bin/busybox", "/proc/self/cwd/bin/busybox")
    starts = [{**container(f"s{i}"), "command": [path, "echo"]} for i, path in enumerate(programs)]
    node("run", "-d", "--timeout", "20s", "-", input=manifest(pod("p", container("c", SLEEP), *starts)), check=False)
    said = said_of(node)
    assert ["a magic link of /proc" in said[f"s{i}"] for i in range(len(programs))] == [True] * len(programs), said

    async def attack(runtime: Runtime, containers: dict[str, Container]) -> None:
        for path in programs:
            for way, words in (await said_by(runtime, containers["c"], (path, "echo"), canary)).items():
                assert "a magic link of /proc" in words, (path, way, words)

    in_own_runtime(node, attack)


# ---- links of /proc to another process' root or folder


@pytest.mark.attack(row=1)
@pytest.mark.vm
@pytest.mark.parametrize("sharing", ["hostPID", "shareProcessNamespace"])
def test_the_root_of_a_process_that_a_container_sees_is_no_way_out(
    node: AttackedNode, canary: Canary, sharing: str
) -> None:
    places = ["/proc/1/root", "/proc/1/cwd", "/proc/self/root", "/proc/self/cwd", "/proc/self/task/1/root"]
    starts = [container(f"s{i}", "echo escaped", workingDir=place) for i, place in enumerate(places)]
    sibling = container("sibling", SLEEP)
    victim = container("c", SLEEP, workingDir="/w")
    spec: dict[str, Any] = {sharing: True}
    made = pod("p", sibling, victim, *starts, **spec)
    node("run", "-d", "--timeout", "20s", "-", input=manifest(made), check=False)
    said = said_of(node)
    assert [name for name, why in said.items() if "StartError" in why] == [f"s{i}" for i in range(len(places))]
    assert [place for i, place in enumerate(places) if place not in said[f"s{i}"]] == [], said

    async def attack(runtime: Runtime, containers: dict[str, Container]) -> None:
        one, other = containers["c"], containers["sibling"].status.pid
        inside = str(other) if sharing == "hostPID" else _pid_inside(other)
        swapped = Swapped(one.status.pid)
        for place in (*places, f"/proc/{inside}/root", f"/proc/{inside}/cwd", f"/proc/{inside}/root/tmp"):
            swapped.link_to(place)
            for way, words in (await said_by(runtime, one, ("/bin/sh", "-c", look(canary)), canary)).items():
                assert any(text in words for text in (*REFUSED, "permission denied")), (place, way, words)
        swapped.close()

    in_own_runtime(node, attack)


def _pid_inside(pid: int) -> str:
    """In the innermost PID namespace."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("NSpid:")]
    return line.split()[-1]


# ---- and what a cluster's containers may do


@pytest.mark.attack(row=1)
@pytest.mark.vm
def test_a_folder_that_only_root_may_enter_is_a_users_working_directory(node: AttackedNode, evil: EvilImages) -> None:
    """Images with WORKDIR /root run as another user on a cluster (runc enters it with root's rights)."""
    image = evil(
        "private", folder("root", mode=0o700), folder("root/in", mode=0o700), config={"WorkingDir": "/root/in"}
    )
    user = {"runAsUser": 1000, "runAsGroup": 1000}
    node("run", "-d", "--timeout", "20s", "-",
         input=manifest(pod("p", container("c", f"pwd; {SLEEP}", image=image, securityContext=user))))  # fmt: skip
    wait_for(lambda: node("logs", "p").stdout != "")
    assert node("logs", "p").stdout == "/root/in\n"
    for options in ((), ("-t",)):
        done = node(
            "exec", *options, "p", "--", "/bin/sh", "-c", "/bin/pwd; ls /root; id -u; grep CapEff /proc/self/status"
        )
        assert sorted(line.strip() for line in (done.stdout + done.stderr).splitlines()) == [
            "/root/in", "1000", "CapEff:\t0000000000000000", "ls: can't open '/root': Permission denied",
        ]  # fmt: skip


@pytest.mark.attack(row=1)
@pytest.mark.parametrize("options", [(), ("-t",)], ids=["launched", "forked"])
def test_a_working_directory_that_is_gone_is_an_error_of_the_command(
    node: AttackedNode, options: tuple[str, ...]
) -> None:
    victim = container("c", f"cd /; rmdir /w; {SLEEP}", workingDir="/w")
    node("run", "-d", "--timeout", "20s", "-", input=manifest(pod("p", victim)))
    done = node("exec", *options, "p", "--", "true", check=False)
    assert done.returncode != 0
    assert "chdir /w" in done.stderr + done.stdout
    assert "no such file or directory" in done.stderr + done.stdout
