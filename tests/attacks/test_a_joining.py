"""Row 2 of the catalogue: a process that joins a container, seized before it has become the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import ContainerError
from minipod.kernel import launcher
from minipod.kernel.launcher import Call
from minipod.plan.process.security import CAPABILITIES
from minipod.runtime.container import Container
from minipod.runtime.runtime import Runtime
from tests.attacks.canary import Canary
from tests.attacks.conftest import AttackedNode
from tests.attacks.evil import EvilImages, program
from tests.builders import container, host_path, manifest, mount, pod
from tests.layouts import entry
from tests.own_runtime import in_own_runtime
from tests.volume_pods import wait_for

ROUNDS = 100
#: Seizes each process the moment it has a pid here, by trying the next ones without end, and looks at all that it has.
WATCH = """
import ctypes, json, os, sys, time
seizes, forged = sys.argv[1] == "seize", sys.argv[2]
libc = ctypes.CDLL(None)
ptrace, waitpid = libc.ptrace, libc.waitpid
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_long]
SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000

def text(path):
    try:
        return open(path, "rb").read(1 << 16).decode(errors="replace")
    except OSError:
        return ""

def link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""

def look(pid):
    proc = f"/proc/{pid}"
    status = dict(line.split(":\\t", 1) for line in text(proc + "/status").splitlines() if ":\\t" in line)
    try:
        fds = {n: link(f"{proc}/fd/{n}") for n in os.listdir(proc + "/fd")}
    except OSError:
        fds = {}
    ways = [f"{proc}/root", f"{proc}/cwd", *(f"{proc}/fd/{n}" for n in fds)]
    found = [text(f"{way}{up}{sys.argv[3]}") for way in ways for up in ("", "/.." * 8)]
    return {
        "pid": pid, "status": status, "fds": fds, "root": link(proc + "/root"), "cwd": link(proc + "/cwd"),
        "exe": link(proc + "/exe"), "comm": text(proc + "/comm").strip(), "environ": text(proc + "/environ"),
        "cmdline": text(proc + "/cmdline"), "mountinfo": text(proc + "/mountinfo"), "found": "".join(found),
        "maps": text(proc + "/maps"),
    }

def report(pid):
    if forged != "0":
        fd = libc.syscall(438, os.pidfd_open(pid), 3, 0)  # pidfd_getfd
        if fd >= 0:
            try:
                os.write(fd, int(forged).to_bytes(8, "little") + bytes(8))
                print("forged", flush=True)
            except OSError:
                pass
            os.close(fd)

print("ready", flush=True)
last = os.getpid()
while True:
    for pid in range(last + 1, last + 50):
        if seizes:
            if ptrace(SEIZE, pid, 0, 0) != 0:
                continue
            ptrace(INTERRUPT, pid, 0, 0)
            waitpid(pid, None, WALL)
            seen = look(pid)
            report(pid)
            ptrace(DETACH, pid, 0, 0)
        else:
            if not text(f"/proc/{pid}/mountinfo"):
                continue
            seen = look(pid)
        last = pid
        print(json.dumps(seen), flush=True)
        break
"""
KEPT = {"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
        "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}  # fmt: skip
SEIZERS = {"SYS_PTRACE"} | KEPT


def watcher(canary: Canary, *, seizes: bool, forged: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A container with the host's Python, read-only, and the volumes it takes."""
    folders = {"usr": "/usr", "lib": "/lib", "lib64": "/lib64", "python": sys.base_prefix}
    volumes = [host_path(name, path) for name, path in folders.items() if Path(path).exists()]
    mounts = [mount(one["name"], folders[one["name"]], readOnly=True) for one in volumes]
    mounts = list({one["mountPath"]: one for one in mounts}.values())
    python = os.path.realpath(sys.executable)
    made = {
        **container("c", securityContext={"capabilities": {"add": ["SYS_PTRACE"]}} if seizes else {}),
        "command": [python, "-ISBc", WATCH, "seize" if seizes else "look", str(forged), str(canary.file)],
        "volumeMounts": mounts,
    }
    names = {one["name"] for one in mounts}
    return made, [one for one in volumes if one["name"] in names]


def sightings(node: AttackedNode) -> list[dict[str, Any]]:
    lines = node("logs", "p", "-c", "c").stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def is_not_yet_the_command(seen: dict[str, Any]) -> bool:
    """The launcher's name is its descriptor's number, a fork's the spawner's."""
    return bool(seen["comm"].isdigit() or seen["comm"].startswith("minipod"))


def faults(seen: dict[str, Any], node: AttackedNode, capabilities: set[str]) -> list[str]:
    """What of the host's a process that was caught had."""
    allowed = sum(1 << CAPABILITIES.index(name) for name in capabilities)
    found = []
    status = seen["status"]
    for key in ("CapPrm", "CapEff", "CapBnd"):
        if int(status.get(key, "0"), 16) & ~allowed:
            found.append(f"{key} {status[key]}")
    for number, target in seen["fds"].items():
        known = ("pipe:", "socket:", "/dev/null", "/dev/pts/", "anon_inode:[pidfd]")
        # its own root, and the program, which is looked at before it is executed
        if not target.startswith(known) and target not in ("/", "", "/bin/true"):
            found.append(f"fd {number} {target}")
    if seen["cwd"] not in ("/", "") or seen["root"] not in ("/", ""):
        found.append(f"cwd {seen['cwd']} root {seen['root']}")
    points = [line.split()[4] for line in seen["mountinfo"].splitlines()]
    found += [f"mount {point}" for point in points if point.startswith((node.paths.root, node.paths.state))]
    for what in ("MINIPOD_", "PYTHONPATH", node.paths.root):
        if what in seen["environ"] or what in seen["cmdline"]:
            found.append(f"environ or cmdline with {what}")
    return found


async def commands(runtime: Runtime, one: Container, rounds: int = ROUNDS) -> None:
    """By launching and by forking, with a terminal."""
    for number in range(rounds):
        found = await runtime.exec_sync(one.status.id, ("/bin/true",), 10)
        assert found.exit_code == 0
        if number % 5 == 0:
            tty = (24, 80)
            runtime._execs._can_launch = False  # forked it takes long enough to be caught
            session = await runtime.exec(
                one.status.id, ("/bin/true",), stdin_fd=None, stdout_fd=None, stderr_fd=None, tty=tty
            )
            await session.wait()
            os.close(session.tty_fd)
            runtime._execs._can_launch = True


@pytest.mark.attack(row=2)
@pytest.mark.parametrize("kind", ["seized", "looked at"])
def test_a_command_that_a_container_catches_as_it_comes_has_nothing_of_the_hosts(
    node: AttackedNode, canary: Canary, kind: str
) -> None:
    """CVE-2016-9962, with SYS_PTRACE and without: 100 commands and 20 with a terminal, when they come."""
    attacker, volumes = watcher(canary, seizes=kind == "seized")
    node("run", "-d", "--timeout", "20s", "-", input=manifest(pod("p", attacker, volumes=volumes)))
    wait_for(lambda: "ready" in node("logs", "p").stdout)

    async def attack(runtime: Runtime, containers: dict[str, Container]) -> None:
        await commands(runtime, containers["c"])

    in_own_runtime(node, attack)
    seen = sightings(node)
    early = [one for one in seen if is_not_yet_the_command(one)]
    assert len(early) > 5, (len(seen), "nothing was caught before it was the command")
    allowed = SEIZERS if kind == "seized" else KEPT
    assert [fault for one in seen for fault in faults(one, node, allowed)] == []


@pytest.mark.attack(row=2)
def test_a_command_that_a_container_seizes_reports_no_other_process_as_itself(
    node: AttackedNode, canary: Canary
) -> None:
    """Its time is up, and it is killed: not whoever the container has named."""
    host = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    attacker, volumes = watcher(canary, seizes=True, forged=host.pid)
    node("run", "-d", "--timeout", "20s", "-", input=manifest(pod("p", attacker, volumes=volumes)))
    wait_for(lambda: "ready" in node("logs", "p").stdout)

    async def attack(runtime: Runtime, containers: dict[str, Container]) -> None:
        for _ in range(10):
            try:
                await runtime.exec_sync(containers["c"].status.id, ("/bin/sleep", "100"), 0.3)
            except (TimeoutError, ContainerError):
                pass

    try:
        in_own_runtime(node, attack)
        assert "forged" in node("logs", "p").stdout, "nothing was seized"
        assert host.poll() is None, "a process of the host's was killed"
    finally:
        host.send_signal(signal.SIGKILL)
        host.wait()


@pytest.mark.attack(row=2)
def test_what_a_container_sees_of_siblings_that_start_and_of_the_pause_process_is_the_pods(
    node: AttackedNode, canary: Canary
) -> None:
    """shareProcessNamespace: a sibling that ends and starts again, hooks, a probe, `debug --target`."""
    attacker, volumes = watcher(canary, seizes=True)
    true = {"exec": {"command": ["/bin/true"]}}
    sibling = container("s", "sleep 0.3", lifecycle={"postStart": true}, readinessProbe={**true, "periodSeconds": 1})
    made = pod("p", attacker, sibling, volumes=volumes, shareProcessNamespace=True, restartPolicy="Always")
    node("run", "-d", "--until", "running", "--timeout", "20s", "-", input=manifest(made))
    node("debug", "p", "--image", "busybox", "--target", "s", "--", "true", check=False)
    wait_for(lambda: len([one for one in sightings(node) if is_not_yet_the_command(one)]) >= 2, 12)
    assert [fault for one in sightings(node) for fault in faults(one, node, SEIZERS)] == []


# ---- the passage through a filter of the user's


@pytest.mark.attack(row=2)
@pytest.mark.vm
def test_a_profile_that_refuses_what_is_left_to_do_lets_commands_in_and_nobody_else(
    node: AttackedNode, evil: EvilImages
) -> None:
    """The calls that follow the filter carry a cookie; a program in the container that guesses one is refused."""
    rule = {"names": ["clone", "setsid", "ioctl", "openat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    profile = Path(node.paths.state, "seccomp", "p.json")
    profile.parent.mkdir(exist_ok=True)
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    cookies = (0, 1, 2**63, 2**64 - 1)
    guesses = [Call("clone", (signal.SIGCHLD | 0x8000, 0, 0, 0, cookie), then=2, otherwise=1) for cookie in cookies]
    image = evil(
        "guess", entry("guess", program(*guesses, Call("exit_group", (0,)), Call("exit_group", (9,))), mode=0o755)
    )
    security = {"seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}}
    sleeper = {**container("c", image=image, securityContext=security, readinessProbe={
        "exec": {"command": ["/bin/true"]}, "periodSeconds": 1}), "command": ["/bin/sleep", "1000"]}  # fmt: skip
    assert launcher.is_known()
    node("run", "-d", "--until", "ready", "--timeout", "20s", "-", input=manifest(pod("p", sleeper)))
    assert node("exec", "p", "--", "/bin/echo", "launched").stdout == "launched\n"
    assert "forked" in node("exec", "-t", "p", "--", "/bin/echo", "forked").stdout
    assert node("exec", "p", "--", "/guess", check=False).returncode == 0
    assert node("exec", "p", "--", "/bin/setsid", "/bin/true", check=False).returncode != 0
