"""Section A of the catalogue: commands in containers, the descriptors that they hold, terminals, environment."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import minipod
from minipod.kernel.launcher import Call
from minipod.runtime.images.busybox import PT_INTERP
from tests.attacks.canary import Canary
from tests.attacks.conftest import AttackedNode
from tests.attacks.evil import AT_FDCWD, EvilImages, program
from tests.builders import container, manifest, pod
from tests.layouts import Entry, entry, symlink
from tests.spawner_host import spawner_of
from tests.terminals import Terminal
from tests.volume_pods import wait_for

SLEEP = "exec sleep 100000"
TIOCSTI, TIOCLINUX = 0x5412, 0x541C


def starting(name: str, *command: str, **fields: Any) -> dict[str, Any]:
    """A container that runs a program, no shell."""
    made = container(name, **fields)
    return {**made, "command": list(command)}


def start(node: AttackedNode, *containers: dict[str, Any], **spec: Any) -> None:
    node("run", "-d", "--timeout", "20s", "-", input=manifest(pod("p", *containers, **spec)))


def inside(node: AttackedNode, script: str, *options: str) -> str:
    done = node("exec", *options, "p", "--", "sh", "-c", script, check=False)
    return done.stdout + done.stderr


def spawner_pid(node: AttackedNode) -> int:
    """The parent of all containers."""
    agent = node.agent_pid()
    assert agent is not None
    return int(spawner_of(agent).pid)


# ---- 3. the runtime's own program


def loader() -> str:
    """What the kernel starts for the interpreter (PT_INTERP): an image may bring its own."""
    data = Path(os.path.realpath(sys.executable)).read_bytes()
    table, size, count = struct.unpack_from("<32xQ14xHH", data)  # Elf64_Ehdr: e_phoff, e_phentsize, e_phnum
    for place in range(table, table + size * count, size):
        kind, offset, length = struct.unpack_from("<I4xQ16xQ", data, place)  # Elf64_Phdr: p_type, p_offset, p_filesz
        if kind == PT_INTERP:
            return data[offset : offset + length].decode().strip("/\0")
    raise AssertionError(f"{sys.executable} is linked statically")


def thief() -> Entry:
    """As the image's dynamic loader: it takes hold of the program that loads it, and tries to change it.

    To the mode that it has: opening it for writing is ETXTBSY as long as it runs anywhere, whatever protects it. The
    first descriptor is only there to be the launcher's own.
    """
    script = b"echo held; chmod 755 /proc/self/fd/4"
    return entry(
        loader(),
        program(
            Call("openat", (AT_FDCWD, b"/\0", os.O_PATH)),
            Call("openat", (AT_FDCWD, b"/proc/self/exe\0", os.O_RDONLY)),
            Call("execve", (b"/bin/busybox\0", (b"sh", b"-c", script), (b"PATH=/bin",))),
        ),
        mode=0o755,
    )


@pytest.mark.attack(row=3)
@pytest.mark.vm
@pytest.mark.parametrize("options", [(), ("-t",)], ids=["launched", "forked"])
def test_a_program_that_takes_hold_of_the_runtimes_own_cannot_write_to_it(
    node: AttackedNode, evil: EvilImages, options: tuple[str, ...]
) -> None:
    """CVE-2019-5736: `#!/proc/self/exe` and a loader of the image's own, as its published exploit."""
    image = evil("thief", thief(), entry("evil", b"#!/proc/self/exe\n", mode=0o755), symlink("link", "/proc/self/exe"))
    own = starting("own", "/evil", image=image)
    start(node, container("c", SLEEP, image=image), own)
    wait_for(lambda: node.pod("p")["status"]["containerStatuses"][1]["state"].get("terminated"))  # type: ignore[index]
    said = node("logs", "p", "-c", "own", check=False).stdout
    for command in ("/evil", "/link"):
        done = node("exec", *options, "p", "-c", "c", "--", command, check=False)
        said += done.stdout + done.stderr
    assert "held" in said, "the attack was not reached"
    assert said.count("held") == said.count("Read-only file system")


@pytest.mark.attack(row=3)
def test_a_descriptor_of_the_spawners_program_changes_nothing(node: AttackedNode) -> None:
    """A container may keep one until nobody runs it any more: then ETXTBSY protects nothing."""
    start(node, container("c", SLEEP))
    held = os.open(f"/proc/{spawner_pid(node)}/exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with pytest.raises(OSError, match="Read-only file system"):
            os.chmod(f"/proc/self/fd/{held}", os.fstat(held).st_mode & 0o7777)
    finally:
        os.close(held)


# ---- 4. nothing of the image is loaded with the host's rights


TROJAN = b"""
with open("/trojan-ran", "a") as file:
    file.write(__name__ + "\\n" + open("/proc/self/status").read())
"""
TOOLS = ("tar", "gzip", "gunzip", "unpigz", "xz", "zstd", "nsenter", "unshare", "id", "getent", "ip", "nft", "iptables",
         "mount", "umount", "newuidmap", "ps", "kill", "cat", "cp", "ls", "test", "runc", "conmon", "git")  # fmt: skip
TROJAN_TOOL = b"#!/bin/busybox sh\necho tool >> /trojan-ran\n"


def trojans() -> Iterator[Entry]:
    """Every module of Python and of minipod at its place on the host, tools first in PATH, libraries of libc's."""
    library, package = sysconfig.get_path("stdlib"), Path(minipod.__file__).parent
    for name in sorted(sys.stdlib_module_names):
        for path in (f"{library}/{name}.py", f"{library}/{name}/__init__.py"):
            yield entry(path.lstrip("/"), TROJAN)
    for name in os.listdir(f"{library}/encodings"):
        if name.endswith(".py"):
            yield entry(f"{library}/encodings/{name}".lstrip("/"), TROJAN)
    for folder in {*map(str, sys.path), str(package.parent)} - {""}:
        for name in ("msgspec", "pyroute2", "psutil", "yaml", "sitecustomize", "usercustomize", "minipod"):
            yield entry(f"{folder}/{name}.py".lstrip("/"), TROJAN)
    for module in package.rglob("*.py"):
        yield entry(str(module).lstrip("/"), TROJAN)
    for folder in ("usr/local/sbin", "usr/local/bin"):
        for name in TOOLS:
            yield entry(f"{folder}/{name}", TROJAN_TOOL, mode=0o755)
    for folder in ("lib", "lib64", "usr/lib", "usr/lib64"):
        for name in ("libnss_files.so.2", "libnss_compat.so.2", "libnss_dns.so.2", "libgcc_s.so.1", "libc.so.6"):
            yield entry(f"{folder}/{name}", b"#! no library\n", mode=0o755)
    yield entry("trojan-ran", mode=0o666)  # in an upper folder once somebody has written to it
    yield entry("etc/ld.so.preload", b"/lib/libnss_files.so.2\n")
    yield entry("etc/nsswitch.conf", b"passwd: compat files dns\n")


@pytest.mark.attack(row=4)
def test_nothing_of_the_image_is_loaded_or_run_by_minipod_itself(
    node: AttackedNode, evil: EvilImages, tmp_path: Path
) -> None:
    """CVE-2019-14271, CVE-2014-9357, CVE-2022-1227: modules, codecs, name services, archivers of the image."""

    def written() -> list[Path]:
        return list(Path(node.paths.state, "pods").rglob("trojan-ran"))

    image = evil("trojan", *trojans(), config={"User": "nobody:users", "WorkingDir": "/var/www"})
    probe = {"exec": {"command": ["/bin/busybox", "true"]}, "periodSeconds": 1}
    hooks = {"postStart": {"exec": {"command": ["/bin/busybox", "true"]}},
             "preStop": {"exec": {"command": ["/bin/busybox", "true"]}}}  # fmt: skip
    sleep = ("/bin/busybox", "sleep", "100000")
    busy = starting("c", *sleep, image=image, readinessProbe=probe, lifecycle=hooks)
    terminal = starting("t", *sleep, image=image, tty=True, stdin=True)
    start(node, busy, terminal)
    bad = pod("bad", starting("c", "/no/such/program", image=image))
    node("run", "-d", "--timeout", "20s", "-", input=manifest(bad), check=False)
    busybox = ("p", "-c", "c", "--", "/bin/busybox")
    assert node("exec", *busybox, "id", "-un").stdout == "nobody\n"
    assert "/dev/pts/0" in node("exec", "-t", *busybox, "tty").stdout
    assert node("exec", "p", "-c", "c", "--", "nosuch", check=False).returncode == 127
    assert node("exec", "-t", "p", "-c", "c", "--", "/etc/passwd", check=False).returncode == 126
    for name in ("a.tar", "a.gz", "a.xz", "a.zst"):
        (tmp_path / name).write_bytes(b"\x1f\x8b\x08")
        node("cp", tmp_path / name, f"p:/tmp/{name}", "-c", "c")
        node("cp", f"p:/tmp/{name}", tmp_path / f"back-{name}", "-c", "c")
    node("logs", "p", "-c", "c")
    node("debug", "p", "--image", image, "--target", "c", "--", "/bin/busybox", "true", check=False)
    node("describe", "pod", "p")
    wait_for(lambda: all(one["ready"] for one in node.pod("p")["status"]["containerStatuses"]))  # type: ignore[index]
    assert written() == []
    node("exec", *busybox, "sh", "-c", "/usr/local/bin/tar")  # the trap is set
    assert [path.read_text() for path in written()] == ["tool\n"]


# ---- 5. the operator's terminal


def inject() -> Entry:
    """Pushes a character into whatever terminal it can find, at its standard streams or as /dev/tty."""
    requests = ((TIOCSTI, b"!\0"), (TIOCLINUX, b"\x03\0"))  # of a console: paste what is selected
    tries = [Call("ioctl", (fd, *request)) for fd in (0, 1, 2) for request in requests]
    found = Call("openat", (AT_FDCWD, b"/dev/tty\0", os.O_RDWR), otherwise=2)
    calls = [call._replace(otherwise=1) for call in tries]
    return entry("inject", program(*calls, found, Call("ioctl", (3, TIOCSTI, b"!\0"), otherwise=1)), mode=0o755)


@pytest.mark.attack(row=5)
@pytest.mark.vm
@pytest.mark.parametrize("options", ["", "-i", "-t", "-it"])
def test_a_command_cannot_type_into_the_operators_terminal(node: AttackedNode, evil: EvilImages, options: str) -> None:
    """CVE-2016-2779, CVE-2017-5226, CVE-2023-28100; privileged, as the kernel refuses TIOCSTI to others by itself."""
    image = evil("inject", inject())
    start(node, container("c", SLEEP, image=image, securityContext={"privileged": True}))
    with Terminal(node.command("exec", *filter(None, [options]), "p", "--", "/inject"), node.env) as terminal:
        terminal.wait()
        assert terminal.typed() == ""


@pytest.mark.attack(row=5)
def test_neither_a_foreground_pod_nor_one_that_is_attached_types_into_the_operators_terminal(
    node: AttackedNode, evil: EvilImages
) -> None:
    image = evil("inject", inject())
    script = "/inject; echo done; read line; /inject; echo over"
    attacker = container("c", script, image=image, stdin=True, tty=True, securityContext={"privileged": True})
    plain = container("c", "/inject; echo done", image=image, securityContext={"privileged": True})
    path = Path(node.paths.root, "pod.json")
    path.write_text(manifest(pod("q", plain)))
    with Terminal(node.command("run", path), node.env) as terminal:
        terminal.wait()
        assert "done" in terminal.output
        assert terminal.typed() == ""
    path.unlink()
    start(node, attacker)
    with Terminal(node.command("attach", "-it", "p"), node.env) as terminal:
        terminal.type("\n")
        terminal.wait()
        assert "over" in terminal.output
        assert terminal.typed() == ""


# ---- 6. standard streams


def run_with(node: AttackedNode, script: str, *options: str, **streams: Any) -> subprocess.CompletedProcess[bytes]:
    command = node.command("exec", *options, "p", "--", "sh", "-c", script)
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        command, env=os.environ | node.env, timeout=60, check=False, **settings
    )
    node.canary.hear((done.stdout or b"") + (done.stderr or b""))
    return done


@pytest.mark.attack(row=6)
@pytest.mark.vm
def test_a_file_of_the_host_as_a_standard_stream_is_not_in_the_containers_hands(
    node: AttackedNode, canary: Canary, tmp_path: Path
) -> None:
    start(node, container("c", SLEEP))
    change = "echo x >> /proc/self/fd/0; chmod 666 /proc/self/fd/0; chown 1 /proc/self/fd/0"
    with open(canary.give_to_read(), "rb") as file:
        run_with(node, change, "-i", stdin=file)
    folder_fd = os.open(canary.folder, os.O_RDONLY)
    done = run_with(
        node, "ls -la /proc/self/fd/0/ /proc/self/fd/0/..; cat /proc/self/fd/0/secret", "-i", stdin=folder_fd
    )
    os.close(folder_fd)
    assert canary.secret.encode() not in done.stdout
    written = tmp_path / "written"
    written.write_text("before\n")
    with open(written, "ab") as file:
        run_with(node, "timeout 1 cat /proc/self/fd/1 >&2; chmod 777 /proc/self/fd/1; echo after", stdout=file)
    assert (written.read_text(), written.stat().st_mode & 0o777) == ("before\nafter\n", 0o644)


@pytest.mark.attack(row=6)
def test_a_named_pipe_of_the_host_keeps_its_mode_and_owner(node: AttackedNode, tmp_path: Path) -> None:
    start(node, container("c", SLEEP))
    os.mkfifo(tmp_path / "fifo", 0o600)
    fd = os.open(tmp_path / "fifo", os.O_RDWR)
    run_with(node, "chmod 666 /proc/self/fd/1; chown 1 /proc/self/fd/1; echo x > /proc/self/fd/1", stdout=fd)
    os.close(fd)
    found = os.stat(tmp_path / "fifo")
    assert (found.st_mode & 0o777, found.st_uid) == (0o600, 0)


@pytest.mark.attack(row=6)
@pytest.mark.vm
def test_a_command_does_not_write_to_whoever_else_reads_its_input(node: AttackedNode) -> None:
    """`while read line; do minipod exec -i …; done`: a pipe opens for writing, too, and its next line is the loop's."""
    start(node, container("c", SLEEP))
    reading, writing = os.pipe()
    os.write(writing, b"the operator's\n")
    with open(reading, "rb", buffering=0) as file:
        done = run_with(node, "echo injected > /proc/self/fd/0", "-i", stdin=file)
        assert done.returncode == 0
        os.close(writing)
        assert b"injected" not in file.read()


@pytest.mark.attack(row=6)
def test_dev_null_as_a_standard_stream_is_not_the_hosts(node: AttackedNode) -> None:
    """`chmod 0600 /proc/self/fd/0` would leave the host without a /dev/null for anybody but root."""
    change = "for fd in 0 1 2; do chmod 0667 /proc/self/fd/$fd; done"
    start(node, container("c", f"{change}; {SLEEP}"))
    inside(node, change)
    refused = inside(node, "chmod 0667 /proc/self/fd/0")
    forked = inside(node, "exec 2>&1; chmod 0667 /nosuch /proc/self/fd/0", "-q")
    assert "Read-only file system" in refused
    assert "Read-only file system" in forked


@pytest.mark.attack(row=6)
def test_a_socket_of_the_host_as_a_standard_stream_leads_nowhere_else(node: AttackedNode) -> None:
    """A listening socket could accept; one of TCP could be connected anew, from the host's network."""
    start(node, container("c", SLEEP))
    listening = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listening.getsockname())
    accepted, _ = listening.accept()
    with listening, client, accepted:
        accepted.sendall(b"a line\n")
        accepted.shutdown(socket.SHUT_WR)
        done = run_with(node, "readlink /proc/self/fd/0; cat", "-i", stdin=client)
        assert done.stdout.startswith(b"pipe:[")
        assert done.stdout.endswith(b"a line\n")
        done = run_with(node, "readlink /proc/self/fd/0", "-i", stdin=listening)
        assert b"socket" not in done.stdout


# ---- 7. environment


SECRETS = {
    "SECRET": "s3cret-of-the-host",
    "AWS_SECRET_ACCESS_KEY": "s3cret-of-the-host",
    "SEC_MORE": "s3cret-of-the-host",
}


@pytest.mark.attack(row=7)
@pytest.mark.vm
def test_no_variable_of_the_host_reaches_a_container(
    node: AttackedNode, evil: EvilImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2026-57231: names without a value, and patterns, in an image; CVE-2020-14370: two pods of one agent."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    image = evil("env", config={"Env": ["PATH=/bin", "SECRET", "*", "SEC*", "=x", "A=\nB", "AWS_SECRET_ACCESS_KEY="]})
    look = "cat /proc/1/environ /proc/self/environ | tr '\\0' '\\n'; env; set"
    first = container(
        "c", f"export LEFT=by-the-first; {look}; {SLEEP}", image=image, env=[{"name": "ONE", "value": "1"}]
    )
    start(node, first)
    seen = inside(node, look) + inside(node, look, "-t") + node("logs", "p").stdout
    node("run", "-", input=manifest(pod("q", container("c", look, image=image))))
    second = node("run", "-", input=manifest(pod("r", container("c", look, image=image)))).stdout
    assert "s3cret" not in seen + second
    assert "PATH=/bin" in seen
    assert "ONE=" not in second
    assert "LEFT=" not in second


@pytest.mark.attack(row=7)
def test_a_variable_with_a_nul_starts_nothing_and_says_so(node: AttackedNode, evil: EvilImages) -> None:
    image = evil("nul", config={"Env": ["PATH=/bin", "A=1\0B=2"]})
    node("run", "-d", "-", input=manifest(pod("p", container("c", "env; sleep 1000", image=image))), check=False)
    wait_for(lambda: "StartError" in str(node.pod("p")["status"]) or "Error" in str(node.pod("p")["status"]))
    assert "B=2" not in node("logs", "p", check=False).stdout
