"""Section H of the catalogue: what a pod makes the agent hold, write, read and connect to."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

import minipod
from minipod.agent.probes.kinds.connection import Answer
from minipod.agent.probes.kinds.http import HttpProbe, http_request
from minipod.agent.probes.kinds.tcp import TcpProbe
from minipod.api.types import HTTPGetAction
from minipod.kernel.launcher import Call
from minipod.kernel.netlink import CLONE_NEWNET
from minipod.kernel.process import setns
from minipod.plan.sandbox import FILES_BYTES
from tests.attacks.canary import Canary
from tests.attacks.conftest import AttackedNode
from tests.attacks.evil import AT_FDCWD, EvilImages, program
from tests.attacks.servers import GRPC_FLOODS, HEAD, MIB, SERVERS, WELL, Server, endless, once
from tests.builders import Object, container, empty_dir, host_path, limits, manifest, mount, pod
from tests.layouts import entry
from tests.patience import SLOWNESS
from tests.volume_pods import wait_for

SLEEP = "exec sleep 100000"
RSS_SLACK = 24 * MIB  # what an interpreter keeps of what it needed for a moment


def start(node: AttackedNode, made: Object) -> None:
    node("run", "-d", "--timeout", "30s", "--until", "created", "-", input=manifest(made))
    wait_for(lambda: node.pod("p")["status"]["phase"] == "Running")  # type: ignore[index]


def inside(node: AttackedNode, script: str, name: str = "evil") -> str:
    return node("exec", "p", "-c", name, "--", "sh", "-c", script).stdout


def status_of(node: AttackedNode, name: str) -> Any:
    statuses: Any = node.pod("p")["status"]
    return next(one for one in statuses.get("containerStatuses", []) if one["name"] == name)


def has_ended(node: AttackedNode, name: str) -> Callable[[], bool]:
    return lambda: "terminated" in status_of(node, name)["state"]


class Cost:
    """What agent and spawner hold."""

    def __init__(self, node: AttackedNode) -> None:
        agent = psutil.Process(node.agent_pid())
        self._processes = [agent, *agent.children()]
        self.descriptors, self.threads, self.rss = self._now()

    def _now(self) -> tuple[int, int, int]:
        return (
            sum(process.num_fds() for process in self._processes),
            sum(process.num_threads() for process in self._processes),
            sum(process.memory_info().rss for process in self._processes),
        )

    def assert_same(self) -> None:
        """Descriptors come and go with what is under way: as before at some moment."""
        wait_for(lambda: self._now()[0] <= self.descriptors)
        _, threads, rss = self._now()
        assert threads <= self.threads + 2
        assert rss < self.rss + RSS_SLACK, f"{self.rss >> 20} MiB before, now {rss >> 20} MiB"


def probes_made(node: AttackedNode) -> int:
    status = node.ask("status")
    assert status is not None
    made = status["probes_made"]
    assert isinstance(made, int)
    return made


def wait_for_probes(node: AttackedNode, count: int) -> None:
    before = probes_made(node)
    wait_for(lambda: probes_made(node) >= before + count, 20)


def probing(command: list[str], **fields: Any) -> Object:
    return {"exec": {"command": command}, "periodSeconds": 1, "timeoutSeconds": 1, **fields}


# ---- 44. commands whose output and leftovers the agent would keep


@pytest.mark.attack(row=44)
def test_what_probes_print_and_leave_running_costs_the_agent_nothing(node: AttackedNode) -> None:
    loud = container("loud", SLEEP, readinessProbe=probing(["yes"]))
    leaving = container(
        "leaving", SLEEP, livenessProbe=probing(["sh", "-c", "sleep 9999 & exit 0"], failureThreshold=1)
    )
    start(node, pod("p", loud, leaving, restartPolicy="Always"))
    wait_for_probes(node, 4)
    cost = Cost(node)
    wait_for_probes(node, 6)
    cost.assert_same()
    left = inside(node, "ps", "leaving").count("sleep 9999")
    assert left >= 3, "the probe left nothing running"
    assert status_of(node, "leaving")["restartCount"] == 0, "what a probe leaves running is no failure"
    assert inside(node, "ps", "loud").count(" yes") <= 1, "what is killed for its time is left running"


@pytest.mark.attack(row=44)
def test_commands_that_cannot_start_and_attachments_that_break_leave_nothing(node: AttackedNode) -> None:
    start(node, pod("p", container("evil", "while sleep 0.01; do echo x; done")))
    for _ in range(2):
        attack_verbs(node)
    cost = Cost(node)
    for _ in range(40):
        attack_verbs(node)
    cost.assert_same()
    assert inside(node, "echo well") == "well\n"


def attack_verbs(node: AttackedNode) -> None:
    """A command that is not there, on a terminal and without; attach, gone without a word."""
    where = {"namespace": "default", "pod": "p"}
    for tty in (None, (24, 80)):
        answer = node.ask("exec", **where, command=["nosuch"], tty=tty)
        assert answer is not None
        assert "error" in answer
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(node.paths.agent_socket)
        request = {"verb": "attach", "version": minipod.__version__, **where, "stdin": False}
        connection.sendall(json.dumps(request).encode() + b"\n")
        connection.settimeout(10)
        assert connection.recv(1), "the agent has taken it up"


# ---- 45. memory and disk outside of what is counted


@pytest.mark.attack(row=45)
@pytest.mark.vm
def test_the_host_s_files_in_a_container_take_no_more_than_their_tmpfs(node: AttackedNode) -> None:
    files = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log")
    fill = "; ".join(f"dd if=/dev/zero of={file} bs=1M count=64 conv=notrunc" for file in files)
    victim = container("victim", "until [ -e /go/on ]; do sleep 0.1; done; echo -n told > /dev/termination-log")
    victim["volumeMounts"] = [mount("go", "/go")]
    evil = container("evil", SLEEP, volumeMounts=[mount("go", "/go")])
    start(node, pod("p", evil, victim, volumes=[empty_dir("go")]))
    said = inside(node, f"({fill}) 2>&1; stat -c %s {' '.join(files)}")
    assert said.count("No space left on device") == len(files), "the attack filled nothing"
    sandboxes = Path(node.paths.root, "sandboxes")
    taken = sum(os.lstat(file).st_blocks * 512 for file in sandboxes.rglob("*") if file.is_file())
    assert FILES_BYTES / 2 < taken <= FILES_BYTES + MIB
    # nothing of it survives, and the pod's own end is seen
    inside(node, "for f in /etc/hosts /dev/termination-log; do : > $f; done; touch /go/on")
    wait_for(has_ended(node, "victim"))
    assert status_of(node, "victim")["state"]["terminated"]["message"] == "told"


@pytest.mark.attack(row=45)
def test_the_host_s_files_in_a_container_count_as_ephemeral_storage(node: AttackedNode) -> None:
    """CVE-2020-8557."""
    limited = limits(**{"ephemeral-storage": "1Mi"})
    start(node, pod("p", container("evil", f"head -c 4000000 /dev/zero > /etc/hosts; {SLEEP}", resources=limited)))
    wait_for(lambda: node.pod("p")["status"]["phase"] == "Failed", 30)  # type: ignore[index]
    status: Any = node.pod("p")["status"]
    assert status["reason"] == "Evicted"
    assert status["message"].startswith("Pod ephemeral local storage usage exceeds the total limit of containers 1Mi")


@pytest.mark.attack(row=45)
def test_a_line_without_end_is_rotated_as_any_other(node: AttackedNode) -> None:
    node.configure("log_max_size = 1048576\nlog_max_files = 2\n")
    start(node, pod("p", container("evil", SLEEP), container("c", "head -c 30000000 /dev/zero | tr '\\0' x")))
    cost = Cost(node)
    wait_for(has_ended(node, "c"), 30)
    cost.assert_same()
    logs = list(Path(node.paths.pod_logs).glob("*/c/*"))
    assert len(logs) > 1, "nothing was rotated"
    assert sum(file.lstat().st_size for file in logs) < 4 * MIB
    assert len(node("logs", "p", "-c", "c").stdout) < 4 * MIB


@pytest.mark.attack(row=45)
def test_shared_memory_of_killed_containers_stays_within_the_pod_s_limit(node: AttackedNode) -> None:
    """What a container left in /dev/shm is there after it was killed, and its successor cannot have the same again."""
    hog = "n=$(ls /dev/shm | wc -l); dd if=/dev/zero of=/dev/shm/hog$n bs=1M count=40; exit 1"
    made = pod("p", container("evil", hog, resources=limits(memory="32Mi")), restartPolicy="Always")
    node("run", "-d", "--until", "created", "-", input=manifest(made))
    wait_for(lambda: status_of(node, "evil")["restartCount"] >= 1, 30)
    taken = sum(file.lstat().st_blocks * 512 for file in Path(node.paths.root, "sandboxes").glob("*/shm/*"))
    assert 8 * MIB < taken <= 32 * MIB, "of 40 MiB each"


@pytest.mark.attack(row=45)
def test_system_v_segments_of_containers_that_ended_stay_within_the_pod_s_limit(
    node: AttackedNode, evil: EvilImages
) -> None:
    """Each instance makes one more, fills it and ends; nobody removes any."""
    size, first = 20 * MIB, 0x1000_0000
    places = [first + number * 2 * size for number in range(4)]
    hold = program(
        Call("shmget", (0, size, 0o1600)),  # IPC_PRIVATE, IPC_CREAT
        *(Call("shmat", (number, place, 0), otherwise=1) for number, place in enumerate(places)),
        Call("openat", (AT_FDCWD, b"/dev/zero\0", os.O_RDONLY)),
        *(Call("read", (3, place, size), otherwise=1) for place in places),
    )
    image = evil("hold", entry("hold", hold, mode=0o755))
    made = container("evil", "/hold && echo held >> /go/held", image=image, resources=limits(memory="32Mi"))
    made["volumeMounts"] = [mount("go", "/go")]
    made = pod("p", made, restartPolicy="Always", volumes=[empty_dir("go")])
    node("run", "-d", "--until", "created", "-", input=manifest(made))
    wait_for(lambda: last_end(node, "evil") == "OOMKilled", 40)
    (held,) = Path(node.paths.state, "pods").glob("*/volumes/*/go/held")
    assert held.read_text() == "held\n", "the first fits, the second does not"


def last_end(node: AttackedNode, name: str) -> str | None:
    status = status_of(node, name)
    ended = status["state"].get("terminated") or status.get("lastState", {}).get("terminated")
    return ended["reason"] if ended else None


# ---- 46. logs that lead elsewhere

REPLACED = "20200101-000000"


@pytest.fixture
def decoy(node: AttackedNode, canary: Canary, tmp_path: Path) -> Iterator[Path]:
    """A folder of the host's with files as a log's folder has them, which tell the secret."""
    line = f"2026-01-02T03:04:05Z stdout F {canary.secret}\n".encode()
    folder = tmp_path / "decoy"
    folder.mkdir()
    for name in ("0.log", "1.log", f"0.log.{REPLACED}"):
        (folder / name).write_bytes(line)
    (folder / f"0.log.{REPLACED}.gz").write_bytes(gzip.compress(line))
    for name in ("c", "failing", "writer"):
        (folder / name).symlink_to(folder)
    before = picture(folder)
    yield folder
    assert picture(folder) == before


def picture(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    files = {path.name: path for path in folder.iterdir() if path.is_file() and not path.is_symlink()}
    return {name: (path.stat().st_ino, path.stat().st_mode, path.read_bytes()) for name, path in files.items()}


def log_folder(node: AttackedNode, name: str = "c") -> Path:
    (found,) = Path(node.paths.pod_logs).glob("default_p_*")
    return found / name


@contextmanager
def with_logs(node: AttackedNode, *containers: Object, **spec: Any) -> Iterator[str]:
    """A pod with the folder of all logs at /log and a flag at /go; gives the folder of its own logs, as it sees it."""
    mounts = [mount("log", "/log"), mount("go", "/go")]
    given = [{**one, "volumeMounts": mounts} for one in (container("evil", SLEEP), *containers)]
    volumes = [host_path("log", Path(node.paths.pod_logs).parent), empty_dir("go")]
    Path(node.paths.pod_logs).mkdir(parents=True)
    start(node, pod("p", *given, volumes=volumes, **spec))
    yield "/log/pods/default_p_*"
    # what the attack left is removed as any log is
    node("delete", "pod", "p", "--grace-period=0", "--force")


ATTACKS = {
    "file": "ln -sfn {canary} c/0.log",
    "folder": "mv c was && ln -s {decoy} c",
    "pod": "cd .. && mv default_p_* was && ln -s {decoy} $(basename $OLDPWD)",
    "rotated": "ln -s {decoy}/0.log c/0.log.20200101-000000",
    "compressed": "ln -s {decoy}/0.log.20200101-000000.gz c/0.log.20200101-000000.gz",
    "pipe": "rm c/0.log && mkfifo c/0.log",
    "device": "rm c/0.log && mknod c/0.log c 1 5",
}


@pytest.mark.attack(row=46)
@pytest.mark.parametrize("attack", list(ATTACKS))
def test_logs_that_lead_elsewhere_are_not_read(node: AttackedNode, canary: Canary, decoy: Path, attack: str) -> None:
    """CVE-2021-25743's kin: a pod with a hostPath to /var/log."""
    with with_logs(node, container("c", "echo own")) as own:
        wait_for(has_ended(node, "c"))
        folder = log_folder(node)
        script = ATTACKS[attack].format(canary=canary.file, decoy=decoy)
        inside(node, f"cd {own} && OLDPWD=$PWD && {script}")
        assert leads_elsewhere(folder), "the attack was not made"
        for options in ((), ("--tail=5",), ("--tail=-1",), ("-f",), ("--previous",)):
            node("logs", "p", "-c", "c", *options, check=False, timeout_s=10)
        node("logs", "p", "--all-containers", "--prefix", check=False)
        node("describe", "pod", "p")
        if attack == "pod":  # so that what is this pod's is removed
            os.unlink(folder.parent)
            os.rename(folder.parent.parent / "was", folder.parent)


def leads_elsewhere(folder: Path) -> bool:
    """Whether the host's command line would come upon what the attack has made."""
    files = [folder.parent, folder, *(folder.iterdir() if folder.is_dir() and not folder.is_symlink() else ())]
    return any(file.is_symlink() or not (file.is_file() or file.is_dir()) for file in files)


@pytest.mark.attack(row=46)
def test_a_termination_message_is_not_read_along_a_link(node: AttackedNode, canary: Canary, decoy: Path) -> None:
    fails = container("failing", "until [ -e /go/on ]; do sleep 0.1; done; exit 1")
    with with_logs(node, {**fails, "terminationMessagePolicy": "FallbackToLogsOnError"}) as own:
        inside(node, f"cd {own} && ln -sfn {decoy}/0.log failing/0.log && touch /go/on")
        wait_for(has_ended(node, "failing"))
        assert log_folder(node, "failing").joinpath("0.log").is_symlink(), "the attack was not made"
        canary.hear(json.dumps(node.pod("p")), "the pod's status")
        assert "message" not in status_of(node, "failing")["state"]["terminated"]


@pytest.mark.attack(row=46)
def test_logs_are_rotated_and_made_along_no_link(node: AttackedNode, decoy: Path) -> None:
    """The agent, as root, would rename, compress and write files of the attacker's choice."""
    node.configure("log_max_size = 102400\nlog_max_files = 3\n")
    writer = container("writer", "until [ -e /go/on ]; do sleep 0.1; done; head -c 2000000 /dev/zero | tr '\\0' '\\n'")
    with with_logs(node, writer, restartPolicy="OnFailure") as own:
        inside(node, f"cd {own} && mv writer was && ln -s {decoy} writer && touch /go/on")
        wait_for(has_ended(node, "writer"), 20)
        assert log_folder(node, "writer").is_symlink(), "the attack was not made"
        said = Path(node.paths.root, "agent.log").read_text()
        assert "rotation: is a link or no directory, which is not followed" in said, "nothing was rotated"
        assert log_folder(node, "was").joinpath("0.log").stat().st_size > 2000000


@pytest.mark.attack(row=46)
def test_a_container_is_not_started_where_its_log_would_lie_elsewhere(node: AttackedNode, decoy: Path) -> None:
    again = container("c", "until [ -e /go/on ]; do sleep 0.1; done; rm /go/on; exit 1")
    with with_logs(node, again, restartPolicy="Always") as own:
        inside(node, f"cd {own} && mv c was && ln -s {decoy} c && touch /go/on")
        wait_for(lambda: "which is not followed" in json.dumps(status_of(node, "c")), 30)


@pytest.mark.attack(row=46)
@pytest.mark.parametrize("name", ["../../x", "..", "evil/../../x", "/etc", "evil\n"])
def test_the_name_of_a_pod_or_container_is_no_path(node: AttackedNode, name: str) -> None:
    start(node, pod("p", container("evil", SLEEP)))
    assert node("logs", "p", "-c", name, check=False).returncode != 0
    assert node("logs", name, check=False).returncode != 0


# ---- 47. probes


def asking(port: int, **fields: Any) -> Object:
    action = {"host": "127.0.0.1", "port": port, "path": "/", **fields}
    return {"httpGet": action, "periodSeconds": 1, "timeoutSeconds": 1}


@contextmanager
def serving() -> Iterator[dict[str, Server]]:
    answers = {**{name: answer for name, (answer, _) in SERVERS.items()}, **WELL}
    servers = {name: Server(answer) for name, answer in answers.items()}
    try:
        yield servers
    finally:
        for server in servers.values():
            server.close()


@pytest.mark.attack(row=47)
def test_a_server_can_do_nothing_to_its_probe_but_fail_it(node: AttackedNode) -> None:
    """All at once, and beside them one that is well and asked in time."""
    with serving() as servers:
        probed = [container(name, SLEEP, readinessProbe=asking(server.port)) for name, server in servers.items()]
        well = container("well", SLEEP, livenessProbe=probing(["true"], failureThreshold=1))
        start(node, pod("p", well, *probed))
        wait_for(lambda: all(len(server.requests) >= 2 for server in servers.values()), 20)
        cost = Cost(node)
        seen = {name: len(server.requests) for name, server in servers.items()}
        wait_for(lambda: all(len(server.requests) > seen[name] + 1 for name, server in servers.items()), 20)
        cost.assert_same()
        events = node("events").stdout
        for name, (_, words) in SERVERS.items():
            assert not status_of(node, name)["ready"], name
            assert words in events, f"{name}: {words}"
        for name in WELL:
            assert status_of(node, name)["ready"], name
        assert status_of(node, "well")["restartCount"] == 0
        assert not any(b"X-Evil" in request for server in servers.values() for request in server.requests)


@pytest.mark.attack(row=47)
def test_a_request_holds_no_second_one(node: AttackedNode) -> None:
    with serving() as servers:
        port = servers["gzip"].port
        split = [{"name": "X-A", "value": "a\r\nX-Evil: 1\r\n\r\nGET /evil HTTP/1.1"}]
        containers = [
            container("header", SLEEP, readinessProbe=asking(port, httpHeaders=split)),
            container("path", SLEEP, readinessProbe=asking(port, path="/a HTTP/1.1\r\nX-Evil: 1\r\n\r\n")),
        ]
        start(node, pod("p", *containers))
        wait_for(lambda: status_of(node, "path")["ready"])
        wait_for(lambda: 'net/http: invalid header field value for "X-A"' in node("events").stdout.replace("\\", ""))
        assert not status_of(node, "header")["ready"]
        assert all(request.count(b"\r\n\r\n") == 1 for request in servers["gzip"].requests)
        assert not any(line.startswith(b"X-Evil") for text in servers["gzip"].requests for line in text.split(b"\r\n"))


@pytest.mark.attack(row=47)
def test_a_grpc_server_that_never_stops_fails_its_probe_at_once(node: AttackedNode) -> None:
    hello = b"\0\0\0\x04\0\0\0\0\0"
    asked = {"periodSeconds": 1, "timeoutSeconds": 5}
    ports = range(50051, 50051 + len(GRPC_FLOODS))
    containers = [
        container(name, SLEEP, readinessProbe={"grpc": {"port": port}, **asked})
        for name, port in zip(GRPC_FLOODS, ports, strict=True)
    ]
    start(node, pod("p", *containers))
    cost = Cost(node)
    with ExitStack() as stack:
        floods = zip(GRPC_FLOODS.values(), ports, strict=True)
        servers = [in_pod(node, partial(Server, endless(hello, text), port)) for text, port in floods]
        for server in servers:
            stack.callback(server.close)
        wait_for(lambda: all(len(server.requests) >= 2 for server in servers), 20)
        for words in ("an answer that is too large", "a frame that is too large"):
            assert words in node("events").stdout
        cost.assert_same()


def in_pod(node: AttackedNode, make: Callable[[], Server]) -> Server:
    """Made in the pod's network namespace, which holds for one thread."""
    made: list[Server] = []

    def run() -> None:
        with open(f"/run/netns/{node.paths.netns_name('default', 'p')}", "rb") as file:
            setns(file.fileno(), CLONE_NEWNET)
        made.append(make())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return made[0]


@pytest.mark.attack(row=47)
def test_five_hundred_servers_that_do_not_answer_delay_no_other_probe() -> None:
    """Their queue is full: the kernel answers no SYN."""

    async def main(port: int, well: int) -> None:
        loop = asyncio.get_running_loop()
        given: list[Answer] = []
        pits = [TcpProbe(loop, "127.0.0.1", "127.0.0.1", port, given.append) for _ in range(500)]
        longest = 0.0
        for _ in range(20):
            begun = loop.time()
            answered: asyncio.Future[Answer] = loop.create_future()
            request = http_request(HTTPGetAction(path="/", port=well), "127.0.0.1", well)
            HttpProbe(loop, "127.0.0.1", request, answered.set_result)
            assert (await answered).result == "success"
            longest = max(longest, loop.time() - begun)
        assert longest < 0.5 * SLOWNESS
        assert not given, "the attack was not made"
        for pit in pits:
            pit.time_is_up()
        assert {answer.result for answer in given} == {"failure"}

    server = Server(once(HEAD + b"Content-Length: 0\r\n\r\n"))
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        stack.callback(server.close)
        stack.enter_context(socket.create_connection(full.getsockname()))  # all that it lets wait
        asyncio.run(main(full.getsockname()[1], server.port))
