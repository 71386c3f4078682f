"""Groups on the real kernel: made, joined, limited, killed, removed; on whatever hierarchies this host has."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minipod.kernel import cgroup as kernel
from minipod.kernel import process
from minipod.paths import Paths
from minipod.plan import cgroup
from minipod.plan.configs import CgroupResources, HostFacts
from minipod.plan.operation import ChildContext
from minipod.plan.process.devices import LimitDevices, limit_devices
from minipod.runtime import cgroup as runtime
from minipod.runtime.facts import host_facts
from tests.patience import SLOWNESS

pytestmark = pytest.mark.vm

KILL_WAIT_S = 5 * SLOWNESS


@pytest.fixture(params=["as it is", "cgroup2 alone"])
def facts(request: pytest.FixtureRequest) -> HostFacts:
    """This host, and (where it is hybrid) as if its cgroup2 mount were all, without controllers."""
    found = host_facts()
    if request.param == "as it is":
        return found
    mount = found.cgroup_mounts.get(kernel.UNIFIED)
    if found.cgroup_version == 2 or mount is None:
        pytest.skip("this host is not hybrid")
    return msgspec.structs.replace(
        found, cgroup_version=2, cgroup_mounts={kernel.UNIFIED: mount}, cgroup_controllers=()
    )


def need(facts: HostFacts, controller: str) -> None:
    if controller not in facts.cgroup_controllers:
        pytest.skip(f"no {controller} controller here")


@pytest.fixture
def pod_group(paths: Paths, facts: HostFacts) -> Iterator[str]:
    path = f"{paths.cgroup_root}/kubepods/burstable/podU"
    created = cgroup.create_pod_cgroup(path, CgroupResources(cpu_shares=102), facts)
    created.execute()
    yield path
    created.undo()
    runtime.remove_instance(paths, facts)


def start(path: str, facts: HostFacts, work: Callable[[], None]) -> int:
    """A child in the group that runs `work`; exits 0, or 1 when it raised."""
    directory = cgroup.clone_directory(path, facts)
    group_fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC) if directory else -1
    pid, pidfd = process.clone3(0, group_fd)
    if pid == 0:
        try:
            cgroup.join_cgroup(path, facts).execute(ChildContext())
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    os.close(pidfd)
    if group_fd >= 0:
        os.close(group_fd)
    return pid


def sleep_long() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + KILL_WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "condition not reached"
        time.sleep(0.005)


def container(pod_group: str, facts: HostFacts, **resources: Any) -> cgroup.CreateCgroup:
    path = cgroup.container_cgroup_path(pod_group, "c" * 64)
    created = cgroup.create_container_cgroup(path, CgroupResources(**resources), facts)
    created.execute()
    return created


def test_a_child_is_in_its_group_in_every_hierarchy(pod_group: str, facts: HostFacts) -> None:
    created = container(pod_group, facts)
    pid = start(created.path, facts, sleep_long)
    joined = {c for h in created.hierarchies for c in h.controllers} if facts.cgroup_version == 1 else {""}

    def inside() -> bool:
        lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
        groups = {controller: path for _, controllers, path in lines for controller in controllers.split(",")}
        return all(groups[controller] == created.path for controller in joined)

    wait_for(inside)
    assert runtime.pids(created.path, facts) == [pid]
    assert runtime.populated(pod_group, facts)
    created.undo()
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    created.undo()
    assert not any(os.path.exists(directory) for directory in runtime.directories(created.path, facts))


def test_no_hierarchy_of_the_host_is_left_out(paths: Paths) -> None:
    """As the kernel lists them, wherever they are mounted: the cgroup namespace has its root in each of them."""
    facts = host_facts()
    created = cgroup.create_container_cgroup(f"{paths.cgroup_root}/c", CgroupResources(), facts)
    created.execute()
    pid = start(created.path, facts, sleep_long)
    try:
        wait_for(lambda: all(line.endswith(f":{created.path}") for line in cgroup_lines(pid)))
    finally:
        created.undo()
        os.waitpid(pid, 0)
        runtime.remove_instance(paths, facts)


def cgroup_lines(pid: int) -> list[str]:
    """Of a process, but for a cgroup2 that is mounted nowhere: the kernel lists it on every host."""
    mounted = host_facts().cgroup_mounts
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return [line for line in lines if not line.startswith("0::") or kernel.UNIFIED in mounted]


def test_a_container_that_froze_itself_can_be_killed_and_removed(pod_group: str, facts: HostFacts) -> None:
    freezer = facts.cgroup_mounts.get("freezer")
    if facts.cgroup_version != 1 or freezer is None:
        pytest.skip("no v1 freezer here")
    created = container(pod_group, facts)
    pid = start(created.path, facts, sleep_long)
    wait_for(lambda: runtime.pids(created.path, facts) == [pid])
    kernel.write(freezer + created.path, "freezer.state", "FROZEN")
    wait_for(lambda: kernel.read(freezer + created.path, "freezer.state") == "FROZEN")
    began = time.monotonic()
    created.undo()
    assert time.monotonic() - began < KILL_WAIT_S
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_a_group_below_one_that_the_host_runs_its_release_agent_for_calls_it_never(paths: Paths) -> None:
    for hierarchy in cgroup.hierarchies(host_facts()):
        if hierarchy.version == 1:
            kernel.make(hierarchy, f"{paths.cgroup_root}/x")
            directory = f"{hierarchy.mount}{paths.cgroup_root}"
            assert kernel.read(f"{directory}/x", "notify_on_release") == "0"
            kernel.remove(directory)


def test_values_are_what_the_kernel_then_shows(pod_group: str, facts: HostFacts) -> None:
    created = container(pod_group, facts, cpu_shares=512, cpu_quota_us=50000, memory_limit_bytes=1 << 25, pids_max=7)
    for setting in created.settings:
        if not setting.optional or os.path.exists(f"{setting.directory}/{setting.name}"):
            assert kernel.read(setting.directory, setting.name) == setting.value


def test_a_group_with_processes_that_cannot_have_controllers_below_it_is_reported_with_the_way_out(
    pod_group: str, facts: HostFacts
) -> None:
    if facts.cgroup_version != 2 or not facts.cgroup_controllers:
        pytest.skip("v1 knows no such rule")
    created = container(pod_group, facts)
    pid = start(created.path, facts, sleep_long)
    wait_for(lambda: runtime.populated(created.path, facts))
    with pytest.raises(OSError, match="move the processes that are in it"):
        kernel.enable(created.hierarchies[0].mount + created.path, created.hierarchies[0].controllers)
    created.undo()
    os.waitpid(pid, 0)


def test_a_pod_is_killed_with_the_groups_that_its_containers_made(pod_group: str, facts: HostFacts) -> None:
    created = container(pod_group, facts)
    for hierarchy in created.hierarchies:
        os.mkdir(f"{hierarchy.mount}{created.path}/nested")
    pids = [start(created.path, facts, sleep_long) for _ in range(3)]
    nested = start(f"{created.path}/nested", facts, sleep_long)
    wait_for(lambda: len(runtime.pids(pod_group, facts)) == 4)
    runtime.kill(pod_group, facts)
    assert runtime.wait_empty(pod_group, facts, KILL_WAIT_S)
    for pid in (*pids, nested):
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    runtime.remove(pod_group, facts)
    assert runtime.pids(pod_group, facts) == []


def test_a_group_without_cgroup_kill_is_emptied_all_the_same(pod_group: str, facts: HostFacts) -> None:
    created = container(pod_group, facts)
    v1_only = [h.mount + created.path for h in created.hierarchies if h.version == 1]
    if not v1_only:
        pytest.skip("cgroup2 alone")
    pids = [start(created.path, facts, sleep_long) for _ in range(3)]
    wait_for(lambda: len(runtime.pids(created.path, facts)) == 3)
    cgroup.remove_with_processes(v1_only)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_a_process_over_its_memory_limit_is_killed_and_counted(pod_group: str, facts: HostFacts) -> None:
    need(facts, "memory")
    created = container(pod_group, facts, memory_limit_bytes=16 << 20)
    assert runtime.oom_kills(created.path, facts) == 0

    def hog() -> None:
        held = []
        while True:
            held.append(b"x" * (1 << 20))

    pid = start(created.path, facts, hog)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert runtime.oom_kills(created.path, facts) >= 1  # with memory.oom.group the victim counts twice
    created.undo()
    assert runtime.oom_kills(created.path, facts) == 0


def test_usage_is_reported(pod_group: str, facts: HostFacts) -> None:
    need(facts, "memory")
    created = container(pod_group, facts)
    held = 8 << 20

    def work() -> None:
        block = bytearray(held)
        for offset in range(0, held, 4096):
            block[offset] = 1
        sleep_long()

    pid = start(created.path, facts, work)
    wait_for(lambda: runtime.stats(created.path, facts).memory_working_set_bytes >= held)
    found = runtime.stats(created.path, facts)
    assert found.cpu_usage_ns > 0
    assert found.pids == 1
    created.undo()
    os.waitpid(pid, 0)
    assert runtime.stats(created.path, facts) == runtime.CgroupStats()


def test_leftovers_are_found_and_living_classes_stay(paths: Paths, facts: HostFacts, pod_group: str) -> None:
    strange = f"{paths.cgroup_root}/kubepods/strange"
    cgroup.create_pod_cgroup(strange, CgroupResources(), facts).execute()
    assert runtime.find_leftovers(paths, facts) == (pod_group, strange)
    runtime.remove_instance(paths, facts)
    assert runtime.find_leftovers(paths, facts) == (pod_group, strange)
    runtime.remove(strange, facts)
    assert runtime.find_leftovers(paths, facts) == (pod_group,)


def test_the_groups_above_the_pods_vanish_when_they_are_empty(paths: Paths, facts: HostFacts) -> None:
    above = cgroup.node_cgroups(paths, facts)
    for group in above:
        group.execute()
    cgroup.set_burstable_shares(paths, facts, 1024)
    for group in above:
        group.execute()
    wanted = cgroup.placed_files(
        cgroup.burstable_cgroup(paths), CgroupResources(cpu_shares=1024), facts, container=False
    )
    assert [kernel.read(s.directory, s.name) for s in wanted] == [s.value for s in wanted]
    pod = cgroup.create_pod_cgroup(f"{paths.cgroup_root}/kubepods/podU", CgroupResources(), facts)
    pod.execute()
    for group in reversed(above):
        group.undo()
    assert all(os.path.isdir(directory) for directory in runtime.directories(pod.path, facts))
    pod.undo()
    for group in reversed(above):
        group.undo()
    assert not any(os.path.exists(directory) for directory in runtime.directories(paths.cgroup_root, facts))


@pytest.mark.parametrize("how", ["v1", "unified"])
def test_a_container_can_make_any_device_and_use_only_the_harmless_ones(
    pod_group: str, facts: HostFacts, how: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    created = container(pod_group, facts)
    limited = limit_devices(created.path, facts)
    unified = cgroup.clone_directory(created.path, facts)
    if how == "unified":
        limited = LimitDevices(created.path, unified=unified) if unified else None
    if limited is None or not getattr(limited, how):
        pytest.skip(f"this host has no {how} hierarchy for devices")
    limited.execute()
    folder = tmp_path_factory.mktemp("devices")

    def work() -> None:
        for name, kind, major, minor, usable in (
            ("null", 0o20600, 1, 3, True),
            ("kmsg", 0o20600, 1, 11, False),
            ("disk", 0o60600, 254, 0, False),
        ):
            os.mknod(folder / name, kind, os.makedev(major, minor))
            try:
                os.close(os.open(folder / name, os.O_RDONLY))
                opened = True
            except PermissionError:
                opened = False
            assert opened == usable

    pid = start(created.path, facts, work)
    assert os.waitpid(pid, 0)[1] == 0
    created.undo()


def test_facts_describe_this_host(facts: HostFacts) -> None:
    assert facts.cpus >= 1
    assert facts.memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert facts.cgroup_version in (1, 2)
    assert facts.cgroup_controllers == () or {"cpu", "memory", "pids"} <= set(facts.cgroup_controllers)
    assert facts.node_name == facts.node_name.lower()
    assert facts.node_ips
    assert facts.storage_bytes > 0
