"""Agents that end at each named step in turn, by SIGKILL and by SIGTERM: nothing is lost, counted twice or left."""

from __future__ import annotations

import ast
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from minipod.agent import planner as _with_the_volumes_operations  # noqa: F401
from minipod.failpoint import OPERATION_POINTS, every
from minipod.runtime import runtime as _with_all_operations  # noqa: F401
from minipod.runtime.records import operation_kinds
from tests import builders, guard, leaks, registry, volume_pods
from tests.builders import Object
from tests.failpoints import armed
from tests.faults.instance import Instance
from tests.faults.steps import NAME, Walk, another, others, prober, talker, walker
from tests.huge_pages import huge_pages
from tests.nfs_server import exported, has_client

SLOT = 210
HOST_PORT = 30080

STARTING = ("agent.locked", "agent.spawner-begun", "agent.adopted", "agent.recovered", "agent.serving")
STORING = ("store.written", "store.committed", "store.announced")
VOLUMES = (
    "volumes.recorded", "configuration.filled", "configuration.swapped", "executed.MakePodFolder",
    "executed.MakeEmptyDir", "executed.LimitFolder", "executed.MountTmpfs", "executed.CheckHostPath",
    "executed.MakeProvisionedFolder", "executed.BindFolder", "executed.GiveToGroup", "volumes.made", "volumes.ready",
)  # fmt: skip
SANDBOX = (
    "executed.EnsureNat", "executed.EnableForwarding", "network.shared",
    "executed.EnsureBridge", "network.bridged", "network.leased",
    "sandbox.leased", "sandbox.saved", "executed.MakeSandboxFolder", "executed.MountMemory",
    "executed.WriteSandboxFiles", "executed.CreateCgroup", "executed.CreateNamespaces", "executed.CreateVeth",
    "executed.ConfigureInterface", "executed.AddPortMappings", "sandbox.made", "sandbox.pause-spawned",
    "sandbox.ready",
)  # fmt: skip


LOGS = (
    "log.read", "log.written", "log.trimmed", "log.renamed", "log.reopened", "log.compressed",
    "log.compressed-named",
)  # fmt: skip
IMAGES = (
    "image.fetched", "image.blob-named", "image.unpacked", "image.tree-named", "image.part-kept",
    "image.layers-kept", "image.named",
)  # fmt: skip
SPAWNERS = (
    "spawner.cloned", "spawner.started", "spawner.answered", "spawner.reaped", "spawner.recorded",
    "spawner.exit-reported", "spawner.forgotten",
)  # fmt: skip
BEFORE_THE_END = ("spawner.cloned", "spawner.started", "spawner.answered")  # the container loses nothing
TERM_STARTING = (
    "pod.stored", "volumes.recorded", "executed.MountTmpfs", "volumes.ready", "network.shared", "network.leased",
    "sandbox.leased", "sandbox.saved", "executed.CreateVeth", "sandbox.pause-spawned", "sandbox.ready",
    "container.saved", "container.made", "sent.spawn", "container.spawned", "container.running", "hook.begun",
    "container.exit-seen", "container.exit-saved", "container.exit-forgotten",
)  # fmt: skip
TERM_GOING = (
    "pod.saved", "hook.begun", "container.signalled", "container.exit-saved", "sandbox.pause-ended",
    "undone.AddPortMappings", "undone.CreateVeth", "undone.CreateCgroup", "network.unshared", "sandbox.unleased",
    "sandbox.stopped", "container.undone", "sandbox.removed", "undone.MountTmpfs", "volumes.forgotten",
    "pod.forgotten",
)  # fmt: skip
ENDING = (
    "container.signalled", "sandbox.pause-ended", "undone.AddPortMappings", "undone.ConfigureInterface",
    "undone.CreateVeth", "undone.CreateNamespaces", "undone.MountMemory", "undone.WriteSandboxFiles",
    "undone.MakeSandboxFolder", "undone.CreateCgroup", "sandbox.undone", "undone.EnsureBridge",
    "undone.EnableForwarding", "undone.EnsureNat", "network.unshared", "network.released", "sandbox.unleased",
    "sandbox.stopped", "undone.LimitDevices", "undone.TouchFile", "undone.MakeSubPath",
    "undone.MakeContainerFolder", "container.undone", "container.removed", "sandbox.removed",
    "undone.MountImage", "undone.GiveToGroup", "undone.BindFolder", "undone.MakeProvisionedFolder",
    "undone.CheckHostPath", "undone.MountTmpfs", "undone.LimitFolder", "undone.MakeEmptyDir",
    "undone.MakePodFolder", "volumes.undone", "volumes.forgotten", "pod.forgotten",
)  # fmt: skip


@contextmanager
def walking(number: int, action: str, gated: int, images: str, session: leaks.Session) -> Iterator[Walk]:
    walk = Walk(Instance(SLOT + number, images), action, walker(gated), HOST_PORT + number)
    session.folders |= walk.instance.session.folders
    session.instances |= walk.instance.session.instances
    try:
        yield walk
        with walk.agent():  # sweeps what is left of a pod that is gone
            walk.wait_for_agent()
    finally:
        walk.close()
        left = walk.instance.end()
    assert left == [], f"after {walk.passed}: left behind: {left}"


def starts(walk: Walk) -> None:
    """From the agent's own start to the first container's."""
    walk.through(*STARTING)
    with walk.agent():
        walk.wait_for_agent()
        walk.apply(*others())
    walk.through(*STORING, by=lambda: walk.apply(another()))
    walk.through("pod.stored", by=walk.apply_pod)
    walk.through("pod.saved", *VOLUMES, *SANDBOX)


def containers(walk: Walk) -> None:
    """An init container, a sidecar, six that end with 7 and one with hooks: each starts under another agent."""
    with walk.agent():
        walk.wait_for_agent()
        walk.apply(*others())
    walk.through("container.saved", by=walk.apply_pod)
    walk.through("executed.MakeContainerFolder", "executed.TouchFile", "executed.LimitDevices", "container.made")
    walk.through("container.created", "sent.spawn")
    walk.let_end("first")
    walk.through(*(3 * ("container.spawned", "sent.adopt", "container.running", "container.started")))
    walk.through("executed.MountImage", "executed.MakeSubPath", "hook.begun")
    ends = ("container.exit-seen", "container.exit-logged", "container.exit-saved", "sent.forget",
            "container.exit-forgotten", "container.exit-reported")  # fmt: skip
    for number, point in enumerate(ends):
        walk.through(point, by=partial(walk.let_end, f"m{number}"))
    walk.through("sent.list", "sent.reattach")
    with walk.agent():
        walk.wait_for_agent()
        walk.expect_all()
    walk.through(*ENDING[:1], by=walk.delete_pod)
    walk.through(*ENDING[1:])


def commands(walk: Walk) -> None:
    """Commands, resizes, an input that is closed, a probe that is killed, rotated logs, an agent that leaves."""
    with walk.agent():
        walk.wait_for_agent()
        walk.apply(*others(), talker(), prober())
        walk.apply_pod()
        walk.let_end("first")
        walk.expect_all()
        walk.expect_running("talker", "prober")
    walk.through("sent.launch", "exec.launched", "exec.ended", by=lambda: walk.run("exec", NAME, "--", "true"))
    walk.through("sent.close_stdin", by=lambda: walk.run("attach", "-i", "talker"))
    for number, point in enumerate(("resize.began", "resize.pod-set", "resize.containers-set")):
        walk.through(point, by=partial(walk.resize, f"{600 + number}m"))
    walk.through("sent.kill", *LOGS)
    walk.through("agent.leaving", "agent.closed", by=walk.shut_down)
    with walk.agent():
        walk.wait_for_agent()
        walk.expect_all()
        walk.expect_lines("talker")
    walk.through("hook.ended", by=walk.delete_pod)
    walk.through("pod.logs-removed")


def images(walk: Walk) -> None:
    """The command that loads an image is what dies; the next one continues with what is there."""
    images = Path(walk.instance.paths.state, "images")
    layout = guard.write_marked_busybox(walk.instance.base / "layout")
    images.unlink()  # the link to the images of all tests
    for point in IMAGES:
        with armed(walk.instance, point) as hit:
            walk.run("image", "load", str(layout))
            hit.wait()
        walk.passed.append(point)
    assert walk.instance("image", "load", str(layout)).returncode == 0
    assert "busybox" in walk.instance("image", "ls").stdout
    assert leaks.list_folder(images / "ingest") == []
    walk.instance("image", "rm", "busybox")
    assert leaks.list_folder(images / "blobs" / "sha256") == leaks.list_folder(images / "layers") == []
    walk.instance("image", "load", str(layout))


def pulls(walk: Walk) -> None:
    """The agent that pulls a pod's image is what dies: the next one continues with what is there."""
    images = Path(walk.instance.paths.state, "images")
    images.unlink()  # the link to the images of all tests
    with registry.running() as server:
        server.add(guard.write_marked_busybox(walk.instance.base / "layout"), "team/box", "1")
        image = f"{server.host}/team/box:1"
        pulling = builders.pod("puller", builders.container("c", "echo", image=image))
        walk.through(IMAGES[0], by=partial(walk.apply, pulling))
        walk.through(*IMAGES[1:])
        with walk.agent():
            walk.wait_for_agent()
            walk.instance("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/puller", "--timeout=30s")
            walk.instance("delete", "pod", "puller")
            assert leaks.list_folder(images / "ingest") == []
            walk.instance("image", "rm", image)
    assert leaks.list_folder(images / "blobs" / "sha256") == leaks.list_folder(images / "layers") == []


def unusual(walk: Walk) -> None:
    """Volumes that need something of the host: a block device, a kernel with huge pages."""
    claim = volume_pods.claim(storageClassName="raw", volumeMode="Block")
    sources = {
        "LinkDevice": {"persistentVolumeClaim": {"claimName": "data"}},
        "MountHugePages": {"emptyDir": {"medium": "HugePages-2Mi"}},
    }
    with huge_pages(), volume_pods.loop_device(walk.instance.base) as device:
        with walk.agent():
            walk.wait_for_agent()
            walk.apply(volume_pods.raw_volume(device), claim)
        walk_volumes(walk, sources)


def nfs(walk: Walk) -> None:
    (walk.instance.base / "export").mkdir()
    with exported(walk.instance.base / "export"):
        walk_volumes(walk, {"MountNfs": {"nfs": {"server": "127.0.0.1", "path": "/"}}})


def walk_volumes(walk: Walk, sources: dict[str, Object]) -> None:
    """A pod with one volume for each kind of operation, from its start to its end."""
    names = {kind: kind.lower() for kind in sources}
    devices = [{"name": names[kind], "devicePath": "/dev/xvda"} for kind in sources if kind == "LinkDevice"]
    mounts = [builders.mount(names[kind], f"/{kind}") for kind in sources if kind != "LinkDevice"]
    resources = {"limits": {"hugepages-2Mi": "2Mi", "memory": "64Mi"}} if "MountHugePages" in sources else {}
    main = builders.container("c", "sleep 1000", volumeDevices=devices, volumeMounts=mounts, resources=resources)
    volumes = [{"name": names[kind], **source} for kind, source in sources.items()]
    made = builders.pod(NAME, main, volumes=volumes, terminationGracePeriodSeconds=0)
    for number, kind in enumerate(sources):
        walk.through(f"executed.{kind}", by=partial(walk.apply, made) if number == 0 else lambda: None)
    with walk.agent():
        walk.wait_for_agent()
        walk.expect_running(NAME)
    for number, kind in enumerate(reversed(sources)):
        walk.through(f"undone.{kind}", by=walk.delete_pod if number == 0 else lambda: None)


def spawners(walk: Walk) -> None:
    """The spawner is what dies, the agent goes on: the pod comes to its end, and nothing is left of it."""
    for point in SPAWNERS:
        name = f"p-{point.replace('.', '-')}"
        ending = builders.container("c", "for i in 1 2 3; do echo $i; sleep 0.3; done; exit 0")
        with armed(walk.instance, point) as hit, walk.agent():
            walk.passed.append(point)
            walk.wait_for_agent()
            walk.apply(builders.pod(name, ending, restartPolicy="OnFailure", terminationGracePeriodSeconds=0))
            hit.wait()
            walk.instance("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", "--timeout=60s")
            if point in BEFORE_THE_END:
                status: Any = walk.instance.pod(name)["status"]
                assert status["containerStatuses"][0]["restartCount"] == 0, point
                assert walk.instance("logs", name).stdout == "1\n2\n3\n", point
            walk.instance("delete", "pod", name)
            assert leaks.wait_until_gone(walk.instance.left) == []
    with walk.agent():
        walk.wait_for_agent()
        walk.apply(prober())
        walk.expect_running("prober")
    walk.through("sent.hold", by=partial(walk.instance.signal, "spawner", signal.SIGKILL))
    with walk.agent():
        walk.wait_for_agent()
        walk.expect_running("prober")


def ends(walk: Walk, at_start: tuple[str, ...], at_end: tuple[str, ...]) -> None:
    """SIGTERM while a pod starts and while it goes. The agent finishes what it is at and leaves, the next one completes
    the start, or the end; nothing is lost, and nothing is left.
    """
    with walk.agent():
        walk.wait_for_agent()
        walk.apply(*others())
    for starting, going in zip_longest(at_start, at_end, fillvalue="pod.saved"):
        walk.let_end("first")
        walk.through(starting, by=walk.apply_pod)
        with walk.agent():
            walk.wait_for_agent()
            walk.expect_all()
        walk.through(going, by=walk.delete_pod)
        with walk.agent():
            walk.wait_for_agent()
            walk.expect_gone()
        shutil.rmtree(walk.truth)


LIVES = (starts, containers, commands, images, pulls, spawners, unusual)


def test_no_step_is_left_out() -> None:
    tree = ast.parse(Path(__file__).read_text())
    named = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    kinds = [kind for kind in operation_kinds() if kind.__module__.startswith("minipod.")]  # other tests have some, too
    kinds_walked = {kind for kind in ("LinkDevice", "MountHugePages", "MountNfs") if kind in named}
    walked = named | {f"{point}.{kind}" for point in OPERATION_POINTS for kind in kinds_walked}
    assert [name for name in every(kinds) if name not in walked] == []


@pytest.mark.parametrize("life", LIVES)
def test_an_agent_that_is_killed_at_each_step_loses_nothing(
    life: Callable[[Walk], None], session: leaks.Session, leak_check: None, image_folder: str
) -> None:
    with walking(LIVES.index(life), "kill", 6 if life is containers else 0, image_folder, session) as walk:
        life(walk)


@pytest.mark.vm
@pytest.mark.skipif(not has_client(), reason="this kernel has no NFS client: scripts/vm-test has one")
def test_an_agent_that_is_killed_while_it_mounts_nfs_loses_nothing(
    session: leaks.Session, leak_check: None, image_folder: str
) -> None:
    with walking(len(LIVES), "kill", 0, image_folder, session) as walk:
        nfs(walk)


@pytest.mark.parametrize("half", [0, 1])
def test_an_agent_that_is_sent_sigterm_at_a_step_leaves_nothing(
    half: int, session: leaks.Session, leak_check: None, image_folder: str
) -> None:
    with walking(len(LIVES) + 1, "term", 0, image_folder, session) as walk:
        ends(walk, TERM_STARTING[half::2], TERM_GOING[half::2])
