"""Section J of the catalogue: what lies on the host's disk, names that become paths, and requests without measure."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import minipod
from tests.attacks.canary import Canary
from tests.attacks.conftest import AttackedNode
from tests.builders import container, empty_dir, manifest, mount, pod
from tests.patience import SLOWNESS
from tests.volume_pods import config_map, secret, wait_for

ANOTHER_USER = 1000
SLEEP = "exec sleep 100000"
SUID = f"cp /bin/busybox /v/suid; cp /bin/busybox /suid; chmod 6755 /v/suid /suid; chmod 666 /suid; {SLEEP}"


# ---- 51. what another user of the host reaches


def as_another_user(act: Callable[[], list[str]]) -> list[str]:
    """What a process of uid 1000 without groups and capabilities found."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(ANOTHER_USER, ANOTHER_USER, ANOTHER_USER)
            os.setresuid(ANOTHER_USER, ANOTHER_USER, ANOTHER_USER)
            found = act()
        except BaseException as error:
            found = [f"broke: {error!r}"]
        with open(write_fd, "w") as out:
            json.dump(found, out)
        os._exit(0)
    os.close(write_fd)
    with open(read_fd) as found_file:
        found = json.load(found_file)
    assert os.waitpid(pid, 0)[1] == 0
    return list(found)


def reached(path: str) -> list[str]:
    """How the caller reaches this file."""
    try:
        kind = os.lstat(path).st_mode
    except OSError:
        return []
    if stat.S_ISSOCK(kind):
        return [f"{path}: connects" for type_ in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET) if connects(path, type_)]
    if stat.S_ISDIR(kind):
        return [f"{path}: may be written to"] if os.access(path, os.W_OK) else []
    ways = [(os.R_OK, "read"), (os.W_OK, "written"), (os.X_OK, "executed")]
    return [f"{path}: may be {how}" for way, how in ways if stat.S_ISREG(kind) and os.access(path, way)]


def connects(path: str, type_: int) -> bool:
    with socket.socket(socket.AF_UNIX, type_) as sock:
        try:
            sock.connect(path)
        except OSError:
            return False
    return True


def everything(*folders: str) -> list[str]:
    """All that is in them, as only root can list it: the attacker knows every name."""
    return [
        os.path.join(folder, name)
        for top in folders
        for folder, folders_in_it, files in os.walk(os.path.realpath(top))
        for name in (*folders_in_it, *files)
    ]


@pytest.mark.attack(row=51)
def test_another_user_reaches_nothing_of_root_and_state(node: AttackedNode, canary: Canary) -> None:
    """CVE-2024-25621, CVE-2021-41091: also by names that only root could list, and with lax modes left by others."""
    paths = node.paths
    for folder in (paths.root, paths.state, f"{paths.root}/exits", f"{paths.root}/spawners", f"{paths.state}/cache"):
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o777)
    os.chmod(Path(paths.root).parent, 0o755)  # the test's own folder hides nothing
    volumes = [empty_dir("v"), {"name": "s", "secret": {"secretName": "s"}}]
    made = pod("p", {**container("c", SUID), "volumeMounts": [mount("v", "/v"), mount("s", "/s")]}, volumes=volumes)
    before = os.umask(0)
    try:
        node("apply", "-", input=manifest(secret("s", key=canary.secret), made))
        wait_for(lambda: node("exec", "p", "--", "ls", "/suid", check=False).returncode == 0)
    finally:
        os.umask(before)
    files = everything(paths.root, paths.state, f"{paths.state}/images")
    assert [path for path in files if path.endswith("/suid")], "the setuid file is there to be reached"
    assert [path for path in files if Path(path).is_socket()]
    assert as_another_user(lambda: [way for path in files for way in reached(path)]) == []
    netns = f"/run/netns/{paths.netns_name('default', 'p')}"
    assert as_another_user(lambda: [f"{netns}: joined"] if joins(netns) else []) == []


def joins(path: str) -> bool:
    from minipod.kernel import process

    with open(path) as namespace:
        try:
            process.setns(namespace.fileno(), process.CLONE_NEWNET)
        except PermissionError:
            return False
    return True


@pytest.mark.attack(row=51)
@pytest.mark.parametrize("which", ["agent", "spawner"])
def test_another_user_who_comes_to_a_socket_all_the_same_is_sent_away(node: AttackedNode, which: str) -> None:
    """Its mode is one line of defence; who is at the other end is the next."""
    node("run", "-d", "-", input=manifest(pod("p", container("c", SLEEP))))
    path = Path(node.paths.agent_socket)
    request: dict[str, Any] = {"verb": "status", "version": minipod.__version__}
    if which == "spawner":
        (path,) = Path(node.paths.root, "spawners").iterdir()
        request = {"id": 1, "do": "list"}
    kind = socket.SOCK_STREAM if which == "agent" else socket.SOCK_SEQPACKET
    path_fd = os.open(path, os.O_PATH)
    os.chmod(f"/proc/self/fd/{path_fd}", 0o666)

    def ask() -> list[str]:
        with socket.socket(socket.AF_UNIX, kind) as sock:
            sock.settimeout(10 * SLOWNESS)
            sock.connect(f"/proc/self/fd/{path_fd}")  # without a way through the folders above
            try:
                sock.sendall(json.dumps(request).encode() + b"\n")
                answer = sock.recv(4096)
            except (ConnectionResetError, BrokenPipeError):
                return ["sent away"]
            return [f"answered {answer!r}"] if answer else ["sent away"]

    assert as_another_user(ask) == ["sent away"]
    os.chmod(f"/proc/self/fd/{path_fd}", 0o600)
    os.close(path_fd)
    assert node("exec", "p", "--", "echo", "serves").stdout == "serves\n"


# ---- 52. names that become paths


BAD_NAMES = (
    "..",
    ".",
    "a/b",
    "../../x",
    "%2e%2e%2f",
    "a\0b",
    "a" * 300,
    "-rf",
    "a\nb",
    "",
    " ",
    "A",
    "\u202e",
    "CANARY",
)


def refused(answer: dict[str, Any] | None) -> bool:
    """By the one who checks it, not by an accident."""
    assert answer is not None, "the agent has gone"
    return answer.get("error", {}).get("kind") in ("Usage", "Manifest", "NotFound")


def place(node: AttackedNode) -> list[str]:
    """Root, state and what is around them, but what any request changes, and other tests' instances."""
    folder = Path(node.paths.root).parent
    around = (path for path in folder.parent.glob("*") if path == folder or not path.name.startswith("mp"))
    return sorted(str(path) for path in (*folder.rglob("*"), *around) if "minipod.db" not in path.name)


def with_name(name: str) -> dict[str, list[dict[str, Any]]]:
    """Objects with a bad name in each place where there is one, by what it is."""
    fine = container("c", SLEEP)
    volume = {**fine, "volumeMounts": [mount("v", "/v", subPath="x")]}
    keyed = {**empty_dir("v"), "configMap": {"name": "m", "items": [{"key": "k", "path": name}]}}
    del keyed["emptyDir"]
    return {
        "pod": [pod(name, fine)],
        "namespace": [pod("p", fine, metadata={"namespace": name})],
        "generateName": [pod("", fine, metadata={"generateName": name, "name": ""})],
        "container": [pod("p", {**fine, "name": name})],
        "init container": [pod("p", fine, init=[{**fine, "name": name}])],
        "volume": [pod("p", volume, volumes=[empty_dir(name)])],
        "path of a key": [pod("p", volume, volumes=[keyed])],
        "configMap": [config_map(name, k="v")],
        "key": [config_map("m", **{name: "v"})],
        "secret": [secret(name, k="v")],
    }


#: bad elsewhere, right here: an empty namespace is `default`; keys and paths of keys may be A, -rf or begin with %.
#: A path with NUL is the volume's failure, as with a kubelet.
RIGHT = {
    "namespace": {""},
    "key": {"A", "-rf"},
    "path of a key": {"A", "-rf", "a/b", "%2e%2e%2f", " ", "a\nb", "\u202e", "a" * 300, ".", "a\0b"},
}


@pytest.mark.attack(row=52)
def test_no_name_in_a_manifest_becomes_a_path(node: AttackedNode, canary: Canary) -> None:
    """CVE-2015-5305, CVE-2014-9358: at the control socket, without the command line's own checks."""
    node("apply", "-", input=manifest(config_map("m", k="v")))
    before = place(node)
    passed = []
    for name in BAD_NAMES:
        bad = str(canary.folder) if name == "CANARY" else name
        for where, objects in with_name(bad).items():
            if name in RIGHT.get(where, ()):
                continue
            text = "\n---\n".join(map(json.dumps, objects))
            for verb in ("apply", "run") if objects[0]["kind"] == "Pod" else ("apply",):
                answer = node.ask(verb, files=[{"name": "x", "text": text}])
                if not refused(answer):
                    passed.append(f"{verb}: {where} {name!r}: {answer}")
    assert passed == []
    assert place(node) == before


@pytest.mark.attack(row=52)
def test_no_name_in_a_request_becomes_a_path(node: AttackedNode, canary: Canary) -> None:
    node("run", "-d", "-", input=manifest(pod("p", container("c", SLEEP))))
    before, passed = place(node), []
    files = [{"name": "x", "text": json.dumps(pod("q", container("c", SLEEP)))}]
    at = {"namespace": "default", "pod": "p", "container": "c"}
    requests: list[tuple[dict[str, Any], str]] = [
        ({"verb": "run", "files": files, "namespace": "default", "detach": True}, "namespace"),
        ({"verb": "apply", "files": files, "namespace": "default"}, "namespace"),
        *(({"verb": "get", "kind": kind, "name": "p", "namespace": "default"}, "name") for kind in ("pods", "secrets")),
        ({"verb": "get", "kind": "pods", "name": "p", "namespace": "default"}, "namespace"),
        *(({"verb": "exec", **at, "command": ["true"]}, field) for field in at),
        *(({"verb": "root", **at}, field) for field in at),
        *(({"verb": "attach", **at}, field) for field in at),
        *(({"verb": "resize", **at, "limits": {"cpu": "1"}}, field) for field in at),
        *(({"verb": "conditions", **at, "conditions": []}, field) for field in ("namespace", "pod")),
        ({"verb": "debug", **at, "container": {"name": "d", "image": "busybox"}}, "container.name"),
    ]
    for name in filter(None, BAD_NAMES):
        bad = str(canary.folder) if name == "CANARY" else name
        for request, field in requests:
            outer, _, inner = field.partition(".")
            value = {**request[outer], inner: bad} if inner else bad
            answer = node.ask(**{**request, outer: value})
            if not refused(answer):
                passed.append(f"{request['verb']}: {field} {name!r}: {answer}")
        answer = node.ask("delete", names=[bad], force=True)
        if not refused(answer):
            passed.append(f"delete {name!r}: {answer}")
    assert passed == []
    assert place(node) == before


# ---- 54. requests without measure


def laughs(depth: int) -> str:
    lines = ['a0: &a0 ["lol", "lol"]', *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, depth))]
    return "\n".join(lines) + "\n"


HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n"
POD = "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{}}}\nspec:\n  containers:\n" + "".join(
    f"  - {{{{name: c{n}, image: busybox, command: [a, b], env: [{{{{name: A, value: b}}}}]}}}}\n" for n in range(6)
) + "---\n"  # fmt: skip
BOMBS: dict[str, Callable[[], str]] = {
    "billion laughs": lambda: laughs(12),
    "merged": lambda: (
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12))
    ),
    "itself": lambda: "a: &a [*a, *a]\n",
    "deep list": lambda: "a: " + "[" * 100_000 + "]" * 100_000,
    "deep map": lambda: '{"a":' * 100_000 + "1" + "}" * 100_000,
    "deep block": lambda: "- " * 100_000 + "a",
    "a key of keys": lambda: "? " * 100_000 + "a",
    "keys": lambda: HEAD + "data:\n" + "".join(f"  k{n}: v\n" for n in range(150_000)),
    "documents": lambda: f"---\n{HEAD}" * 40_000,
    "pods": lambda: "".join(map(POD.format, range(4_000))) + "kind: Pod\n",
    "10 MB": lambda: f"{HEAD}data: {{a: {'x' * 10_000_000}}}",
    "100 MB": lambda: f"{HEAD}data: {{a: {'x' * 100_000_000}}}",
    "100 MB of lines": lambda: f"{HEAD}data:\n  a: |\n" + f"    {'x' * 95}\n" * 1_000_000,
    "digits": lambda: f"{HEAD}immutable: {'9' * 2_000_000}",
}
#: far above what one takes (a second on a quiet machine), far below what it takes unbounded
BOMB_S = 20 * SLOWNESS
OTHERS_WAIT_S = 1.5 * SLOWNESS
MOST_BYTES = 700 << 20


@pytest.mark.attack(row=54)
def test_no_manifest_takes_the_agent_s_time_or_memory(node: AttackedNode) -> None:
    """CVE-2019-11253: through the command line and at the control socket; meanwhile the pods are looked after."""
    node("run", "-d", "-", input=manifest(pod("p", container("c", SLEEP))))
    agent = psutil.Process(node.agent_pid())
    slow, longest = [], [0.0]
    ended = threading.Event()
    other = threading.Thread(target=ask_all_the_time, args=(node, ended, longest))
    other.start()
    for name, bomb in BOMBS.items():
        text = bomb()
        begun = time.monotonic()
        assert node("apply", "-", input=text, check=False).returncode == 2, name
        taken = [time.monotonic() - begun]
        begun = time.monotonic()
        answer = ask_until_refused(node, text)
        assert answer["error"]["kind"] in ("Manifest", "Usage"), (name, answer)
        taken.append(time.monotonic() - begun)
        slow += [f"{name}: {seconds:.1f} s" for seconds in taken if seconds > BOMB_S]
    ended.set()
    other.join()
    assert slow == []
    assert longest[0] < OTHERS_WAIT_S
    peak = int(Path(f"/proc/{agent.pid}/status").read_text().split("VmHWM:")[1].split()[0]) << 10
    assert peak < MOST_BYTES
    assert node.agent_pid() == agent.pid


def ask_all_the_time(node: AttackedNode, ended: threading.Event, longest: list[float]) -> None:
    """Another client: how long it waited at most."""
    while not ended.wait(0.02):
        begun = time.monotonic()
        if node.ask("status") is None:
            return
        longest[0] = max(longest[0], time.monotonic() - begun)


def ask_until_refused(node: AttackedNode, text: str) -> dict[str, Any]:
    """As `ask`, by a client that reads the answer though the agent stopped listening before the request's end."""
    request = {"verb": "apply", "version": minipod.__version__, "files": [{"name": "x", "text": text}]}
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(node.paths.agent_socket)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(json.dumps(request).encode() + b"\n")
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := sock.recv(1 << 16):
                data += chunk
    answer: dict[str, Any] = json.loads(data.splitlines()[-1])
    return answer


SPACES = " " * 60_000
SELECTORS = {
    "selector": ("a," * 10_000_000, f"a,{SPACES}", f"a{SPACES}!", f"a in ({'b,' * 30_000})", "a=" * 30_000),
    "field_selector": (
        f"metadata.name=b,{SPACES}",
        SPACES,
        "metadata.name=a," * 4_000,
        "metadata.name=" + "\\" * 60_001,
    ),
}


@pytest.mark.attack(row=54)
def test_no_selector_takes_the_agent_s_time(node: AttackedNode) -> None:
    node("apply", "-", input=manifest(config_map("m", k="v")))
    for field, texts in SELECTORS.items():
        for text in texts:
            begun = time.monotonic()
            answer = node.ask("get", **{field: text})
            assert answer is not None
            assert "ok" in answer or refused(answer), (field, text[:30], answer)
            assert time.monotonic() - begun < BOMB_S, (field, text[:30])


@pytest.mark.attack(row=54)
def test_a_thousand_idle_watches_and_halves_of_requests_leave_the_agent_to_others(node: AttackedNode) -> None:
    node("run", "-d", "-", input=manifest(pod("p", container("c", SLEEP))))
    agent = psutil.Process(node.agent_pid())
    before = agent.memory_info().rss
    watch = json.dumps({"verb": "get", "version": minipod.__version__, "watch": True}).encode() + b"\n"
    socks = []
    try:
        for number in range(1000):
            sock = socket.socket(socket.AF_UNIX)
            socks.append(sock)
            sock.connect(node.paths.agent_socket)
            # A watch that nobody reads; a request of which nothing more comes; a megabyte of one, refused at some time.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall((watch, b'{"verb":"ge', b"x" * (1 << 20))[number % 3])
        assert node("exec", "p", "--", "echo", "serves").stdout == "serves\n"
        assert agent.memory_info().rss - before < 300 << 20
    finally:
        for sock in socks:
            sock.close()
    assert node.agent_pid() == agent.pid


@pytest.mark.attack(row=54)
def test_secrets_are_in_no_log_and_no_error(node: AttackedNode, canary: Canary) -> None:
    """CVE-2019-11250: the canary's secret is the Secret's; its node hears all outputs and the agent's log."""
    encoded = base64.b64encode(canary.secret.encode()).decode()
    wrong = [
        {**secret("s"), "data": {"k": canary.secret}},  # no base64
        {**secret("s"), "data": {"k": [canary.secret]}},
        {**secret("s"), "stringData": {"k": {"a": canary.secret}}},
        {**secret("s", k=canary.secret), "type": "kubernetes.io/dockerconfigjson"},
        {**secret("s"), "data": {"../k": encoded}},
        {**secret("s"), "data": canary.secret},
    ]
    said = []
    for one in wrong:
        done = node("apply", "-", input=json.dumps(one), check=False)
        assert done.returncode == 2
        answer = node.ask("apply", files=[{"name": "x", "text": json.dumps(one)}])
        assert refused(answer)
        said += [done.stderr, json.dumps(answer)]
    node("apply", "-", input=manifest(secret("s", k=canary.secret)))
    said += [node("describe", "secret", "s").stdout, node("get", "secret", "s", "-o", "wide").stdout]
    said.append(Path(node.paths.root, "agent.log").read_text())
    pieces = (canary.secret[7:23], encoded[:16])  # an error may be cut
    assert [text for text in said if any(piece in text for piece in pieces)] == []
