"""No line and no exit code is lost, whichever of agent and spawner dies: numbered lines against what the log has."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from minipod.cli.figures import spawners
from tests.builders import container, host_path, manifest, mount, pod
from tests.failpoints import armed
from tests.node.test_spawner_ends import KNOWS_ENDS_OF_OTHERS
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

WAIT_S = 30 * SLOWNESS
FIRST, LAST = 500, 6000
#: More than a pipe holds after the gate has opened. `/t/done` is written by the container itself: not by SIGPIPE.
SCRIPT = f"""
w() {{ while [ $i -lt $1 ]; do i=$((i+1)); echo "$i {"." * 90}"; done; }}
i=0; w {FIRST}; touch /t/written
while [ ! -e /t/gate ]; do sleep 0.02; done
w {LAST}; touch /t/done; exit 3
"""
SHORT = SCRIPT.replace(str(LAST), str(FIRST + 500))  # fits into a pipe


class Pod:
    def __init__(self, node: Node, folder: Path, script: str = SCRIPT) -> None:
        self.node = node
        self.truth = folder / "t"
        self.truth.mkdir()
        main = container("c", script, volumeMounts=[mount("t", "/t")])
        (folder / "pod.yaml").write_text(manifest(pod("numbers", main, volumes=[host_path("t", self.truth)])))
        node("run", "-d", folder / "pod.yaml")
        wait_for((self.truth / "written").exists)

    def open_gate(self) -> None:
        (self.truth / "gate").touch()

    def has_written_all(self) -> bool:
        return (self.truth / "done").exists()

    def numbers(self) -> list[int]:
        return [int(line.split()[0]) for line in self.node("logs", "numbers").stdout.splitlines()]

    def end(self) -> tuple[int, str]:
        """The exit code and its reason, once an agent knows them."""
        self.node("wait", "pod/numbers", "--for=jsonpath={.status.containerStatuses[0].state.terminated}")
        found = self.node.pod("numbers")["status"]["containerStatuses"][0]["state"]["terminated"]  # type: ignore[index]
        return found["exitCode"], found["reason"]

    def pid(self) -> int:
        (record,) = Path(self.node.paths.root, "containers").glob("*/container.json")
        pid: int = json.loads(record.read_bytes())["status"]["pid"]
        return pid

    def spawner(self) -> int:
        (found,) = spawners(f"{self.node.paths.root}/exits")
        return found

    def agent(self) -> int:
        found = self.node.agent_pid()
        assert found is not None
        return found


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def kill(*pids: int) -> None:
    found = [psutil.Process(pid) for pid in pids]
    for process in found:
        process.send_signal(signal.SIGKILL)
    for process in found:
        wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)  # noqa: B023


def held_elsewhere(pod: Pod, before: int) -> bool:
    """Whether the spawner after that one has the container's pipes."""
    found = [pid for pid in spawners(f"{pod.node.paths.root}/exits") if pid != before]
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for pid in found for fd in os.listdir(f"/proc/{pid}/fd")]
    return sum(link.startswith("pipe:") for link in links) >= 2


def test_the_last_container_ends_while_no_agent_runs(node: Node, tmp_path: Path) -> None:
    short = Pod(node, tmp_path, SHORT)
    spawner = psutil.Process(short.spawner())
    kill(short.agent())
    short.open_gate()
    wait_for(lambda: not spawner.is_running() or spawner.status() == psutil.STATUS_ZOMBIE)
    assert short.end() == (3, "Error")
    assert short.numbers() == list(range(1, FIRST + 501))


def test_the_spawner_dies_and_later_the_agent(node: Node, tmp_path: Path) -> None:
    long = Pod(node, tmp_path)
    before = long.spawner()
    kill(before)
    wait_for(lambda: held_elsewhere(long, before))
    kill(long.agent())
    long.open_gate()
    node("get", "pods")
    wait_for(long.has_written_all)
    assert long.end() == ((3, "Error") if KNOWS_ENDS_OF_OTHERS else (137, "ContainerStatusUnknown"))
    assert long.numbers() == list(range(1, LAST + 1))


def test_the_spawner_dies_then_the_agent_and_then_the_container_ends(node: Node, tmp_path: Path) -> None:
    short = Pod(node, tmp_path, SHORT)
    before = short.spawner()
    kill(before)
    wait_for(lambda: held_elsewhere(short, before))
    kill(short.agent())
    short.open_gate()
    wait_for(short.has_written_all)
    assert short.end() == ((3, "Error") if KNOWS_ENDS_OF_OTHERS else (137, "ContainerStatusUnknown"))
    assert short.numbers() == list(range(1, FIRST + 501))


def test_both_die_at_once_and_the_container_waits_for_the_next_agent(node: Node, tmp_path: Path) -> None:
    long = Pod(node, tmp_path)
    kill(long.spawner(), long.agent())
    long.open_gate()
    waits_in = Path(f"/proc/{long.pid()}/wchan")
    wait_for(lambda: "pipe_write" in waits_in.read_text())  # its pipe is full
    assert not long.has_written_all()
    node("get", "pods")
    wait_for(long.has_written_all)
    assert long.end() == ((3, "Error") if KNOWS_ENDS_OF_OTHERS else (137, "ContainerStatusUnknown"))
    assert long.numbers() == list(range(1, LAST + 1))
    assert "Lost" not in node("events").stdout


def test_what_ends_while_both_are_dead_ran_to_its_end_and_an_event_says_what_is_lost(
    node: Node, tmp_path: Path
) -> None:
    short = Pod(node, tmp_path, SHORT)
    wait_for(lambda: len(short.numbers()) == FIRST)
    kill(short.spawner(), short.agent())
    short.open_gate()
    wait_for(short.has_written_all)
    assert short.end() == (137, "ContainerStatusUnknown")
    assert short.numbers() == list(range(1, FIRST + 1))
    assert "container c: agent and spawner were dead when it ended: exit code and last output are lost" in (
        node("events").stdout
    )


#: lines in two halves, so that there is an unfinished one at each moment
HALVES = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo -n $i; sleep 0.002; echo ' .'; done; echo -n end; exit 4"


@pytest.mark.parametrize("nth", [1, 40])
@pytest.mark.parametrize("point", ["log.read", "log.written"])
def test_the_agent_dies_between_pipe_and_log(node: Node, tmp_path: Path, point: str, nth: int) -> None:
    (tmp_path / "pod.yaml").write_text(manifest(pod("numbers", container("c", HALVES))))
    with armed(node, point, nth=nth) as hit:
        node("run", "-d", tmp_path / "pod.yaml", check=False)
        hit.wait()
    node("wait", "pod/numbers", "--for=jsonpath={.status.containerStatuses[0].state.terminated}")
    (status,) = node.pod("numbers")["status"]["containerStatuses"]  # type: ignore[index]
    assert (status["state"]["terminated"]["exitCode"], status["restartCount"]) == (4, 0), status
    assert node("logs", "numbers").stdout.split("\n") == [*(f"{number} ." for number in range(1, 301)), "end", ""]


def test_the_agent_dies_many_times_while_there_is_much_output(node: Node, tmp_path: Path) -> None:
    script = f'i=0; while [ $i -lt 60000 ]; do i=$((i+1)); echo "$i {"." * 40}"; done; exit 4'
    (tmp_path / "pod.yaml").write_text(manifest(pod("numbers", container("c", script))))
    node("run", "-d", tmp_path / "pod.yaml")
    for _ in range(8):
        pid = node.agent_pid()
        if pid is not None:
            kill(pid)
        node("get", "pods")
    node("wait", "pod/numbers", "--for=jsonpath={.status.containerStatuses[0].state.terminated}")
    numbers = [int(line.split()[0]) for line in node("logs", "numbers").stdout.splitlines()]
    assert numbers == list(range(1, 60001))


@pytest.mark.parametrize("point", ["spawner.answered", "spawner.recorded"])
def test_the_spawner_dies_during_a_start_or_an_end(node: Node, tmp_path: Path, point: str) -> None:
    (tmp_path / "pod.yaml").write_text(manifest(pod("numbers", container("c", "seq 1 100; sleep 0.2; exit 5"))))
    with armed(node, point) as hit:
        node("run", "-d", tmp_path / "pod.yaml")
        hit.wait()
        node("wait", "pod/numbers", "--for=jsonpath={.status.containerStatuses[0].state.terminated}")
    (status,) = node.pod("numbers")["status"]["containerStatuses"]  # type: ignore[index]
    assert (status["state"]["terminated"]["exitCode"], status["restartCount"]) == (5, 0)
    assert node("logs", "numbers").stdout.split() == [str(number) for number in range(1, 101)]


def test_a_command_goes_on_when_the_spawner_dies(node: Node, tmp_path: Path) -> None:
    short = Pod(node, tmp_path)
    command = node.popen("exec", "numbers", "--", "sh", "-c", "echo begun; cat /t/fifo; exit 6", stderr=subprocess.PIPE)
    assert command.stdout is not None
    os.mkfifo(short.truth / "fifo")
    assert command.stdout.readline() == "begun\n"
    kill(short.spawner())
    (short.truth / "fifo").write_text("more\n")
    output, errors = command.communicate(timeout=WAIT_S)
    if KNOWS_ENDS_OF_OTHERS:
        assert (output, errors, command.returncode) == ("more\n", "", 6)
    else:
        assert "how the command ended cannot be known" in errors
