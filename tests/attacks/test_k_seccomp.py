"""Section K: holes of the kernel that a filter keeps out of reach, by each of x86's sets of numbers (rows 55 to 57)."""

from __future__ import annotations

import errno
import os
import platform
import re
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.attacks.abi import AbiCall, i386, program_of, x32, x86_64
from tests.attacks.conftest import AttackedNode
from tests.attacks.evil import EvilImages
from tests.builders import Object, container, manifest, pod
from tests.layouts import entry
from tests.volume_pods import wait_for

x86_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="three sets of numbers are x86's")

AF_UNIX, SOCK_STREAM, SOCK_SEQPACKET = 1, 1, 5
AF_ALG, AF_VSOCK = 38, 40
UPPER = (1 << 32, 1 << 63, 0xFFFFFFFF << 32)
SYS_SOCKET, SYS_SOCKETPAIR = 1, 8
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
CLONE_NEWUSER = 0x10000000


def socketcall(family: int) -> tuple[int, bytes]:
    """The arguments of i386's socketcall(SYS_SOCKET, …): the family lies in memory."""
    return SYS_SOCKET, struct.pack("<III", family, SOCK_SEQPACKET, 0)


#: row 55; the kernel itself would answer EAFNOSUPPORT or a descriptor, EBADF for a terminal
SOCKETS_64: list[AbiCall] = [
    x86_64("getpid", 39, fails_with=None),
    x86_64("socket unix", 41, AF_UNIX, SOCK_STREAM, 0, fails_with=None),
    x86_64("socket unix, upper half", 41, 1 << 32 | AF_UNIX, SOCK_STREAM, 0, fails_with=None),
    *(x86_64(f"socket {family}", 41, family, SOCK_SEQPACKET, 0) for family in (AF_ALG, AF_VSOCK)),
    *(x86_64(f"socket {up | AF_ALG:#x}", 41, up | AF_ALG, SOCK_SEQPACKET, 0) for up in UPPER),
    *(x86_64(f"socket {up | AF_VSOCK:#x}", 41, up | AF_VSOCK, SOCK_STREAM, 0) for up in UPPER),
    *(x86_64(f"socketpair {up | AF_ALG:#x}", 53, up | AF_ALG, SOCK_SEQPACKET, 0, bytes(8)) for up in (0, *UPPER)),
    *(x86_64(f"ioctl {up | TIOCSTI:#x}", 16, -1, up | TIOCSTI, b"x") for up in (0, *UPPER)),
    *(x86_64(f"ioctl {up | TIOCLINUX:#x}", 16, -1, up | TIOCLINUX, b"x") for up in (0, *UPPER)),
    *(x32(f"socket {family}", 41, family, SOCK_SEQPACKET, 0) for family in (AF_UNIX, AF_ALG, AF_VSOCK)),
]
SOCKETS_32: list[AbiCall] = [
    i386("getpid", 20, fails_with=None),
    i386("socket unix", 359, AF_UNIX, SOCK_STREAM, 0, fails_with=None),
    *(i386(f"socket {family}", 359, family, SOCK_SEQPACKET, 0) for family in (AF_ALG, AF_VSOCK)),
    *(i386(f"socketpair {family}", 360, family, SOCK_SEQPACKET, 0, bytes(8)) for family in (AF_ALG, AF_VSOCK)),
    *(
        i386(f"socketcall {family}", 102, *socketcall(family), fails_with=errno.ENOSYS)
        for family in (AF_ALG, AF_VSOCK, AF_UNIX)
    ),
    i386("socketcall socketpair", 102, SYS_SOCKETPAIR, struct.pack("<III", AF_ALG, 5, 0), fails_with=errno.ENOSYS),
    i386("ioctl TIOCSTI", 54, -1, TIOCSTI, b"x"),
]
#: row 56: name, x86_64's number, i386's, arguments
REFUSED: list[tuple[str, int, int, tuple[int | bytes, ...]]] = [
    ("keyctl", 250, 288, (0, -3, 0)), ("add_key", 248, 286, (b"user\0", b"x\0", b"x", 1, -3)),
    ("request_key", 249, 287, (b"user\0", b"x\0", 0, -3)), ("userfaultfd", 323, 374, (1,)),
    ("io_uring_setup", 425, 425, (1, bytes(120))), ("unshare user", 272, 310, (CLONE_NEWUSER,)),
    ("unshare time", 272, 310, (0x80,)), ("unshare nothing", 272, 310, (0,)), ("setns", 308, 346, (-1, 0)),
    ("clone user", 56, 120, (CLONE_NEWUSER | 17, 0, 0, 0, 0)), ("mount", 165, 21, (0, 0, 0, 0, 0)),
    ("umount2", 166, 52, (0, 0)), ("pivot_root", 155, 217, (0, 0)), ("fsopen", 430, 430, (b"cgroup\0", 0)),
    ("fsconfig", 431, 431, (-1, 0, 0, 0, 0)), ("fsmount", 432, 432, (-1, 0, 0)),
    ("open_tree", 428, 428, (-1, b".\0", 1)), ("move_mount", 429, 429, (-1, b"\0", -1, b"\0", 0)),
    ("mount_setattr", 442, 442, (-1, b"\0", 0, 0, 0)), ("bpf", 321, 357, (99, 0, 0)),
    ("perf_event_open", 298, 336, (0, 0, -1, -1, 0)), ("kexec_load", 246, 283, (0, 0, 0, 0)),
    ("open_by_handle_at", 304, 342, (-1, 0, 0)), ("init_module", 175, 128, (0, 0, 0)),
    ("finit_module", 313, 350, (-1, 0, 0)), ("personality ADDR_NO_RANDOMIZE", 135, 136, (0x40000,)),
    ("personality READ_IMPLIES_EXEC", 135, 136, (0x400008,)), ("swapon", 167, 87, (0, 0)),
    ("reboot", 169, 88, (0, 0, 0, 0)), ("sethostname", 170, 74, (b"x", 1)), ("iopl", 172, 110, (3,)),
    ("ioperm", 173, 101, (0, 1, 1)), ("quotactl", 179, 131, (0, 0, 0, 0)), ("acct", 163, 51, (0,)),
    ("settimeofday", 164, 79, (0, 0)), ("fanotify_init", 300, 338, (0, 0)), ("mbind", 237, 274, (0, 0, 0, 0, 0)),
    ("lsm_list_modules", 461, 461, (0, 0, 0)),
]  # fmt: skip
KERNEL_64: list[AbiCall] = [
    x86_64("personality", 135, 0xFFFFFFFF, fails_with=None),
    *(x86_64(name, number, *arguments) for name, number, _, arguments in REFUSED),
    *(x86_64(f"{up:#x} and clone user", 56, up | CLONE_NEWUSER | 17, 0, 0, 0, 0) for up in UPPER),
    x86_64("clone3", 435, struct.pack("<11Q", CLONE_NEWUSER, *[0] * 10), 88, fails_with=errno.ENOSYS),
    x86_64("unheard of", 600, fails_with=errno.ENOSYS),
    *(x32(name, number, *arguments) for name, number, _, arguments in REFUSED),
    x32("getpid", 39),
]
KERNEL_32: list[AbiCall] = [
    *(i386(name, number, *arguments) for name, _, number, arguments in REFUSED),
    i386("clone3", 435, bytes(88), 88, fails_with=errno.ENOSYS),
]
#: what is made: (calls, bits of the program)
PROGRAMS = {
    "sockets": (SOCKETS_64, 64), "sockets, int 0x80": (SOCKETS_32, 64), "sockets, 32 bits": (SOCKETS_32, 32),
    "kernel": (KERNEL_64, 64), "kernel, int 0x80": (KERNEL_32, 64), "kernel, 32 bits": (KERNEL_32, 32),
}  # fmt: skip
FILES = {name: f"/calls-{number}" for number, name in enumerate(PROGRAMS)}


def said(name: str, status: int) -> str:
    """The exit status of a program in words."""
    calls, _ = PROGRAMS[name]
    return "" if status == 0 else f"{name}: {calls[status - 1].what if status <= len(calls) else status}"


def image_of(evil: EvilImages) -> str:
    return evil("calls", *(entry(FILES[name], program_of(*made), mode=0o755) for name, made in PROGRAMS.items()))


#: runs all of them, prints "status file" for each, and fails where one did
ALL = "; ".join(
    ["bad=0", *(f"{file}; s=$?; echo $s {file}; [ $s = 0 ] || bad=$s" for file in FILES.values()), "exit $bad"]
)


def failures(output: str) -> list[str]:
    """What was let through, of the output of `ALL`."""
    found = dict(line.split()[::-1] for line in output.splitlines() if re.fullmatch(r"\d+ /calls-\d", line))
    assert found.keys() == {*FILES.values()}, f"not all programs ran: {output}"
    return [words for name, file in FILES.items() if (words := said(name, int(found[file])))]


@pytest.mark.attack(row=55)
@pytest.mark.attack(row=56)
@x86_only
@pytest.mark.vm
@pytest.mark.parametrize(
    "context",
    [
        {},
        {"seccompProfile": {"type": "RuntimeDefault"}},
        {"allowPrivilegeEscalation": False},
        {"runAsUser": 1000, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    ],
    ids=["nothing", "RuntimeDefault", "no_new_privs", "restricted"],
)
def test_no_set_of_numbers_gets_past_the_filter(node: AttackedNode, evil: EvilImages, context: Object) -> None:
    each = container("c", ALL, image=image_of(evil), securityContext=context)
    done = node("run", "-", input=manifest(pod("p", each)), check=False)
    assert failures(done.stdout) == []
    assert done.returncode == 0


@pytest.mark.attack(row=55)
@pytest.mark.attack(row=56)
@x86_only
def test_without_the_filter_the_programs_reach_the_kernel_by_each_set_of_numbers(
    node: AttackedNode, evil: EvilImages
) -> None:
    """What the test above is worth: the same programs, Unconfined."""
    unconfined = {"seccompProfile": {"type": "Unconfined"}}
    each = container("c", ALL, image=image_of(evil), securityContext=unconfined)
    assert len(failures(node("run", "-", input=manifest(pod("p", each)), check=False).stdout)) == len(PROGRAMS)


@pytest.mark.attack(row=55)
@pytest.mark.attack(row=56)
@x86_only
@pytest.mark.vm
def test_the_filter_holds_for_init_exec_probes_hooks_and_ephemeral_containers(
    node: AttackedNode, evil: EvilImages
) -> None:
    """Each of them runs all programs; where one is let through, the pod does not become ready, or exec says which."""
    image = image_of(evil)
    command = {"exec": {"command": ["sh", "-c", ALL]}}
    main = container(
        "c", "trap 'exit 0' TERM; sleep 1000 & wait", image=image,
        lifecycle={"postStart": command},
        startupProbe={**command, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 20},
        readinessProbe={**command, "periodSeconds": 1, "timeoutSeconds": 20},
    )  # fmt: skip
    node("run", "-d", "--until", "ready", "-", input=manifest(pod("p", main, init=[container("i", ALL, image=image)])))
    for options in ((), ("-t",)):
        done = node("exec", *options, "p", "--", "sh", "-c", ALL, check=False)
        assert failures(done.stdout.replace("\r", "")) == []
    node("debug", "p", "--image", image, "-c", "d", "--attach=false", "--", "sh", "-c", ALL)
    wait_for(lambda: ended(node, "d") is not None)
    assert failures(node("logs", "p", "-c", "d").stdout) == []
    assert failures(node("logs", "p", "-c", "i").stdout) == []
    assert ended(node, "d") == 0


def ended(node: AttackedNode, name: str) -> int | None:
    statuses: Sequence[Object] = node.pod("p")["status"].get("ephemeralContainerStatuses", [])  # type: ignore[attr-defined]
    states = [status["state"].get("terminated") for status in statuses if status["name"] == name]
    return states[0]["exitCode"] if states and states[0] else None


@pytest.mark.attack(row=56)
@x86_only
def test_a_capability_opens_its_own_calls_and_no_socket(node: AttackedNode, evil: EvilImages) -> None:
    added = {"capabilities": {"add": ["SYS_ADMIN", "NET_ADMIN"]}}
    sockets = [FILES[name] for name in PROGRAMS if name.startswith("sockets")]
    each = container("c", " && ".join([*sockets, "unshare -m true"]), image=image_of(evil), securityContext=added)
    assert node("run", "-", input=manifest(pod("p", each)), check=False).returncode == 0


@pytest.mark.attack(row=57)
@pytest.mark.vm
def test_no_file_of_the_host_s_programs_is_in_a_pod(node: AttackedNode) -> None:
    """A write to page cache reaches whoever else maps the same inode: the host's programs must have others."""
    script = "trap 'exit 0' TERM; sleep 1000 & wait"
    shared = pod("p", container("a", script), container("b", script), shareProcessNamespace=True)
    node("run", "-d", "--until", "ready", "-", input=manifest(shared))
    listing = r"""
        for d in / $(sed 's/^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\) .*/\1/' /proc/self/mountinfo); do
            case $d in /proc*|/sys*) ;; *) find $d -xdev -type f -exec stat -c '%i %s' {} + ;; esac
        done"""
    inside = {line for line in node("exec", "p", "-c", "a", "--", "sh", "-c", listing).stdout.splitlines() if line}
    assert len(inside) > 3
    programs = [*host_programs()]
    assert len(programs) > 5
    shown = {f"{os.stat(path).st_ino} {os.stat(path).st_size}": path for path in programs}
    assert not {shown[one] for one in inside & shown.keys()}


@pytest.mark.attack(row=57)
@pytest.mark.vm
def test_no_process_of_a_pod_runs_or_maps_a_file_of_the_host(node: AttackedNode) -> None:
    script = "trap 'exit 0' TERM; sleep 1000 & wait"
    shared = pod("p", container("a", script), shareProcessNamespace=True)
    node("run", "-d", "--until", "ready", "-", input=manifest(shared))
    files = {(found.st_dev, found.st_ino) for found in map(os.stat, host_programs())}
    pids = pids_of(node)
    assert len(pids) >= 2, "the pause program and the shell"
    for pid in pids:
        mapped = [line.split(maxsplit=5) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
        inodes = {int(fields[4]) for fields in mapped if len(fields) > 5}
        assert not inodes & {inode for _, inode in files}, mapped
        exe = os.stat(f"/proc/{pid}/exe")
        assert (exe.st_dev, exe.st_ino) not in files


def pids_of(node: AttackedNode) -> list[int]:
    """The host's numbers of the processes that are in a PID namespace of the node's pods."""
    inside = node("exec", "p", "--", "readlink", "/proc/self/ns/pid").stdout.strip()
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") == inside:
                found.append(pid)
        except OSError:  # it has ended
            continue
    return found


def host_programs() -> set[Path]:
    """The interpreter and its libraries, minipod's own code, and the programs it calls."""
    import minipod

    maps = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    mapped = {Path(fields[5]) for fields in maps if len(fields) > 5 and fields[5].startswith("/")}
    own = set(Path(minipod.__file__).parent.rglob("*.py"))
    named = {Path(name).resolve() for name in ("/bin/sh", "/bin/busybox", "/usr/bin/mount", "/usr/bin/tar")}
    return {path for path in mapped | own | named if path.is_file()}
