"""Ephemeral containers and attach on the real kernel (node, root)."""

from __future__ import annotations

import os
import pty
import re
import select
import time
from pathlib import Path

import pytest

from tests.node_fixtures import Node
from tests.patience import SLOWNESS

WAIT_S = 15.0 * SLOWNESS

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "trap 'exit 0' TERM; echo only-here > /marker; while :; do sleep 1 & wait; done"]
  - name: reader
    image: busybox
    stdin: true
    command: [sh, -c, "trap 'exit 0' TERM; while read line; do echo read $line; done; sleep 1000"]
"""


@pytest.fixture
def web(node: Node, tmp_path: Path) -> Node:
    path = tmp_path / "web.yaml"
    path.write_text(POD)
    node("run", "-d", "--until", "ready", path)
    return node


def test_debug_with_a_target_sees_the_target_s_processes_and_its_root(web: Node) -> None:
    script = "ps -o args; cat /proc/1/root/marker; ls /marker"
    done = web("debug", "web", "--image", "busybox", "--target", "main", "-c", "d", "--attach=true", "--", "sh", "-c",
               f"sleep 1; {script}", check=False)  # fmt: skip
    assert done.returncode == 1, "the marker is not in its own root"
    assert "trap 'exit 0' TERM; echo only-here" in done.stdout
    assert "\nonly-here\n" in done.stdout
    (status,) = web.pod("web")["status"]["ephemeralContainerStatuses"]  # type: ignore[index]
    assert status["name"] == "d"
    assert status["state"]["terminated"]["exitCode"] == 1
    assert web.pod("web")["spec"]["ephemeralContainers"][0]["targetContainerName"] == "main"  # type: ignore[index]


def test_debug_without_a_target_has_a_pid_namespace_of_its_own_and_shares_the_network(web: Node) -> None:
    done = web("debug", "web", "--image", "busybox", "--attach=true", "--", "sh", "-c",
               "sleep 1; ps -o pid,args; ip -o addr show eth0")  # fmt: skip
    assert "only-here" not in done.stdout
    assert web.pod("web")["status"]["podIP"] in done.stdout  # type: ignore[index]


def test_debug_of_a_target_that_is_not_there_is_refused(web: Node) -> None:
    done = web("debug", "web", "--image", "busybox", "--target", "nix", "--", "true", check=False)
    assert done.returncode != 0
    assert "targetContainerName" in done.stderr


def test_a_pod_with_a_debug_container_is_edited_and_applied_as_it_is(web: Node, tmp_path: Path) -> None:
    web("debug", "web", "--image", "busybox", "-c", "d", "--", "true")
    read = web("get", "pod", "web", "-o", "yaml").stdout
    shown = re.sub("  resourceVersion: .*\n", "", read)  # what is read is changed by then: its container ends
    file = tmp_path / "shown.yaml"
    file.write_text(shown.replace("  name: web\n", "  labels: {a: b}\n  name: web\n", 1))
    assert web("apply", "-f", file).stdout == "pod/web configured\n"
    assert web.pod("web")["metadata"]["labels"] == {"a": "b"}  # type: ignore[index]
    file.write_text(shown.replace("    name: d\n", "    name: e\n"))
    done = web("apply", "-f", file, check=False)
    assert done.returncode == 2
    assert "spec" in done.stderr


def test_what_is_piped_into_a_debug_container_has_an_end(web: Node) -> None:
    debugging = web.popen("debug", "web", "--image", "busybox", "-i", "-q", "--", "wc", "-c", stdin=-1)
    printed, _ = debugging.communicate("hello\n", timeout=WAIT_S)
    assert (printed, debugging.returncode) == ("6\n", 0)


def test_a_debug_container_that_ends_at_once_shows_its_output_and_its_exit_status(web: Node) -> None:
    """Whether it ends before it is attached, while it is, or after that."""
    for number in range(16):
        script = f"echo out; {'sleep 0.05; ' * (number % 3)}exit 3"
        debugging = web.popen("debug", "web", "--image", "busybox", "-i", "-q", "--", "sh", "-c", script, stdin=-1)
        printed, _ = debugging.communicate("in\n", timeout=WAIT_S)
        assert (printed, debugging.returncode) == ("out\n", 3), number


def test_much_output_of_a_debug_container_is_shown_to_its_end(web: Node) -> None:
    done = web("debug", "web", "--image", "busybox", "-i", "-q", "--", "seq", "1000000")
    assert done.stdout == "".join(f"{number}\n" for number in range(1, 1_000_001))


def test_standard_input_that_is_there_once_ends_with_whoever_had_it(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "once.yaml"
    path.write_text(POD.replace("stdin: true", "stdin: true\n    stdinOnce: true"))
    node("run", "-d", "--until", "ready", path)
    first = node.popen("attach", "web", "-c", "reader", "-i", "-q", stdin=-1)
    assert first.stdin is not None
    assert first.stdout is not None
    first.stdin.write("one\n")
    first.stdin.flush()
    assert first.stdout.readline() == "read one\n"
    first.kill()
    first.communicate()
    done = node("exec", "web", "-c", "reader", "--", "sh", "-c",
                "until pidof sleep > /dev/null; do usleep 20000; done; ls -l /proc/1/fd/0")  # fmt: skip
    assert "pipe:" in done.stdout, "its loop has read the end and it sleeps"


def test_attach_gives_a_container_its_standard_input(web: Node) -> None:
    attached = web.popen("attach", "web", "-c", "reader", "-i", "-q", stdin=-1)
    assert attached.stdin is not None
    assert attached.stdout is not None
    attached.stdin.write("hello\n")
    attached.stdin.flush()
    assert attached.stdout.readline() == "read hello\n"
    attached.terminate()
    attached.communicate()
    assert web("logs", "web", "-c", "reader").stdout == "read hello\n"


def test_debug_it_is_a_shell_on_a_terminal(web: Node) -> None:
    master, slave = pty.openpty()
    shell = web.popen("debug", "web", "--image", "busybox", "-it", "--", "sh", stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    try:
        read_until(master, b"/ # ")
        os.write(master, b"echo $((40 + 2)); tty\n")
        read_until(master, b"42\r\n/dev/pts/0\r\n")
        os.write(master, b"exit 7\n")
        assert shell.wait(WAIT_S) == 7
    finally:
        shell.kill()
        shell.wait()
        os.close(master)


def read_until(fd: int, text: bytes) -> None:
    seen = b""
    deadline = time.monotonic() + WAIT_S
    while text not in seen:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, seen
        seen += os.read(fd, 65536)
