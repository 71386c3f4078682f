"""The command line against a real agent and real containers."""

from __future__ import annotations

import json
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path

import pytest

from tests import leaks
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A manifest of one pod with a container for each script; its path."""

    def manifest(name: str, *scripts: str, restart_policy: str = "Never", **spec: object) -> str:
        containers = [
            {"name": f"c{index}", "image": "busybox", "command": ["sh", "-c", script]}
            for index, script in enumerate(scripts)
        ]
        item = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"restartPolicy": restart_policy, "containers": containers, **spec},
        }
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(item))
        return str(path)

    return manifest


SLOW = f"{60 * SLOWNESS:g}s"
IDLE = "trap 'exit 0' TERM; echo idle; sleep 1000 & wait"


@pytest.mark.vm
def test_run_gives_the_single_containers_exit_status_and_separate_streams(node: Node, write: Write) -> None:
    done = node("run", write("three", "echo out; echo err >&2; exit 3"), check=False)
    assert (done.returncode, done.stdout) == (3, "out\n")
    assert "err\n" in done.stderr
    assert 'pod/three Failed: container "c0" ended with exit code 3' in done.stderr
    assert node("get", "pods").stderr == "No resources found in default namespace.\n"


def test_run_reads_a_manifest_from_stdin_and_loses_no_line(node: Node, write: Write) -> None:
    text = Path(write("many", "seq 1 20000; printf end")).read_text()
    done = node("run", "-", input=text)
    assert done.stdout == "".join(f"{number}\n" for number in range(1, 20001)) + "end\n"


def test_a_bad_manifest_is_reported_with_its_place_and_exits_2(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: bad\nspec:\n  containers:\n  - name: A_b\n    image: x\n"
    )
    done = node("run", path, check=False)
    assert done.returncode == 2
    assert f"{path}:7:" in done.stderr
    assert "spec.containers[0].name" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_pod_of_a_run_that_is_ended_goes_too(node: Node, write: Write, number: int) -> None:
    path = write("going", "trap 'echo told; exit 0' TERM; echo up; sleep 1000 & wait")
    with node.popen("run", path, stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "up\n"
        run.send_signal(number)
        rest = run.stdout.read()
    assert rest == ("told\n" if number == signal.SIGINT else "")
    assert leaks.wait_until_gone(lambda: node("get", "pods", "-o", "name").stdout.split()) == []


@pytest.mark.vm
def test_exec_hands_over_pipes_and_relays_files(node: Node, write: Write, tmp_path: Path) -> None:
    node("run", "-d", write("idle", IDLE))
    assert node("exec", "-i", "idle", "--", "wc", "-c", input="x" * 100_000).stdout == "100000\n"
    assert node("exec", "idle", "--", "sh", "-c", "exit 42", check=False).returncode == 42
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(os.urandom(1_000_000))
    with source.open("rb") as stdin, target.open("wb") as stdout:
        command = node.command("exec", "-i", "idle", "--", "sh", "-c", "readlink /proc/self/fd/0 >&2; cat")
        env = os.environ | node.env
        done = subprocess.run(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=env, check=True)
    assert target.read_bytes() == source.read_bytes()
    assert done.stderr.startswith(b"pipe:")
    node("delete", "pod", "idle")


@pytest.mark.vm
def test_exec_on_a_terminal(node: Node, write: Write) -> None:
    node("run", "-d", write("idle", IDLE))
    master_fd, slave_fd = pty.openpty()
    ioctl(slave_fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    before = termios.tcgetattr(slave_fd)
    options = {"stdin": slave_fd, "stdout": slave_fd, "stderr": slave_fd, "start_new_session": True}
    with node.popen("exec", "-it", "idle", "--", "sh", **options) as shell:
        os.write(master_fd, b"stty size; tty; exit 9\r")
        shell.wait(30)
        shown = os.read(master_fd, 10000).decode()
    assert shell.returncode == 9
    assert "33 101" in shown
    assert "/dev/pts/0" in shown
    assert termios.tcgetattr(slave_fd) == before
    os.close(master_fd)
    os.close(slave_fd)
    node("delete", "pod", "idle")


def test_interrupting_exec_ends_the_command(node: Node, write: Write) -> None:
    node("run", "-d", write("idle", IDLE))
    command = ("exec", "idle", "--", "sh", "-c", "trap 'echo got it; exit 5' INT; echo up; while :; do sleep 0.1; done")
    with node.popen(*command) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "up\n"
        run.send_signal(signal.SIGINT)
        assert run.stdout.read() == "got it\n"
    assert run.returncode == 5
    node("delete", "pod", "idle")


def test_logs_follow_until_the_end_and_know_the_instance_before(node: Node, write: Write) -> None:
    script = "if [ -e /data/twice ]; then echo second; exec sleep 1000; fi; touch /data/twice; echo first; exit 1"
    path = write("again", script, restart_policy="OnFailure", volumes=[{"name": "data", "emptyDir": {}}])
    item = json.loads(Path(path).read_text())
    item["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    Path(path).write_text(json.dumps(item))
    node("run", "-d", "--until", "created", path)
    node("wait", "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/again")
    node("wait", "--for=condition=Ready", "pod/again")
    assert node("logs", "again").stdout == "second\n"
    assert node("logs", "-p", "again").stdout == "first\n"
    with node.popen("logs", "-f", "--timestamps", "again") as follow:
        assert follow.stdout is not None
        assert follow.stdout.readline().endswith("Z second\n")
        node("delete", "pod", "again", "--now")
        assert follow.stdout.read() == ""
    assert follow.returncode == 0


def test_logs_of_all_containers_carry_prefixes(node: Node, write: Write) -> None:
    node("run", "-d", "--until", "succeeded", write("pair", "echo one", "echo two; echo three"))
    assert node("logs", "pair", "--all-containers", "--prefix").stdout.splitlines() == [
        "[pod/pair/c0] one",
        "[pod/pair/c1] two",
        "[pod/pair/c1] three",
    ]
    assert node("logs", "pair", "-c", "c1", "--tail=1").stdout == "three\n"
    node("delete", "pod", "pair")


@pytest.mark.vm
def test_wait_get_describe_events_and_delete_agree(node: Node, write: Write) -> None:
    assert node("run", "-d", write("idle", IDLE)).stdout == "pod/idle\n"
    assert node("wait", "--for=condition=Ready", "pod/idle").stdout == "pod/idle condition met\n"
    name, ready, status, restarts, _ = node("get", "pods", "--no-headers").stdout.split()
    assert (name, ready, status, restarts) == ("idle", "1/1", "Running", "0")
    assert node("get", "pods", "-l", "app=other").stdout == ""
    assert node("get", "pods", "-l", "app=idle", "-o", "name").stdout == "pod/idle\n"
    assert "Started" in node("events", "--for", "pod/idle").stdout
    assert "Restart Count:  0" in node("describe", "pod", "idle").stdout
    with node.popen("wait", "--for=delete", "pod/idle", f"--timeout={30 * SLOWNESS}s") as waiting:
        assert node("delete", "pod", "idle").stdout == 'pod "idle" deleted from default namespace\n'
        assert waiting.wait(30) == 0
    assert node("delete", "pod", "idle", check=False).stderr == 'error: pods "idle" not found\n'


def test_a_watch_follows_a_pod_from_its_start_to_its_end(node: Node, write: Write) -> None:
    node("get", "pods")
    node("run", "-d", write("first", IDLE))
    with node.popen("get", "pods", "-w", "-o", "jsonpath={.metadata.name} {.status.phase}") as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline() == "first Running\n"
        node("delete", "pod", "first", "--now")
        node("run", "-d", "--until", "succeeded", write("second", "true"))
        seen = ""
        while seen != "second Succeeded\n":
            seen = watch.stdout.readline()
        watch.terminate()
    node("delete", "pod", "second")


def test_gc_finds_nothing_where_all_is_well(node: Node, write: Write) -> None:
    node("run", "-d", write("idle", IDLE))
    assert node("gc", "--dry-run").stdout == "nothing was left behind\n"
    node("delete", "pod", "idle")


def test_plan_needs_no_agent(node: Node, write: Write) -> None:
    text = node("plan", write("idle", IDLE)).stdout
    assert "CreateVeth" in text
    assert node.agent_pid() is None
    sections = json.loads(node("plan", "-o", "json", write("idle", IDLE)).stdout)
    assert text.count("\n  ") == sum(len(section["operations"]) for section in sections)


def test_two_commands_at_once_start_one_agent(node: Node, write: Write) -> None:
    started = [node.popen("run", "-d", write(f"pod{index}", IDLE)) for index in range(3)]
    told = [process.communicate(timeout=60 * SLOWNESS)[0] for process in started]
    assert [text.splitlines()[-1] for text in told] == [f"pod/pod{index}" for index in range(3)]  # after any warning
    assert len(node("get", "pods", "-o", "name").stdout.split()) == 3
    assert node("delete", "pods", "--all").returncode == 0


def kill_agent(node: Node, number: int = signal.SIGKILL) -> None:
    pid = node.agent_pid()
    assert pid is not None
    os.kill(pid, number)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_foreground_run_goes_on_when_its_agent_is_killed(node: Node, write: Write, number: signal.Signals) -> None:
    script = "trap 'exit 9' TERM; echo up; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo later; exit 7"
    with node.popen("run", write("tough", script), stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "up\n"
        kill_agent(node, number)
        node("exec", "tough", "--", "touch", "/tmp/go")
        assert run.stdout.read() == "later\n"
    assert run.returncode == 7
    assert node("get", "pods", "-o", "name").stdout == ""


def test_a_run_without_its_agent_is_still_interrupted_gracefully(node: Node, write: Write) -> None:
    path = write("tough", "trap 'echo told; exit 0' TERM; echo up; sleep 1000 & wait")
    with node.popen("run", path) as run:
        assert run.stdout is not None
        while run.stdout.readline() != "up\n":
            pass
        kill_agent(node)
        while "the next one takes over" not in run.stdout.readline():
            pass
        run.send_signal(signal.SIGINT)
        assert "told\n" in run.stdout.read()
    assert node("get", "pods", "-o", "name").stdout == ""


def test_a_stopped_agent_is_given_up_after_the_timeout_and_works_on_once_it_is_continued(node: Node) -> None:
    node("create", "configmap", "one")  # an agent starts
    pid = node.agent_pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        done = node("get", "pods", "--request-timeout=1s", check=False)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert done.returncode == 3
    remedy = f"it is stopped: kill -CONT {pid} continues it"
    assert done.stderr == (
        "error: no answer within 1 s (--request-timeout): "
        f"still waiting for the agent (process {pid}): get pods; {remedy}\n"
    )
    node("get", "pods")


def test_a_pod_is_changed_compared_and_restarted_as_with_kubectl(node: Node, write: Write) -> None:
    path = write("web", IDLE, restart_policy="Always", terminationGracePeriodSeconds=1)
    node("apply", "-f", path)
    node("wait", "--for=condition=Ready", "-f", path, "--timeout", SLOW)
    uid = ("get", "pod", "web", "-o", "jsonpath={.metadata.uid}")
    first = node(*uid).stdout
    assert node("diff", "-f", path).stdout == ""
    assert node("label", "-f", path, "tier=front").stdout == "pod/web labeled\n"
    assert node("set", "image", "pod/web", "c0=busybox:latest").stdout == "pod/web image updated\n"
    changed = node("diff", "-f", path, check=False)
    assert (changed.returncode, "-    image: busybox:latest\n+    image: busybox\n" in changed.stdout) == (1, True)
    refused = node("set", "env", "pod/web", "A=b", check=False)
    assert refused.returncode == 2
    assert refused.stderr.endswith("the same with --dry-run=client -o yaml | minipod replace --force -f -\n")
    assert node("rollout", "restart", "pod/web").stdout == "pod/web restarted: deleted and created again\n"
    node("wait", "--for=condition=Ready", "pod", "-l", "tier=front", "--timeout", SLOW)
    assert node(*uid).stdout not in ("", first)
    template = '{{range .items}}{{.kind}}/{{.metadata.name}} {{(index .spec.containers 0).image}}{{"\\n"}}{{end}}'
    assert node("get", "all", "-o", f"go-template={template}").stdout == "Pod/web busybox:latest\n"
    assert node("delete", "pods", "--all", "--wait=false").stdout == 'pod "web" deleted from default namespace\n'
    node("wait", "--for=delete", "pod/web", "--timeout", SLOW)
