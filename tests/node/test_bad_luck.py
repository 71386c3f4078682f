"""Everything that can go wrong around a pod: kills of anything at any moment, full disks, wrong places, odd names."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from minipod.agent import processes
from minipod.kernel.mount import mount, umount
from tests import builders
from tests.another_user import minipod_as_nobody
from tests.builders import container, empty_dir
from tests.builders import mount as volume_mount
from tests.node_fixtures import Node
from tests.volume_pods import wait_for

STUBBORN = "trap '' TERM; while :; do sleep 0.1; done"


def manifest(folder: Path, name: str, *containers: builders.Object, **spec: Any) -> Path:
    path = folder / f"{name[:50]}.yaml"
    path.write_text(builders.manifest(builders.pod(name, *containers, **spec)))
    return path


def processes_of(node: Node, word: str) -> list[psutil.Process]:
    """The agent or spawner of this instance."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if word in command and node.paths.root in command:
                found.append(process)
    return found


def kill_all(node: Node, *words: str) -> None:
    for process in [found for word in words for found in processes_of(node, word)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    place.mkdir(parents=True, exist_ok=True)
    mount("tmpfs", str(place), "tmpfs", 0, f"size={size},mode=755")
    try:
        yield place
    finally:
        umount(str(place), 2)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_killed_at_any_moment_the_next_command_finds_all_in_order(
    node: Node, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    words = ("run", "minipod/serve", "minipod.runtime.spawner")
    for number in range(5):
        volumes = [empty_dir("d"), empty_dir("m", medium="Memory", sizeLimit="1Mi")]
        mounts = [volume_mount("d", "/d"), volume_mount("m", "/m")]
        init = [container("i", "echo init", volumeMounts=mounts)]
        main = container("a", "trap 'exit 0' TERM; while :; do echo x > /m/x; sleep 0.05; done", volumeMounts=mounts)
        share = dice.random() < 0.5
        path = manifest(
            tmp_path,
            f"p{number}",
            main,
            init=init,
            volumes=volumes,
            shareProcessNamespace=share,
            restartPolicy="Always",
            terminationGracePeriodSeconds=3,  # a shell without its trap yet, as process 1, ignores TERM
        )
        detached = dice.random() < 0.5
        with node.popen("run", *(["-d"] if detached else []), path, stdout=subprocess.DEVNULL) as run:
            time.sleep(dice.random() * dice.choice((0.2, 0.6)))
            victims = dice.sample(words, dice.randint(1, 3))
            if "run" in victims:
                run.kill()
            kill_all(node, *(word for word in victims if word != "run"))
            node("get", "pods")
            run.send_signal(signal.SIGINT)
            run.wait(timeout=30)
        names = node("get", "pods", "-o", "name").stdout.split()
        if detached and names:
            node("delete", *names, "--ignore-not-found")
        deadline = time.monotonic() + 20
        while node("get", "pods", "-o", "name").stdout:
            assert time.monotonic() < deadline, "the pod of a foreground run that was killed stays"
            time.sleep(0.1)
        node("gc")


def test_force_and_a_second_interrupt_do_not_wait_but_a_grace_of_nothing_does(node: Node, tmp_path: Path) -> None:
    path = manifest(tmp_path, "stubborn", container("a", STUBBORN), terminationGracePeriodSeconds=60)
    node("run", "-d", path)
    begun = time.monotonic()
    assert node("delete", "pod", "stubborn", "--force", "--grace-period=0").stderr == ""
    assert time.monotonic() - begun < 1.5
    with node.popen("run", path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        assert run.stdout is not None
        while "ready" not in run.stdout.readline():
            pass
        run.send_signal(signal.SIGINT)
        while "terminating" not in run.stdout.readline():
            pass
        begun = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(0.4)  # of two interrupts at once the second may be the terminal's own: it does not count
        run.send_signal(signal.SIGINT)
        rest = run.stdout.read()
        run.wait()
        assert time.monotonic() - begun < 1.5
        assert rest.count("exited ") == 1, "an exit is reported once"


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        ("nosuch", 127, "executable file not found in $PATH"),
        ("/no/such", 127, "no such file or directory"),
        ("/etc/passwd", 126, "permission denied"),
        ("/etc", 126, "is a directory"),
        ("/tmp/script", 127, "its interpreter is not there"),
        ("false", 1, ""),
    ],
)
def test_exec_of_what_cannot_be_executed_exits_as_a_shell_does(
    node: Node, tmp_path: Path, command: str, status: int, words: str
) -> None:
    script = "printf '#!/nothing\\n' > /tmp/script; chmod +x /tmp/script; sleep 1000"
    node("run", "-d", manifest(tmp_path, "e", container("a", script)))
    node("exec", "e", "--", "sh", "-c", "until [ -x /tmp/script ]; do sleep 0.05; done")
    done = node("exec", "e", "--", command, check=False)
    assert done.returncode == status
    assert words in done.stderr


@pytest.mark.parametrize("namespace", ["default", "k" * 63])
def test_a_pod_whose_name_is_as_long_as_can_be(node: Node, tmp_path: Path, namespace: str) -> None:
    path = manifest(tmp_path, "n" * 253, container("a", "hostname"), metadata={"namespace": namespace})
    done = node("run", path)
    assert done.stdout == "n" * 63 + "\n"


def test_two_runs_of_one_pod_at_once_are_one_pod(node: Node, tmp_path: Path) -> None:
    path = manifest(tmp_path, "one", container("a", "sleep 1; echo said"))
    runs = [node.popen("run", path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    said = sorted((run.communicate(timeout=60)[0], run.returncode) for run in runs)
    assert sorted(code for _, code in said) == [0, 1]
    (refused,) = (text for text, code in said if code == 1)
    assert 'pod "one" already exists' in refused
    assert "minipod delete pod one" in refused


def test_a_full_root_stops_no_pod_and_keeps_none_from_ending(node: Node, tmp_path: Path) -> None:
    with small_disk(Path(node.paths.root), "300k") as root:
        path = manifest(tmp_path, "full", container("a", "while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 7"))
        node("run", "-d", path)
        node("exec", "full", "--", "true")
        (root / "rest").write_bytes(b"")
        with contextlib.suppress(OSError), (root / "rest").open("wb", buffering=0) as rest:
            while True:
                rest.write(bytes(4096))
        refused = node("run", "-d", manifest(tmp_path, "second", container("a", "true")), check=False)
        assert refused.returncode == 3
        assert "no space left" in refused.stderr.lower()
        node("exec", "full", "--", "touch", "/tmp/go")
        node("wait", "--for=jsonpath={.status.containerStatuses[0].state.terminated.exitCode}=7", "pod/full")
        (root / "rest").unlink()
        node("delete", "pod", "full", "second", "--ignore-not-found")
        assert "nothing was left" in node("gc").stdout
        node.close()


def test_with_a_full_state_a_container_waits_with_its_output_and_loses_no_line(node: Node, tmp_path: Path) -> None:
    images = os.readlink(f"{node.paths.state}/images")
    with small_disk(Path(node.paths.state), "2m") as state:
        (state / "images").symlink_to(images)
        script = "i=0; while :; do i=$((i+1)); echo line $i $(seq 300); sleep 0.02; done"
        node("run", "-d", manifest(tmp_path, "talker", container("a", script)))
        rest = state / "rest"
        with contextlib.suppress(OSError), rest.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        waited_with = numbers_of_talker(node)
        wait_for(lambda: "waits until there is space" in Path(node.paths.root, "agent.log").read_text())
        assert node("exec", "talker", "--", "echo", "alive").stdout == "alive\n"
        rest.unlink()
        wait_for(lambda: len(numbers_of_talker(node)) > len(waited_with) + 100)
        node("delete", "pod", "talker", "--force")
        node.close()


def numbers_of_talker(node: Node) -> list[int]:
    """The numbers of its lines, which are whole; none is missing."""
    lines = node("logs", "talker").stdout.splitlines()
    assert all(line.startswith("line ") and line.endswith(" 300") for line in lines)
    numbers = [int(line.split()[1]) for line in lines]
    assert numbers == list(range(1, len(numbers) + 1))
    return numbers


def test_an_agent_starts_after_a_boot_on_a_full_disk_and_stores_the_boot_once_there_is_room(
    node: Node, tmp_path: Path
) -> None:
    images = os.readlink(f"{node.paths.state}/images")
    with small_disk(Path(node.paths.state), "3m") as state:
        (state / "images").symlink_to(images)
        node("run", "-d", manifest(tmp_path, "p", container("a", "exec sleep 1000")))
        kill_all(node, "serve")
        wait_for(lambda: processes_of(node, "serve") == [])
        with contextlib.closing(sqlite3.connect(state / "minipod.db")) as database, database:
            database.execute("UPDATE meta SET value='an earlier one' WHERE key='boot_id'")
        rest = state / "rest"
        with contextlib.suppress(OSError), rest.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        assert node("get", "pod", "p", "-o", "jsonpath={.status.phase}").stdout == "Running"
        assert node("exec", "p", "--", "echo", "alive").stdout == "alive\n"
        log = Path(node.paths.root, "agent.log").read_text()
        assert f"{state}: no space left on device: pods go on, but hardly any change can be stored" in log
        refused = node("run", "-d", manifest(tmp_path, "second", container("a", "true")), check=False)
        assert f"no space left on the device: free some on the file system of {state}" in refused.stderr
        rest.unlink()
        node("run", "-d", manifest(tmp_path, "second", container("a", "true")))
        kill_all(node, "serve")
        wait_for(lambda: processes_of(node, "serve") == [])
        with contextlib.closing(sqlite3.connect(state / "minipod.db")) as database:
            stored = database.execute("SELECT value FROM meta WHERE key='boot_id'").fetchone()
        assert stored == (processes.boot_id(),), "the next agent takes this for the same boot"
        node("delete", "pod", "p", "second", "--force")
        node.close()


def test_a_root_that_is_too_long_and_a_state_that_cannot_be_written_are_reported(node: Node, tmp_path: Path) -> None:
    path = manifest(tmp_path, "p", container("a", "true"))
    done = node("--run-dir", tmp_path / ("r" * 100), "run", path, check=False)
    assert done.returncode == 2
    assert "too long for unix sockets" in done.stderr
    (tmp_path / "file").write_text("")
    done = node("--data-dir", tmp_path / "file", "--run-dir", f"{node.paths.root}2", "run", path, check=False)
    shutil.rmtree(f"{node.paths.root}2")
    assert done.returncode == 3
    assert "choose another --data-dir" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_configuration_that_a_running_agent_does_not_have_is_reported(node: Node, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("log_max_files = 7\n")
    path = manifest(tmp_path, "p", container("a", "true"))
    node("run", path)
    assert f"{config} is not used" in node("--config", config, "run", path).stderr
    config.write_text("log_max_files = -7\n")
    done = node("--config", config, "run", path, check=False)
    assert f"{config}: log_max_files" in done.stderr
    assert done.returncode == 2


def test_without_root_plan_works_and_the_rest_says_what_it_needs(node: Node, tmp_path: Path) -> None:
    text = builders.manifest(builders.pod("p", container("a", "true")))
    node("run", "-", input=text)
    assert "execve sh -c true" in minipod_as_nobody("plan", "-", environment=node.env, text=text).stdout
    for command in (["run", "-"], ["get", "pods"], ["delete", "pod", "p"]):
        done = minipod_as_nobody(*command, environment=node.env, text=text)
        assert done.returncode == 3
        assert "needs root: sudo minipod" in done.stderr
