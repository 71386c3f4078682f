"""The agent's loop stands still for nothing that is slow, hung, locked or full on the host.

While each of these is there an agent with probed pods is asked for its status all the time: it answers at once, and no
probe is late. The agent's host is a network namespace of its own, so that no rule of the test reaches the real one.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import minipod
from minipod.kernel import netlink
from minipod.kernel.mount import mount, umount
from minipod.paths import Paths
from tests import leaks
from tests.hung_mount import hung_mount
from tests.network_fixtures import Namespace
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

PODS = 200 if SLOWNESS == 1 else 20
ANSWER_S = 0.1
STATE_BYTES = 96 << 20
TIMEOUT_S = 30 * SLOWNESS

LOCK = """
import fcntl, sys
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def manifest(name: str, *, volumes: str = "[]", mounts: str = "[]", port: int = 0, gated: bool = False) -> str:
    """A pod with a web server that is probed each second, by JSON's rules for YAML."""
    probe = "{tcpSocket: {port: 80}, periodSeconds: 1}"
    ports = f"[{{containerPort: 80, hostPort: {port}}}]" if port else "[]"
    gates = "[{name: test/gate}]" if gated else "[]"
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  schedulingGates: {gates}
  volumes: {volumes}
  containers:
  - {{name: main, image: busybox, command: [httpd, -f, -p, "80"], readinessProbe: {probe}, livenessProbe: {probe},
     ports: {ports}, volumeMounts: {mounts}}}
---
"""


class Host(Node):
    """A node whose network namespace, state's file system and log folder are its own."""

    def __init__(self, paths: Paths, folder: Path) -> None:
        super().__init__(paths)
        self.folder = folder
        self.namespace = Namespace()
        self.namespace(_loopback_up)

    def command(self, *args: object) -> list[str]:
        return ["nsenter", f"--net={self.namespace.path}", *super().command(*args)]

    def apply(self, name: str, text: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        file = self.folder / f"{name}.yaml"
        file.write_text(text)
        return self("apply", "-f", file, check=check)

    def run(self, name: str, text: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        file = self.folder / f"{name}.yaml"
        file.write_text(text)
        return self("run", "-d", file, check=check)


def _loopback_up() -> None:
    with netlink.Netlink() as opened:
        opened.apply([netlink.set_up(opened.index("lo"))])


@pytest.fixture(scope="module")
def host(session: leaks.Session, image_folder: str) -> Iterator[Host]:
    """With pods that are ready and probed."""
    folder = Path(tempfile.mkdtemp(prefix="mp", dir="/tmp"))
    paths = Paths(f"{folder}/r", f"{folder}/s")
    session.folders.add(str(folder))
    session.instances.add(paths.instance)
    for name in ("r", "s", "log"):
        (folder / name).mkdir()
    mount("state", paths.state, "tmpfs", 0, f"mode=755,size={STATE_BYTES}")
    os.symlink(image_folder, f"{paths.state}/images")
    os.symlink(folder / "log", f"{paths.state}/log")  # what is logged is more than the state may hold
    made = Host(paths, folder)
    try:
        file = folder / "probed.yaml"
        file.write_text("".join(manifest(f"probed-{number}") for number in range(PODS)))
        made("run", "-d", "--until", "ready", file)
        yield made
    finally:
        made.close()
        log = Path(paths.root, "agent.log").read_text(errors="replace")
        print(log)
        os.close(made.namespace.fd)
        umount(paths.state)
        subprocess.run(["rm", "-rf", folder], check=True)
    assert "can't start new thread" not in log  # RLIMIT_DATA counts their stacks


class Watch(threading.Thread):
    """Asks for the status all the time."""

    def __init__(self, host: Host) -> None:
        super().__init__(name="watch")
        self._path = host.paths.agent_socket
        self._over = threading.Event()
        self._agent = host.agent_pid()
        self.answers_s: list[float] = []  # without `waited_s`
        self.waited_s: list[float] = []  # for a processor, by the agent's threads and this one
        self.status: list[dict[str, object]] = []

    def run(self) -> None:
        while not self._over.is_set() or len(self.status) < 2:
            before, begun = self._waited_s(), time.monotonic()
            self.status.append(self._ask())
            took = time.monotonic() - begun
            waited = sum(waited_s - before.get(thread, 0) for thread, waited_s in self._waited_s().items())
            self.answers_s.append(took - waited)
            self.waited_s.append(waited)
            self._over.wait(0.01)

    def _waited_s(self) -> dict[str, float]:
        """How long each thread was ready without a processor (schedstat): no fault of the agent's."""
        threads = [*Path(f"/proc/{self._agent}/task").glob("*/schedstat"), Path("/proc/thread-self/schedstat")]
        waited = {}
        for thread in threads:
            with suppress(OSError):  # has ended
                waited[str(thread)] = int(thread.read_text().split()[1]) / 1e9
        return waited

    def _ask(self) -> dict[str, object]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(self._path)
            connection.sendall(json.dumps({"verb": "status", "version": minipod.__version__}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                answer: dict[str, object] = json.loads(stream.readline())
                return answer

    def end(self) -> None:
        self._over.set()
        self.join()

    def figure(self, name: str) -> float:
        first, last = self.status[0][name], self.status[-1][name]
        assert isinstance(first, int | float)
        assert isinstance(last, int | float)
        return last - first


@contextmanager
def watched(host: Host) -> Iterator[None]:
    watch = Watch(host)
    watch.start()
    try:
        yield
    finally:
        watch.end()
    last = watch.status[-1]
    slowest = max(watch.answers_s)
    found = (
        f"slowest answer {slowest * 1000:.0f} ms of {len(watch.answers_s)}, "
        f"processors waited for up to {max(watch.waited_s) * 1000:.0f} ms, "
        f"late probes {watch.figure('probes_late')} of {watch.figure('probes_made')}, "
        f"turns: worst {last['loop_worst_ms']} ms in {last['loop_worst_in']}, late {watch.figure('loop_late')}"
    )
    print(found)
    assert slowest <= ANSWER_S, found
    assert watch.figure("probes_late") == 0, found


def test_a_stranger_who_locks_the_network_namespace(host: Host) -> None:
    """Any process can open that file, and lock it for as long as it likes."""
    with subprocess.Popen(
        ["nsenter", f"--net={host.namespace.path}", "--setuid=65534", sys.executable, "-c", LOCK, "/proc/self/ns/net"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as stranger:  # fmt: skip
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "held\n"
        with watched(host):
            host.run("web", manifest("web"))
            host("delete", "pod", "web")
        stranger.communicate("")


def test_a_hung_file_system_under_a_host_path(host: Host) -> None:
    place = host.folder / "hung"
    place.mkdir()
    volumes = f"[{{name: data, hostPath: {{path: {place}/folder}}}}]"
    with hung_mount(str(place)) as asked, watched(host):
        host.apply("hung", manifest("hung", volumes=volumes, mounts="[{name: data, mountPath: /data}]"))
        assert asked.wait(TIMEOUT_S)
        host.run("next", manifest("next"))
        time.sleep(3)
    host("delete", "pod", "hung", "next")
    shutil.rmtree(place)  # the next attempt may have made the folder


def test_logs_of_two_gigabytes_are_removed(host: Host) -> None:
    host.run("talker", manifest("talker"))
    (logs,) = (host.folder / "log" / "pods").glob("default_talker_*/main")
    size = 2 << 30
    for number in range(4):
        subprocess.run(["fallocate", "-l", str(size // 8), logs / f"{number}.big"], check=True)
    chunk = os.urandom(1 << 20)
    for number in range(size // 2 >> 20):
        (logs / f"{number}.small").write_bytes(chunk)
    with watched(host):
        host("delete", "pod", "talker")


def test_twenty_thousand_foreign_rules(host: Host) -> None:
    rules = "".join(
        f"add rule inet foreign many ip saddr 192.0.2.{n % 250} tcp dport {n} accept\n" for n in range(20000)
    )
    text = f"add table inet foreign\nadd chain inet foreign many\n{rules}"
    subprocess.run(["nsenter", f"--net={host.namespace.path}", "nft", "-f", "-"], input=text, text=True, check=True)
    with watched(host):
        host.run("port", manifest("port", port=8080))
        host("delete", "pod", "port")
        host("gc", "--dry-run", check=False)
    subprocess.run(["nsenter", f"--net={host.namespace.path}", "nft", "delete", "table", "inet", "foreign"], check=True)


def test_five_hundred_pods_in_one_file(host: Host) -> None:
    names = [f"many-{number}" for number in range(500)]
    with watched(host):
        host.apply("many", "".join(manifest(name, gated=True) for name in names))
        host("delete", "pod", *names)


def test_a_full_disk(host: Host) -> None:
    ballast = Path(host.paths.state, "ballast")
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError:
            pass
    with watched(host):
        host.apply("late", manifest("late"), check=False)
        time.sleep(2)
    ballast.unlink()
    host("delete", "pod", "late", check=False)
