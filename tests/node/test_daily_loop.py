"""`run NAME --image`, and changing a manifest and applying it again, on the real kernel."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

from tests.node_fixtures import Node
from tests.patience import SLOWNESS
from tests.volume_pods import wait_for

BUSYBOX = ("--image=busybox", "--restart=Never")


def test_run_of_an_image_is_a_command_with_input_output_and_exit_status(node: Node) -> None:
    script = "read line; echo got $line; echo err >&2; exit 7"
    words = ("run", "once", *BUSYBOX, "-i", "--rm", "--env=A=b", "--command", "--", "sh", "-c", script)
    done = node(*words, input="hello\n", check=False)
    assert (done.returncode, done.stdout) == (7, 'got hello\npod "once" deleted from default namespace\n')
    assert done.stderr.splitlines()[-2:] == ["err", "pod default/once terminated (Error)"]
    assert node("get", "pods").stderr == "No resources found in default namespace.\n"


def test_the_pod_of_run_rm_ends_with_a_command_that_is_killed(node: Node) -> None:
    words = ("run", "left", *BUSYBOX, "-i", "--rm", "--command", "--", "sh", "-c", "trap 'exit 0' TERM; echo up; cat")
    command = node.popen(*words, stdin=subprocess.PIPE)
    assert command.stdout is not None
    assert command.stdout.readline() == "up\n"
    command.kill()
    command.communicate()
    wait_for(lambda: node("get", "pods", "-o", "name").stdout == "")


def test_a_changed_manifest_is_applied_by_what_the_error_says(node: Node, tmp_path: Path) -> None:
    manifest = tmp_path / "a pod.yaml"
    pod = node("run", "web", *BUSYBOX, "--dry-run=client", "-o", "yaml", "--command", "--", "sh", "-c", "SCRIPT").stdout
    script = "trap 'exit 0' TERM; echo NUMBER; while :; do sleep 0.1; done"
    for number in ("1", "2"):
        manifest.write_text(pod.replace("SCRIPT", json.dumps(script.replace("NUMBER", number))))
        done = node("apply", "-f", manifest, check=number == "1")
        wait_for(lambda: node("logs", "web", check=False).stdout == "1\n")
    assert done.returncode == 2
    assert "spec.containers[0].command: cannot be changed" in done.stderr
    remedy = shlex.split(done.stderr.strip().rpartition(": minipod ")[2])
    assert node(*remedy).stdout == "pod/web configured\n"
    wait_for(lambda: node("logs", "web", check=False).stdout == "2\n")
    assert (
        node("replace", "--force", "-f", manifest).stdout
        == 'pod "web" deleted from default namespace\npod/web replaced\n'
    )


def test_timeout_s_two_interrupts_leave_the_pod_its_grace_period(node: Node, tmp_path: Path) -> None:
    pod = node(
        "run", "slow", *BUSYBOX, "--dry-run=client", "-o", "yaml", "--command", "--", "sh", "-c", "SCRIPT"
    ).stdout
    manifest = tmp_path / "slow.yaml"
    script = "trap 'sleep 0.5; echo graceful; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    manifest.write_text(pod.replace("SCRIPT", json.dumps(script)))
    command = node.popen("run", manifest, stderr=subprocess.DEVNULL)
    assert command.stdout is not None
    assert command.stdout.readline() == "up\n"
    for _ in range(2):
        os.kill(command.pid, signal.SIGINT)
    assert command.communicate(timeout=60 * SLOWNESS)[0] == "graceful\n"
