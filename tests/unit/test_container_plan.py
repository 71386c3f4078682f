"""A container as operations: which, and in which order."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import msgspec
import pytest

from minipod.errors import ContainerError
from minipod.paths import Paths
from minipod.plan.cgroup import CreateCgroup
from minipod.plan.configs import (
    ContainerConfig,
    Device,
    HostFacts,
    Image,
    ImageConfig,
    Mount,
    NamespaceOptions,
    NetworkFacts,
    SandboxConfig,
    SecurityContext,
)
from minipod.plan.container import DEFAULT_PATH, ContainerPlan, SeccompFilter, container_plan
from minipod.plan.operation import ChildOperation
from minipod.plan.process.identity import BecomeUser, Exec, ResolveUser, pause_program
from minipod.plan.process.kernel_mounts import MaskPaths, MountFilesystem, PlaceCgroup, ReadOnlyPaths, TakeCgroup
from minipod.plan.process.namespaces import JoinContainer, JoinNamespaces
from minipod.plan.process.rootfs import BindMount, TakeSource
from minipod.plan.process.security import (
    CAPABILITIES,
    DEFAULT_CAPABILITIES,
    capability_mask,
    capability_set,
)
from minipod.plan.sandbox import pause_process, sandbox_operations
from minipod.runtime.container import signal_number
from minipod.runtime.spawner.program import CHILD_OPERATIONS

V1 = HostFacts(
    node_name="node",
    cpus=2,
    memory_bytes=1 << 30,
    cgroup_version=1,
    cgroup_mounts={"cpu": "/cg/cpu", "memory": "/cg/memory", "": "/cg/unified"},
)
V2 = HostFacts(
    node_name="node",
    cpus=2,
    memory_bytes=1 << 30,
    cgroup_version=2,
    cgroup_controllers=("cpu", "memory", "pids"),
    cgroup_mounts={"": "/cg"},
)
SANDBOX = SandboxConfig(
    id="s", name="pod", namespace="default", uid="u", hostname="pod", log_directory="/log", cgroup_parent="/m/podu"
)
IMAGE = Image(
    id="sha256:1",
    reference="busybox",
    layers=("/layer",),
    config=ImageConfig(
        entrypoint=("/entry",), cmd=("default",), env=("PATH=/bin", "FROM=image"), working_dir="/srv", user="web"
    ),
)


def plan(
    facts: HostFacts = V1,
    sandbox: SandboxConfig = SANDBOX,
    seccomp: bytes = b"12345678",
    image: ImageConfig = IMAGE.config,
    **fields: Any,
) -> ContainerPlan:
    config = ContainerConfig(id="c", name="c", image="busybox", directory="/state/c", **fields)
    found = msgspec.structs.replace(IMAGE, config=image)
    return container_plan(config, sandbox, found, facts, Paths("/run/x", "/lib/x"), SeccompFilter("p", seccomp))


def names(operations: tuple[Any, ...]) -> list[str]:
    return [type(operation).__name__ for operation in operations]


def only(operations: tuple[Any, ...], kind: type[Any]) -> list[Any]:
    return [operation for operation in operations if isinstance(operation, kind)]


def launch(**fields: Any) -> Exec:
    operation = plan(**fields).child[-1]
    assert isinstance(operation, Exec)
    return operation


def test_the_user_is_looked_up_before_any_volume_can_cover_the_image_s_passwd() -> None:
    found = names(plan(mounts=(Mount(container_path="/etc", host_path="/evil"),)).child)
    assert found.index("MountRoot") < found.index("ResolveUser") < found.index("BindMount")


def test_what_is_the_hosts_is_taken_before_its_mounts_are_left_and_attached_after_it() -> None:
    mounts = (Mount(container_path="/data", host_path="/x"), Mount(container_path="/more", host_path="/y"))
    devices = (Device(host_path="/dev/sdx", container_path="/dev/sdx"),)
    found = plan(mounts=mounts, devices=devices, security=SecurityContext(privileged=True)).child
    entered = names(found).index("EnterMounts")
    before, after = found[:entered], found[entered:]
    binds = only(after, BindMount)
    assert [taken.target for taken in only(before, TakeSource)] == [bind.target for bind in binds]
    assert len(binds) >= 2
    assert names(before).count("TakeDevice") == names(after).count("MakeDeviceNode") == 1
    assert names(before).count("TakeDevices") == names(after).count("MakeDevices") == 1
    assert not {"BindMount", "MountFilesystem", "MakeDeviceNode"} & set(names(before))


def test_the_cgroup_is_joined_before_the_cgroup_namespace_is_made() -> None:
    found = names(plan().child)
    assert found.index("JoinCgroup") < found.index("UnshareCgroupNamespace") < found.index("MountRoot")


def test_the_filter_comes_before_the_capabilities_that_installing_it_needs_are_gone() -> None:
    found = names(plan(security=SecurityContext(no_new_privs=True)).child)
    wanted = ("PivotRoot", "SetNoNewPrivs", "BecomeUser", "InstallSeccompFilter", "DropCapabilities", "Exec")
    assert [found.index(name) for name in wanted] == sorted(found.index(name) for name in wanted)


def test_exec_is_the_last_thing_that_happens() -> None:
    assert names(plan(tty=True).child)[-1] == "Exec"


def test_masks_are_on_the_kernel_s_file_systems_before_any_volume_can_lie_over_them() -> None:
    found = names(plan(mounts=(Mount(container_path="/data", host_path="/x"),), tty=True).child)
    last_mount = max(i for i, name in enumerate(found) if name == "MountFilesystem")
    first_volume = min(found.index(name) for name in ("BindMount", "MakeFolder", "OpenTerminal"))
    assert last_mount < found.index("MaskPaths") < found.index("ReadOnlyPaths") < first_volume


@pytest.mark.attack(row=21)
def test_what_is_masked_and_read_only_is_the_kubelets_list() -> None:
    operations = plan().child
    (masks,), (read_only,) = only(operations, MaskPaths), only(operations, ReadOnlyPaths)
    proc = "acpi asound interrupts kcore keys latency_stats timer_list timer_stats sched_debug scsi"
    throttle = {f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in range(2)}
    virtual = {"/sys/firmware", "/sys/devices/virtual/powercap"}
    assert set(masks.paths) == {f"/proc/{name}" for name in proc.split()} | virtual | throttle
    assert set(read_only.paths) == {f"/proc/{name}" for name in ["bus", "fs", "irq", "sys", "sysrq-trigger"]}


def test_an_unmasked_proc_hides_nothing() -> None:
    found = names(plan(security=SecurityContext(proc_mount="Unmasked")).child)
    assert not {"MaskPaths", "ReadOnlyPaths"} & set(found)


def test_mounts_nearer_to_the_root_come_first_in_any_order_they_are_given() -> None:
    mounts = (Mount(container_path="/a/b/c", host_path="/1"), Mount(container_path="/a", host_path="/2"))
    targets = [bind.target for bind in only(plan(mounts=mounts).child, BindMount)]
    assert targets.index("/a") < targets.index("/a/b/c")


def test_the_pod_s_shared_memory_is_also_in_a_dev_of_the_user_s_own() -> None:
    dev, own = Mount(container_path="/dev/", host_path="/v"), Mount(container_path="/dev/shm", host_path="/own")
    for mounts, expected in (((), ["/dev/shm"]), ((own, dev), ["/dev/", "/dev/shm", "/dev/shm"])):
        binds = [bind for bind in only(plan(mounts=mounts).child, BindMount) if bind.target.startswith("/dev")]
        assert [bind.target for bind in binds] == expected
    assert binds[-1].source == "/own"


def test_an_ordinary_container_sees_sys_and_its_cgroups_read_only() -> None:
    for facts, kind in ((V1, PlaceCgroup), (V2, MountFilesystem)):
        child = plan(facts).child
        mounts = [*only(child, MountFilesystem), *only(child, PlaceCgroup)]
        assert [mount.target for mount in mounts if "ro" in mount.flags and mount.target == "/sys"]
        groups = [mount for mount in only(child, kind) if mount.target.startswith("/sys/fs/cgroup")]
        assert groups
        assert all("ro" in mount.flags for mount in groups)


def test_of_a_v1_hierarchy_a_container_gets_its_own_group_alone() -> None:
    taken, placed = only(plan(V1).child, TakeCgroup), only(plan(V1).child, PlaceCgroup)
    assert [group.target for group in taken] == [group.target for group in placed]
    assert taken
    assert all(group.directory.endswith("/m/podu/c") for group in taken)


def test_a_privileged_container_has_no_masks_no_filter_every_device_and_capability() -> None:
    found = plan(security=SecurityContext(privileged=True), seccomp=b"")
    assert not {"MaskPaths", "ReadOnlyPaths", "InstallSeccompFilter"} & set(names(found.child))
    assert "LimitDevices" not in names(found.host)
    assert only(found.child, BecomeUser)[0].capabilities == (1 << len(CAPABILITIES)) - 1


def test_only_what_is_mounted_for_a_hierarchy_is_joined_on_v1_and_nothing_on_v2() -> None:
    assert plan(V1).clone.cgroup2 == "/cg/unified/m/podu/c"
    assert plan(V2).clone.cgroup2 == "/cg/m/podu/c"


@pytest.mark.parametrize("pid", ["pod", "target"])
def test_a_pid_namespace_that_others_are_in_is_entered_last_and_its_procfs_is_theirs(pid: str) -> None:
    found = plan(security=SecurityContext(namespaces=NamespaceOptions(pid=pid)))
    assert found.clone.namespaces == ()
    taken = names(found.child)
    wanted = ("TakeProcfs", "JoinContainer", "MountFilesystem", "PivotRoot", "EnterPidNamespace", "Exec")
    assert [taken.index(name) for name in wanted] == sorted(taken.index(name) for name in wanted)
    assert [op.namespaces for op in only(found.child, JoinContainer)] == [("pid",)]


def test_with_the_host_s_pid_namespace_none_is_made() -> None:
    found = plan(security=SecurityContext(namespaces=NamespaceOptions(pid="node")))
    assert found.clone.namespaces == ()
    assert "EnterPidNamespace" not in names(found.child)


def test_with_the_host_s_network_neither_net_nor_uts_is_joined() -> None:
    sandbox = msgspec.structs.replace(SANDBOX, namespaces=NamespaceOptions(network="node"))
    joins = only(plan(sandbox=sandbox).child, JoinNamespaces)
    assert list(joins[0].pins) == ["ipc"]


def test_args_alone_replace_the_image_s_cmd_and_keep_its_entrypoint() -> None:
    assert launch().argv == ("/entry", "default")
    assert launch(args=("x",)).argv == ("/entry", "x")


def test_a_command_drops_the_image_s_entrypoint_and_cmd() -> None:
    assert launch(command=("own",)).argv == ("own",)


def test_no_command_anywhere_is_an_error_that_says_what_to_set() -> None:
    bare = msgspec.structs.replace(IMAGE, config=ImageConfig())
    config = ContainerConfig(id="c", name="c", image="busybox", directory="/state/c")
    with pytest.raises(ContainerError, match="no command"):
        container_plan(config, SANDBOX, bare, V1, Paths(), SeccompFilter("p"))


def test_the_container_s_variables_lie_over_the_image_s() -> None:
    env = launch(envs=(("FROM", "pod"), ("EMPTY", ""))).env
    assert env == ("PATH=/bin", "FROM=pod", "EMPTY=")


def test_a_terminal_brings_term_and_the_console() -> None:
    found = plan(tty=True)
    assert "TERM=xterm" in only(found.child, Exec)[0].env
    assert "OpenTerminal" in names(found.child)


def test_the_image_s_user_counts_unless_the_pod_names_one() -> None:
    def resolved(**security: Any) -> ResolveUser:
        found: ResolveUser
        (found,) = only(plan(security=SecurityContext(**security)).child, ResolveUser)
        return found

    assert resolved().user == "web"
    assert resolved(run_as_user=0).user == "0"
    named = resolved(run_as_username="app")
    assert (named.user, named.run_as_non_root) == ("app", False)
    assert resolved(run_as_non_root=True).run_as_non_root


def test_an_entrypoint_of_one_empty_word_is_none() -> None:
    """As in containerd: an image says so to be rid of its base's."""
    reset = ImageConfig(entrypoint=("",), cmd=("default", ""))
    assert launch(image=reset).argv == ("default", "")
    assert launch(image=reset, args=("own",)).argv == ("own",)
    assert launch(image=reset, command=("",)).argv == ("",)
    assert launch(image=ImageConfig(entrypoint=("", "x"))).argv == ("", "x")
    with pytest.raises(ContainerError, match="neither Entrypoint nor Cmd"):
        launch(image=ImageConfig(entrypoint=("",)))


def test_a_variable_of_the_image_without_a_value_is_taken_away_and_never_the_host_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """containerd's replaceOrAppendEnvValues; CVE-2020-14370's kin."""
    monkeypatch.setenv("SECRET", "of the host")
    said = ("SECRET", "A=1", "B=2", "B", "=x", "", "SEC*", "*", "C=", "D=\n=", "A=3")
    assert launch(image=ImageConfig(cmd=("x",), env=said)).env == (f"PATH={DEFAULT_PATH}", "A=3", "C=", "D=\n=")
    assert launch(image=ImageConfig(cmd=("x",), env=("PATH",))).env == ()


def test_every_operation_says_what_it_does_in_one_line_and_survives_json() -> None:
    found = plan(
        mounts=(Mount(container_path="/a", host_path="/b", readonly=True, sub_path="c", propagation="bidirectional"),),
        tty=True,
        security=SecurityContext(readonly_rootfs=True, no_new_privs=True),
    )
    operations: list[Any] = [*found.host, found.clone, *found.child]
    for operation in operations:
        assert "\n" not in operation.describe()
        assert operation.describe()
        again = msgspec.json.decode(msgspec.json.encode(operation), type=type(operation))
        assert again == operation


def test_the_spawner_knows_every_child_operation() -> None:
    known = {kind.__name__: kind for kind in ChildOperation.__subclasses__() if kind.__module__.startswith("minipod.")}
    assert known == CHILD_OPERATIONS


def test_the_default_capabilities_are_those_of_containerd() -> None:
    assert capability_mask(DEFAULT_CAPABILITIES) == 0xA80425FB


@pytest.mark.parametrize(
    ("add", "drop", "kept"),
    [
        (("NET_ADMIN",), (), DEFAULT_CAPABILITIES | {"NET_ADMIN"}),
        (("net_admin",), ("ALL",), {"NET_ADMIN"}),
        (("CAP_SYS_TIME",), ("KILL",), (DEFAULT_CAPABILITIES | {"SYS_TIME"}) - {"KILL"}),
        (("ALL",), ("SYS_ADMIN",), set(CAPABILITIES) - {"SYS_ADMIN"}),
        ((), ("ALL",), set()),
    ],
)
def test_capabilities_are_added_and_dropped_by_name(
    add: tuple[str, ...], drop: tuple[str, ...], kept: set[str]
) -> None:
    assert capability_set(add, drop, privileged=False) == kept


def test_an_unknown_capability_is_named() -> None:
    with pytest.raises(ContainerError, match="FLY"):
        capability_set(("FLY",), (), privileged=False)


@pytest.mark.parametrize(
    ("name", "number"),
    [("", 15), ("SIGQUIT", 3), ("quit", 3), ("9", 9), ("SIGRTMIN+3", 37), ("nonsense", 15), ("99", 15)],
)
def test_a_stop_signal_is_read_as_an_image_writes_it(name: str, number: int) -> None:
    assert signal_number(name) == number


def test_the_pause_program_waits_until_it_is_killed(tmp_path: Any) -> None:
    program = pause_program(os.uname().machine)
    assert program is not None
    assert len(program) < 200
    path = tmp_path / "pause"
    path.write_bytes(program)
    path.chmod(0o755)
    process = subprocess.Popen([str(path)])
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.05)
    process.terminate()
    assert process.wait(timeout=5) == -15


@pytest.mark.parametrize("place", ["/proc", "/proc/self", "/x/../proc/sys", "//proc"])
def test_nothing_can_be_mounted_in_proc(place: str) -> None:
    with pytest.raises(ContainerError, match="nothing can be mounted in /proc"):
        plan(mounts=(Mount(container_path=place, host_path="/x"),))


@pytest.mark.parametrize("place", ["/", "//", "/x/.."])
def test_no_volume_can_be_the_root(place: str) -> None:
    with pytest.raises(ContainerError, match="cannot be the root"):
        plan(mounts=(Mount(container_path=place, host_path="/x"),))


def test_the_pause_process_has_a_group_of_its_own_below_the_pod_s() -> None:
    sandbox = msgspec.structs.replace(SANDBOX, namespaces=NamespaceOptions(pid="pod", network="node"))
    pause = pause_process(sandbox, V2, Paths(), "x86_64")
    assert pause is not None
    assert pause[0].cgroup2 == "/cg/m/podu/s"
    made = [op.path for op in sandbox_operations(sandbox, NetworkFacts(), V2, Paths()) if isinstance(op, CreateCgroup)]
    assert "/m/podu/s" in made
