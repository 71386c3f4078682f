"""Where hierarchies are, and what is written into them, on cgroup v1, hybrid and v2; no group is made."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import msgspec
import pytest

from minipod.kernel import cgroup as kernel
from minipod.kernel.bpf import DeviceRule, device_program
from minipod.kernel.cgroup import Hierarchy
from minipod.paths import Paths
from minipod.plan import cgroup
from minipod.plan.configs import CgroupResources, Device, HostFacts
from minipod.plan.process.devices import HostDevice, limit_devices
from minipod.runtime import cgroup as runtime

V1 = {c: f"/sys/fs/cgroup/{c}" for c in ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "pids")}
EVERY_V1 = ("cpu", "cpuacct", "memory", "pids", "devices", "cpuset", "freezer")
COMMON = {"node_name": "n", "cpus": 2, "memory_bytes": 1 << 33}
PURE_V1 = HostFacts(node_name="n", cpus=2, memory_bytes=1 << 33, cgroup_version=1, cgroup_mounts=V1)
HYBRID = msgspec.structs.replace(PURE_V1, cgroup_mounts={**V1, "": "/sys/fs/cgroup/unified"})
V2 = HostFacts(
    node_name="n",
    cpus=2,
    memory_bytes=1 << 33,
    cgroup_version=2,
    cgroup_controllers=("cpuset", "cpu", "io", "memory", "pids"),
    cgroup_mounts={"": "/sys/fs/cgroup"},
)
LIMITED = CgroupResources(cpu_shares=512, cpu_quota_us=50000, memory_limit_bytes=1 << 25, pids_max=9)

MOUNTINFO = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/memory rw,relatime shared:10 master:1 - cgroup cgroup rw,memory
34 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
35 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
36 31 0:30 / /mnt/with\\040space/memory rw - cgroup cgroup rw,memory
"""


def anywhere(mount: str, device: int) -> bool:
    return True


def test_hierarchies_are_found_in_mountinfo() -> None:
    mounts = kernel.find_mounts(MOUNTINFO, anywhere)
    assert mounts == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
        "name=systemd": "/sys/fs/cgroup/systemd",
        "": "/sys/fs/cgroup/unified",
    }
    assert kernel.version_of(mounts) == 1


def test_a_host_with_cgroup2_alone_is_version_2() -> None:
    assert kernel.version_of(kernel.find_mounts("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", anywhere)) == 2
    assert kernel.version_of({"": "/a", "name=systemd": "/b"}) == 2
    assert kernel.version_of({}) == 0


def test_of_several_mounts_the_whole_and_writable_one_is_taken_and_a_covered_one_never() -> None:
    lines = """\
40 31 0:31 /lxc/c1 /a rw - cgroup cgroup rw,freezer
41 31 0:31 / /bb ro - cgroup cgroup rw,freezer
42 31 0:31 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
43 31 0:32 / /covered rw - cgroup cgroup rw,cpuset
44 31 0:32 / /elsewhere/cpuset rw - cgroup cgroup rw,cpuset
"""
    found = kernel.find_mounts(lines, lambda mount, device: mount != "/covered")
    assert found == {"freezer": "/sys/fs/cgroup/freezer", "cpuset": "/elsewhere/cpuset"}
    assert kernel.find_mounts(f"1 1 0:{os.minor(os.stat('/').st_dev) + 1} / / rw - cgroup cgroup rw,cpu\n") == {}


def test_there_is_a_group_in_every_hierarchy_also_in_those_that_limit_nothing() -> None:
    def names(facts: HostFacts) -> list[str]:
        return [hierarchy.mount.rpartition("/")[2] for hierarchy in cgroup.hierarchies(facts)]

    assert cgroup.hierarchies(V2) == (Hierarchy("/sys/fs/cgroup", 2, ("cpu", "memory", "pids")),)
    assert names(HYBRID) == ["unified", "cpu", "cpuacct", "memory", "pids", "devices", "cpuset", "freezer"]
    assert names(PURE_V1) == ["cpu", "cpuacct", "memory", "pids", "devices", "cpuset", "freezer"]
    more = {key: f"/elsewhere/{key}" for key in ("net_cls", "perf_event", "rdma", "misc", "name=systemd")}
    assert set(more.values()) < {h.mount for h in cgroup.hierarchies(with_mounts(HYBRID, more))}
    named = with_mounts(V2, {"name=systemd": "/s"})
    assert cgroup.hierarchies(named)[1:] == (Hierarchy("/s", 1, ("name=systemd",)),)
    assert cgroup.join_cgroup("/m/p", named).directories == ("/s/m/p",)


def test_a_container_sees_the_hierarchies_that_limit_or_count_it() -> None:
    seen = [hierarchy.mount.rpartition("/")[2] for hierarchy in cgroup.visible_hierarchies(HYBRID)]
    assert seen == ["cpu", "cpuacct", "memory", "pids", "devices"]


def with_mounts(facts: HostFacts, more: dict[str, str]) -> HostFacts:
    return msgspec.structs.replace(facts, cgroup_mounts={**facts.cgroup_mounts, **more})


def test_controllers_mounted_together_are_one_hierarchy() -> None:
    facts = msgspec.structs.replace(PURE_V1, cgroup_mounts={"cpu": "/c", "cpuacct": "/c", "cpuset": "/c"})
    assert cgroup.hierarchies(facts) == (Hierarchy("/c", 1, ("cpu", "cpuacct", "cpuset")),)


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (102, 4), (1024, 39), (262144, 10000)])
def test_pods_and_classes_weigh_as_the_kubelet_has_it(shares: int, weight: int) -> None:
    assert cgroup.shares_to_weight_kubelet(shares) == weight


@pytest.mark.parametrize(
    ("shares", "weight"), [(2, 1), (102, 17), (256, 35), (1024, 100), (2048, 174), (262144, 10000)]
)
def test_containers_weigh_as_runc_and_crun_have_it(shares: int, weight: int) -> None:
    assert cgroup.shares_to_weight_runtime(shares) == weight


def files(host: HostFacts, resources: CgroupResources, *, container: bool) -> list[tuple[str, str]]:
    convert = cgroup.v2_files if host.cgroup_version == 2 else cgroup.v1_files
    return [(file.name, file.value) for file in convert(resources, container=container)]


def test_limits_become_v1_files_with_the_period_before_the_quota_and_memory_before_swap() -> None:
    assert files(PURE_V1, LIMITED, container=True) == [
        ("cpu.shares", "512"),
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_quota_us", "50000"),
        ("memory.limit_in_bytes", "33554432"),
        ("memory.memsw.limit_in_bytes", "33554432"),
        ("pids.max", "9"),
    ]
    assert ("memory.memsw.limit_in_bytes", "33554432") not in files(PURE_V1, LIMITED, container=False)


def test_limits_become_v2_files() -> None:
    assert files(V2, LIMITED, container=True) == [
        ("cpu.weight", "59"),
        ("cpu.max", "50000 100000"),
        ("memory.max", "33554432"),
        ("memory.swap.max", "0"),
        ("memory.oom.group", "1"),
        ("pids.max", "9"),
    ]
    assert files(V2, LIMITED, container=False) == [
        ("cpu.weight", "20"),
        ("cpu.max", "50000 100000"),
        ("memory.max", "33554432"),
        ("pids.max", "9"),
    ]


def test_without_a_limit_nothing_is_written() -> None:
    bare = CgroupResources()
    assert files(PURE_V1, bare, container=True) == []
    assert files(V2, bare, container=False) == []
    unlimited = CgroupResources(cpu_quota_us=-1, pids_max=-1)
    assert files(V2, unlimited, container=False) == [("cpu.max", "max 100000"), ("pids.max", "max")]


def test_a_controller_that_the_host_lacks_gets_no_file() -> None:
    facts = msgspec.structs.replace(V2, cgroup_controllers=("cpu",))
    created = cgroup.create_container_cgroup("/minipod/x", LIMITED, facts)
    assert [setting.name for setting in created.settings] == ["cpu.weight", "cpu.max"]
    assert created.hierarchies == (Hierarchy("/sys/fs/cgroup", 2, ("cpu",)),)


def test_a_group_describes_itself_with_its_values() -> None:
    created = cgroup.create_pod_cgroup("/minipod/kubepods/podU", LIMITED, V2)
    assert created.describe() == (
        "cgroup /minipod/kubepods/podU: cpu.weight=20 cpu.max=50000/100000 memory.max=33554432 pids.max=9"
    )
    assert created.settings[0].directory == "/sys/fs/cgroup/minipod/kubepods/podU"


def test_only_v1_groups_are_joined_after_the_clone() -> None:
    assert cgroup.join_cgroup("/m/p", V2).directories == ()
    assert cgroup.clone_directory("/m/p", V2) == "/sys/fs/cgroup/m/p"
    joined = cgroup.join_cgroup("/m/p", HYBRID).directories
    assert joined == tuple(f"/sys/fs/cgroup/{c}/m/p" for c in EVERY_V1)
    assert cgroup.clone_directory("/m/p", HYBRID) == "/sys/fs/cgroup/unified/m/p"
    assert cgroup.clone_directory("/m/p", PURE_V1) == ""


def test_the_groups_above_the_pods_weigh_what_the_kubelet_gives_them() -> None:
    made = cgroup.node_cgroups(Paths(), HYBRID)
    assert [(group.path, group.settings[0].value) for group in made] == [
        ("/minipod", "2048"),
        ("/minipod/kubepods", "2048"),
        ("/minipod/kubepods/burstable", "2"),
        ("/minipod/kubepods/besteffort", "2"),
    ]
    assert all(group.shared and group.delegate for group in made)
    changed = cgroup.placed_files(
        cgroup.burstable_cgroup(Paths()), CgroupResources(cpu_shares=1024), V2, container=False
    )
    assert [(s.directory.rpartition("/minipod/")[2], s.name, s.value) for s in changed] == [
        ("kubepods/burstable", "cpu.weight", "39")
    ]


def test_operations_survive_being_saved() -> None:
    for operation in (
        cgroup.create_container_cgroup("/m/p/c", LIMITED, HYBRID),
        cgroup.join_cgroup("/m/p/c", HYBRID),
        limit_devices("/m/p/c", V2, (Device(container_path="/dev/x", host_path="/dev/fuse"),)),
    ):
        assert msgspec.json.decode(msgspec.json.encode(operation), type=type(operation)) == operation


def test_devices_are_limited_by_the_v1_controller_or_else_by_a_program() -> None:
    device = Device(container_path="/dev/x", host_path="/dev/fuse", permissions="r")
    limited = limit_devices("/m/p", HYBRID, (device,))
    assert limited is not None
    assert (limited.v1, limited.unified) == ("/sys/fs/cgroup/devices/m/p", "")
    assert limited.devices == (HostDevice("/dev/fuse", "r"),)
    limited = limit_devices("/m/p", V2)
    assert limited is not None
    assert (limited.v1, limited.unified) == ("", "/sys/fs/cgroup/m/p")
    assert "BPF_CGROUP_DEVICE" in limited.describe()


def test_a_device_program_allows_exactly_its_rules() -> None:
    rules = (DeviceRule("c", 1, 3, "rw"), DeviceRule("b", None, None, "m"), DeviceRule("c", 136, None, "r"))
    program = device_program(rules)
    allowed = {
        (kind, major, minor, access)
        for kind in "bc"
        for major, minor in ((1, 3), (1, 4), (136, 0), (136, 9))
        for access in range(1, 8)
        if run_program(program, kind, major, minor, access)
    }
    read_write = {("c", 1, 3, access) for access in (2, 4, 6)}
    make = {("b", major, minor, 1) for major, minor in ((1, 3), (1, 4), (136, 0), (136, 9))}
    assert allowed == read_write | make | {("c", 136, 0, 2), ("c", 136, 9, 2)}


def run_program(program: bytes, kind: str, major: int, minor: int, access: int) -> bool:
    """The few BPF instructions that are used, interpreted."""
    context = {0: access << 16 | {"b": 1, "c": 2}[kind], 4: major, 8: minor}
    registers = [0] * 11
    position = 0
    while True:
        code, both, low, high = program[position], program[position + 1], *program[position + 2 : position + 4]
        destination, source = both & 15, both >> 4
        offset = ctypes.c_int16(low | high << 8).value
        immediate = int.from_bytes(program[position + 4 : position + 8], "little", signed=True)
        position += 8
        match code:
            case 0x61:
                registers[destination] = context[offset]
            case 0xBC:
                registers[destination] = registers[source]
            case 0xB4:
                registers[destination] = immediate
            case 0x54:
                registers[destination] &= immediate
            case 0x74:
                registers[destination] >>= immediate
            case 0x55 if registers[destination] != immediate:
                position += 8 * offset
            case 0x5D if registers[destination] != registers[source]:
                position += 8 * offset
            case 0x55 | 0x5D:
                pass
            case 0x95:
                return registers[0] == 1
            case _:
                raise AssertionError(hex(code))


def test_files_of_a_group_are_read_and_written_with_their_name_in_errors(tmp_path: Path) -> None:
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    (tmp_path / "cgroup.procs").write_text("5\n7\n")
    directory = str(tmp_path)
    assert kernel.read_keyed(directory, "cgroup.events") == {"populated": 1, "frozen": 0}
    assert kernel.populated(directory)
    assert kernel.pids(directory) == [5, 7]
    with pytest.raises(FileNotFoundError, match="none"):
        kernel.write(directory, "none", "1")


def test_a_group_that_is_gone_is_empty(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    assert not kernel.populated(gone)
    assert kernel.pids(gone) == []
    kernel.kill_all(gone)
    kernel.remove(gone)
    assert kernel.wait_empty(gone, 0)


def test_v2_controllers_are_enabled_for_children_only_where_they_are_not(tmp_path: Path) -> None:
    control = tmp_path / "cgroup.subtree_control"
    control.write_text("cpu pids\n")
    kernel.enable(str(tmp_path), ("cpu", "memory", "pids"))
    assert control.read_text().startswith("+memory")
    control.write_text("cpu memory pids\n")
    kernel.enable(str(tmp_path), ("cpu", "memory"))
    assert control.read_text() == "cpu memory pids\n"


def test_a_new_v1_cpuset_gets_its_parents_cpus(tmp_path: Path) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):
        (tmp_path / name).write_text("0-1\n")
    (tmp_path / "g").mkdir()
    for name in ("cpuset.cpus", "cpuset.mems"):
        (tmp_path / "g" / name).write_text("\n")
    assert not kernel.make(Hierarchy(str(tmp_path), 1, ("cpuset",)), "/g")
    assert (tmp_path / "g" / "cpuset.cpus").read_text().startswith("0-1")


def test_what_the_caller_s_groups_do_to_the_agent_is_said(tmp_path: Path) -> None:
    slice_, scope = "/user.slice", "/user.slice/session-3.scope"
    (tmp_path / scope[1:]).mkdir(parents=True)
    (tmp_path / slice_[1:] / "memory.max").write_text("2147483648\n")
    (tmp_path / scope[1:] / "memory.max").write_text("max\n")
    v2 = msgspec.structs.replace(V2, cgroup_mounts={"": str(tmp_path)})
    limit, session = runtime.of_the_caller(v2, f"0::{scope}\n")
    assert limit.startswith(
        f"cgroup {slice_}: its memory limit of 2147483648 bytes holds for the agent and the spawner"
    )
    assert session.startswith(f"cgroup {scope}: a log-out with KillUserProcesses= ends agent")
    assert session.endswith("run minipod agent as a service of systemd")
    (tmp_path / slice_[1:] / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    v1 = msgspec.structs.replace(HYBRID, cgroup_mounts={"memory": str(tmp_path)})
    assert runtime.of_the_caller(v1, f"4:memory:{slice_}\n0::/\n") == []
    assert runtime.of_the_caller(v2, "0::/\n") == []
    unit = "/system.slice/minipod.service"
    (tmp_path / unit[1:]).mkdir(parents=True)
    (tmp_path / unit[1:] / "memory.max").write_text("2147483648\n")
    assert runtime.of_the_caller(v2, f"0::{unit}\n") == [], "a unit's own limit is the agent's"


def test_a_hierarchy_that_is_mounted_nowhere_is_reported() -> None:
    [found] = runtime.of_the_caller(HYBRID, "9:freezer:/\n8:name=old:/\n7:cpu,cpuacct:/\n0::/\n")
    assert found.startswith(
        "cgroup hierarchy name=old is mounted nowhere here: containers stay in the host's root group"
    )


def test_a_sibling_keeps_the_cpus_that_it_has_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = {"": ("0-3,8", "0"), "alone": ("1-2", "0"), "shared": ("3", "0"), "ours": ("", "")}
    for name, (cpus, mems) in sets.items():
        (tmp_path / name).mkdir(exist_ok=True)
        for file, text in (
            ("cpus", cpus),
            ("mems", mems),
            ("cpu_exclusive", "01"[name == "alone"]),
            ("mem_exclusive", "0"),
        ):
            (tmp_path / name / f"cpuset.{file}").write_text(text)
    write = kernel.write

    def refusing(directory: str, name: str, *values: str) -> None:
        if kernel.listed(values[0]) & {1, 2}:
            raise OSError(22, "Invalid argument")
        write(directory, name, *values)

    monkeypatch.setattr(kernel, "write", refusing)
    kernel.make(Hierarchy(str(tmp_path), 1, ("cpuset",)), "/ours")
    assert [(tmp_path / "ours" / f"cpuset.{file}").read_text() for file in ("cpus", "mems")] == ["0,3,8", "0"]
