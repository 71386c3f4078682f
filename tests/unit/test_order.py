"""The one order in which a process becomes the container's, for every way there is (docs/security.md)."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator

import msgspec
import pytest

from minipod.paths import Paths
from minipod.plan.configs import ContainerConfig, Mount, NamespaceOptions, SecurityContext
from minipod.plan.container import ExecPlace, SeccompFilter, container_plan, exec_operations
from minipod.plan.launch import launch_calls
from minipod.plan.operation import PHASES, ChildOperation, in_order
from minipod.plan.process.entry import ChangeFolder
from minipod.plan.process.identity import AssumeUser, Exec, NewSession
from minipod.plan.process.namespaces import Clone, CloseDescriptors
from minipod.plan.sandbox import pause_process
from minipod.runtime.spawner.program import CHILD_OPERATIONS
from tests.unit.test_container_plan import IMAGE, SANDBOX, V1, V2

PATHS = Paths("/run/x", "/lib/x")
PLACE = ExecPlace(root=(0x12345, 7), user=AssumeUser(uid=1, gid=2), environment=("A=b",), cwd="/srv")
FILTER = SeccompFilter("p", b"12345678")

Way = tuple[str, Clone, tuple[ChildOperation, ...]]


def starts() -> Iterator[Way]:
    for pid, tty, facts in itertools.product(("container", "pod", "target", "node"), (False, True), (V1, V2)):
        config = ContainerConfig(
            id="c",
            name="c",
            image="busybox",
            directory="/state/c",
            tty=tty,
            mounts=(Mount(container_path="/a", host_path="/b", propagation="bidirectional"),),
            security=SecurityContext(
                namespaces=NamespaceOptions(pid=pid), no_new_privs=tty, readonly_rootfs=True, run_as_user=1
            ),
        )
        found = container_plan(config, SANDBOX, IMAGE, facts, PATHS, FILTER)
        yield f"start pid={pid} tty={tty}", found.clone, found.child


def execs() -> Iterator[Way]:
    """Probes, hooks and `exec` are made from the same list, launched or forked."""
    config = ContainerConfig(id="c", name="c", image="busybox", directory="/state/c")
    for terminal, command, facts in itertools.product((None, (24, 80)), (("sh",), ("/bin/sh",)), (V1, V2)):
        name = f"exec terminal={terminal} {command}"
        yield name, *exec_operations(config, SANDBOX, PLACE, command, facts, FILTER, terminal)


def pauses() -> Iterator[Way]:
    shared = msgspec.structs.replace(SANDBOX, namespaces=NamespaceOptions(pid="pod"))
    for facts in (V1, V2):
        pause = pause_process(shared, facts, PATHS, "x86_64")
        assert pause is not None
        yield "pause", *pause


WAYS = (*starts(), *execs(), *pauses())
#: what has to have happened before what; either may be missing, but for what `NEEDED` says
BEFORE = (
    ("CloseDescriptors", "JoinCgroup"),
    ("JoinCgroup", "JoinNamespaces"),
    ("JoinCgroup", "JoinContainer"),
    ("JoinNamespaces", "MountRoot"),
    ("TakeSource", "EnterMounts"),
    ("MountRoot", "EnterMounts"),
    ("EnterMounts", "MountFilesystem"),
    ("TakeProcfs", "MountFilesystem"),
    ("JoinContainer", "EnterRoot"),
    ("MountRoot", "PivotRoot"),
    ("EnterRoot", "OpenTerminal"),
    ("PivotRoot", "BecomeUser"),
    ("EnterRoot", "BecomeUser"),
    ("SetNoNewPrivs", "InstallSeccompFilter"),
    ("BecomeUser", "ChangeFolder"),
    ("ChangeFolder", "InstallSeccompFilter"),
    ("InstallSeccompFilter", "DropCapabilities"),
    ("DropCapabilities", "EnterPidNamespace"),
    ("EnterPidNamespace", "NewSession"),
    ("NewSession", "CheckProgram"),
    ("CheckProgram", "Exec"),
)
NEEDED = {"CloseDescriptors", "SetOomScoreAdj", "JoinCgroup", "BecomeUser", "DropCapabilities", "NewSession"}


@pytest.mark.parametrize("way", WAYS, ids=[way[0] for way in WAYS])
def test_every_process_of_a_pod_is_made_in_the_one_order(way: Way) -> None:
    _, _, operations = way
    found = [type(operation).__name__ for operation in operations]
    assert operations == in_order(operations)
    assert set(found) >= NEEDED
    assert found[0] == "CloseDescriptors"
    assert ("PivotRoot" in found) != ("EnterRoot" in found)
    for first, later in BEFORE:
        if first in found and later in found:
            assert max(i for i, name in enumerate(found) if name == first) < found.index(later), (first, later)


def test_whoever_joins_a_pid_namespace_with_others_in_it_is_born_there_with_nothing_left_to_take() -> None:
    for name, clone, operations in WAYS:
        found = {type(operation).__name__ for operation in operations}
        joins = name.startswith(("exec", "start pid=pod", "start pid=target"))
        assert ("EnterPidNamespace" in found) == joins, name
        assert ("pid" in clone.namespaces) == name.startswith(("start pid=container", "pause")), name


def test_every_operation_has_its_phase_and_the_phases_are_in_order_whatever_the_list_was() -> None:
    assert {operation.phase for operation in CHILD_OPERATIONS.values()} == set(PHASES)
    mixed = (Exec(argv=("a",), env=()), ChangeFolder("/"), NewSession(), CloseDescriptors())
    assert [type(operation) for operation in in_order(mixed)] == [CloseDescriptors, ChangeFolder, NewSession, Exec]


def test_a_launched_command_makes_the_same_steps_as_system_calls() -> None:
    for _, clone, operations in execs():
        calls = launch_calls(clone, operations, last_capability=2, permitted=-1)
        assert calls is not None
        assert {"LimitOpenFiles"} <= {type(operation).__name__ for operation in operations}
        limit = next(call for call in calls if call.name == "prlimit64")
        assert limit.arguments[2] == struct.pack("=QQ", 1024, 524288)
        found = [call.name for call in calls]
        joined, entered, born = found.index("setns"), found.index("statx"), found.index("clone")
        assert found.index("close_range") < joined < entered < found.index("setresuid")
        assert found.index("setresuid") < found.index("fchdir") < found.index("getcwd") < found.index("seccomp") < born
        after = found[born + 1 :]
        assert set(after) <= {"setsid", "ioctl", "openat2", "close", "faccessat", "execve", "exit_group"}
        opened = [call for call in calls if call.name == "openat"][-1]
        assert opened.arguments[1] == b"/\0"  # nothing is opened by its path but what the order allows
