"""`minipod run` against a fake agent: what is shown, in which order, on which descriptor, and the exit status."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minipod.cli.show.progress import Progress
from minipod.cli.verbs.run import Signals, exit_status
from tests.conftest import CHECKOUT
from tests.unit.cli_fakes import FakeAgent, Object, Peer, fake_agent, minipod_command

MANIFEST = "apiVersion: v1\nkind: Pod\n"


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "pod.yaml"
    path.write_text(MANIFEST)
    return str(path)


def log_line(text: str, stream: str = "stdout", tag: str = "F", second: int = 0) -> bytes:
    return f"2026-01-02T03:04:{second:02d}Z {stream} {tag} {text}\n".encode()


class Script:
    """Plays a pod with containers for one `run` request."""

    def __init__(self, agent: FakeAgent, folder: Path, *containers: str) -> None:
        self.folder = folder / "logs"
        self.containers = containers
        self.said: list[str] = []
        agent.handlers["run"] = self.run
        self.final: Object = {"phase": "Succeeded", "exit_codes": dict.fromkeys(containers, 0)}
        self.waits_for_interrupts = 0

    def run(self, peer: Peer, _request: Object) -> None:
        named = {"namespace": "default", "name": "web"}
        peer.send({"event": "warning", "message": "spec.priority: not used"})
        containers = [{"name": name, "init": False} for name in self.containers]
        port = {"host_ip": "", "host_port": 8080, "container": "app", "container_port": 80, "protocol": "TCP"}
        ports = [port, {**port, "host_ip": "127.0.0.1", "host_port": 53, "protocol": "UDP"}]
        found = {"uid": "u", "log_directory": str(self.folder), "containers": containers, "ports": ports}
        peer.send({"event": "pod", **named, **found})
        peer.send({"event": "step", **named, "step": "ip", "message": "10.88.0.2"})
        for name in self.containers:
            path = self.folder / name / "0.log"
            path.parent.mkdir(parents=True)
            path.write_bytes(log_line(f"hello from {name}", second=1))
            peer.send({"event": "step", **named, "step": "container", "message": f"{name} runs"})
            peer.send({"event": "log", **named, "container": name, "path": str(path), "restart": 0})
        for _ in range(self.waits_for_interrupts):
            message = peer.receive()
            self.said.append(message["verb"] if message else "gone")
        for name in self.containers:
            with (self.folder / name / "0.log").open("ab") as file:
                file.write(log_line("trouble", "stderr", second=2) + log_line("last words", tag="P", second=3))
        peer.send({"ok": True, "pods": [{**named, **self.final}]})
        peer.receive()


def test_steps_go_to_stderr_and_output_where_the_container_wrote_it(
    tmp_path: Path, manifest: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with fake_agent(tmp_path) as agent:
        Script(agent, tmp_path, "app")
        assert minipod_command(agent.paths, "run", manifest) == 0
        assert agent.requests[0]["files"] == [{"name": manifest, "text": MANIFEST}]
        assert (agent.requests[0]["detach"], agent.requests[0]["namespace"]) == (False, None)
    captured = capfd.readouterr()
    assert captured.out == "hello from app\nlast words\n"
    assert captured.err.splitlines() == [
        "warning: spec.priority: not used",
        "ip           10.88.0.2",
        "port         8080 → app:80",
        "port         127.0.0.1:53 → app:80/UDP",
        "container    app runs",
        "trouble",
        "pod/web Succeeded (exit codes: app 0)",
    ]


def test_lines_of_several_containers_carry_aligned_names(
    tmp_path: Path, manifest: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with fake_agent(tmp_path) as agent:
        Script(agent, tmp_path, "app", "sidecar")
        assert minipod_command(agent.paths, "run", manifest) == 0
    out = capfd.readouterr().out.splitlines()
    assert sorted(out) == [
        "app     | hello from app",
        "app     | last words",
        "sidecar | hello from sidecar",
        "sidecar | last words",
    ]


@pytest.mark.parametrize(
    ("containers", "code", "status"), [(("app",), 42, 42), (("app", "side"), 42, 1), (("app",), 0, 1)]
)
def test_a_failed_pod_gives_the_single_containers_code_or_1(
    tmp_path: Path,
    manifest: str,
    capfd: pytest.CaptureFixture[str],
    containers: tuple[str, ...],
    code: int,
    status: int,
) -> None:
    with fake_agent(tmp_path) as agent:
        script = Script(agent, tmp_path, *containers)
        script.final = {"phase": "Failed", "reason": "Error", "exit_codes": {"app": code}}
        assert minipod_command(agent.paths, "run", manifest) == status
    assert "pod/web Failed: Error\n" in capfd.readouterr().err


def test_the_first_interrupt_is_graceful_and_the_second_is_not(
    tmp_path: Path, manifest: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Progress.show

    def show_then_interrupt(self: Progress, event: Object) -> None:
        shown(self, event)
        if event["event"] == "log":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Progress, "show", show_then_interrupt)
    monkeypatch.setattr("minipod.cli.verbs.run.SAME_S", 0.0)
    with fake_agent(tmp_path) as agent:
        script = Script(agent, tmp_path, "app")
        script.waits_for_interrupts = 2
        script.final = {"phase": "Running", "exit_codes": {}}
        assert minipod_command(agent.paths, "run", manifest) == 130
        assert script.said == ["interrupt", "kill"]
    captured = capfd.readouterr()
    assert "ending gracefully; interrupt again to end at once" in captured.err
    assert captured.out == "hello from app\nlast words\n"


def test_two_interrupts_within_300_ms_are_one() -> None:
    cases: tuple[tuple[list[float], list[str]], ...] = (
        ([0.0], ["interrupt"]),
        ([0.0, 0.001], ["interrupt"]),  # timeout -s INT
        ([0.0, 0.299], ["interrupt"]),
        ([0.0, 0.3], ["interrupt", "kill"]),
        ([5.0, 5.2, 5.4], ["interrupt", "kill"]),
        ([5.0, 6.0, 6.1, 7.0], ["interrupt", "kill", "kill"]),
    )
    for times, wanted in cases:
        sent: list[Object] = []
        signals = Signals(sent.append, lambda _text: None, iter(times).__next__)
        for _ in times:
            signals.handle(signal.SIGINT, None)
        assert [message["verb"] for message in sent] == wanted, times


def test_detached_prints_the_name_and_shows_no_steps(
    tmp_path: Path, manifest: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with fake_agent(tmp_path) as agent:
        Script(agent, tmp_path, "app")
        assert minipod_command(agent.paths, "run", "-d", "--until=ready", "-n", "team", manifest) == 0
        request = agent.requests[0]
        assert (request["detach"], request["until"], request["namespace"]) == (True, "ready", "team")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("pod/web\n", "warning: spec.priority: not used\n")


def test_a_detached_run_that_takes_too_long_says_how_the_pods_stand(
    tmp_path: Path, manifest: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def slow(peer: Peer, request: Object) -> None:
        peer.send({"event": "pod", "namespace": "default", "name": "web", "containers": []})
        peer.receive()

    with fake_agent(tmp_path) as agent:
        agent.handlers["run"] = slow
        assert minipod_command(agent.paths, "run", "-d", "--timeout=100ms", manifest) == 1
    told = capfd.readouterr().err
    assert told.startswith(
        "error: timed out waiting for the pods to be running: pod/web 1/1 Running; they keep running"
    )


def test_a_bad_manifest_shows_every_finding_and_exits_2(
    tmp_path: Path, manifest: str, capfd: pytest.CaptureFixture[str]
) -> None:
    findings = ["spec.containers: Required value", "metadata.name: Required value: name or generateName is required"]
    with fake_agent(tmp_path) as agent:
        agent.handlers["run"] = lambda peer, _: peer.fail("Manifest", f"{manifest}: 2 errors", 2, errors=findings)
        assert minipod_command(agent.paths, "run", manifest) == 2
    assert capfd.readouterr().err.splitlines() == [f"error: {manifest}: 2 errors", *(f"  {text}" for text in findings)]


def test_a_runtime_failure_exits_3_after_the_logs(
    tmp_path: Path, manifest: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "0.log"

    def fail(peer: Peer, _request: Object) -> None:
        path.write_bytes(log_line("no such table"))
        peer.send({"event": "log", "namespace": "default", "name": "web", "container": "app", "path": str(path)})
        peer.fail("Runtime", 'pod "web": no address is free', 3)

    with fake_agent(tmp_path) as agent:
        agent.handlers["run"] = fail
        assert minipod_command(agent.paths, "run", manifest) == 3
    captured = capfd.readouterr()
    assert captured.out == "no such table\n"
    assert captured.err.endswith('error: pod "web": no address is free\n')


def test_a_manifest_that_is_no_text_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pod.bin"
    path.write_bytes(b"kind: \xff")
    with fake_agent(tmp_path) as agent:
        assert minipod_command(agent.paths, "run", str(path)) == 2
    assert capfd.readouterr().err == f"error: {path}: not UTF-8 text: byte 6 is 0xff\n"


def test_exit_status_of_several_pods() -> None:
    succeeded, failed = {"phase": "Succeeded"}, {"phase": "Failed", "exit_codes": {"a": 7}}
    assert exit_status([succeeded, succeeded], 2) == 0
    assert exit_status([succeeded, failed], 2) == 1
    assert exit_status([failed], 1) == 7
    assert exit_status([{"phase": "Running"}], 1) == 130


def test_lines_that_come_together_are_shown_in_the_order_of_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    progress = Progress()
    progress.show({"event": "pod", "namespace": "default", "name": "web", "containers": [{"name": "a"}, {"name": "b"}]})
    paths = {name: tmp_path / name / "0.log" for name in ("a", "b")}
    for name, path in paths.items():
        progress.show({"event": "log", "namespace": "default", "name": "web", "container": name, "path": str(path)})
    for name, seconds in (("a", (1, 3)), ("b", (2, 4))):
        paths[name].parent.mkdir(exist_ok=True)
        paths[name].write_bytes(b"".join(log_line(str(second), second=second) for second in seconds))
    progress.finish()
    assert capfd.readouterr().out == "a | 1\nb | 2\na | 3\nb | 4\n"


@pytest.mark.parametrize("plain", [False, True])
def test_a_terminal_gets_colours_unless_it_wants_none(tmp_path: Path, manifest: str, plain: bool) -> None:
    master_fd, slave_fd = pty.openpty()
    with fake_agent(tmp_path) as agent:
        Script(agent, tmp_path, "app", "db")
        env = os.environ | {"TERM": "xterm", "PYTHONPATH": str(CHECKOUT)} | ({"NO_COLOR": "1"} if plain else {})
        paths = ["--run-dir", agent.paths.root, "--data-dir", agent.paths.state]
        command = [sys.executable, "-m", "minipod", "run", manifest, *paths]
        assert subprocess.run(command, stdout=slave_fd, stderr=slave_fd, env=env, check=False).returncode == 0
    shown = os.read(master_fd, 10000).decode()
    os.close(master_fd)
    os.close(slave_fd)
    assert ("\x1b[" in shown) is not plain
    assert ("\x1b[36mapp | \x1b[0mhello from app" in shown) is not plain
