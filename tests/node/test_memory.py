"""How much memory agent and spawner take: idle, and for each pod. In KiB; what was measured is in docs/agent.md."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil

from tests.builders import container, manifest, pod
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

#: of both, idle: what /proc/PID/smaps_rollup says (proc(5)); others' Pythons on the host make it less
PSS_KIB = 34 << 10
#: the part of it that is their own whoever else runs. Newer Pythons differ; these are the figures of the oldest.
OWN_KIB = 29 << 10 if sys.version_info < (3, 12) else 36 << 10
#: of both, for a pod with one container, with its events and the history of its changes
POD_KIB = 140
#: what is left of one that is gone: its events, for an hour, and its last changes, which are bounded
GONE_KIB = 60
PODS = 20
#: the loop's own and the idle ones of three pools
THREADS = 24


def processes(node: Node) -> list[psutil.Process]:
    pid = node.agent_pid()
    assert pid is not None
    agent = psutil.Process(pid)
    (spawner,) = (child for child in agent.children() if child.name() == "minipod-spawner")
    return [agent, spawner]


def sums(node: Node) -> tuple[int, int]:
    """(PSS, anonymous memory) of both."""
    pss = own = 0
    for process in processes(node):
        fields = dict(
            line.split(":") for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
        )
        pss += int(fields["Pss"].split()[0])
        own += int(fields["Anonymous"].split()[0])
    return pss, own


def settled(node: Node) -> tuple[int, int]:
    """When nothing is allocated or given back any more; agent and spawner do what is not urgent some time later."""
    deadline = time.monotonic() + 30 * SLOWNESS
    before, now = (0, 0), sums(node)
    while before[1] != now[1] and time.monotonic() < deadline:
        time.sleep(1)
        before, now = now, sums(node)
    return now


def written(folder: Path, name: str, command: str) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(manifest(pod(name, container("c", command), terminationGracePeriodSeconds=0)))
    return str(path)


def test_idle_after_a_pod_they_are_within_the_budget(node: Node, tmp_path: Path) -> None:
    node("run", written(tmp_path, "one", "true"))
    pss, own = settled(node)
    print(f"agent and spawner: PSS {pss} KiB, anonymous {own} KiB")
    assert pss <= PSS_KIB
    assert own <= OWN_KIB


def test_pods_that_came_and_went_leave_little(node: Node, tmp_path: Path) -> None:
    """Neither threads nor their events and changes without bound: both pools had 64 threads after a hundred pods."""
    for number in range(10):
        node("run", written(tmp_path, f"warm{number}", "true"))
    _, before = settled(node)
    for number in range(PODS):
        node("run", written(tmp_path, f"p{number}", "true"))
    _, now = settled(node)
    threads = processes(node)[0].num_threads()
    print(f"left of a pod: {(now - before) / PODS:.0f} KiB; {threads} threads")
    assert threads <= THREADS
    assert (now - before) / PODS <= GONE_KIB


def test_a_pod_takes_little(node: Node, tmp_path: Path) -> None:
    node("run", written(tmp_path, "one", "true"))
    _, before = settled(node)
    for number in range(PODS):
        node("run", "-d", written(tmp_path, f"p{number}", "sleep 1000"))
    _, now = settled(node)
    each = (now - before) / PODS
    print(f"a pod: {each:.0f} KiB")
    assert each <= POD_KIB
