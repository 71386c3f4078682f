"""Section C of the catalogue, rows 17 to 20: cgroups of the host, devices, sysctls that are another's."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from minipod.kernel.cgroup import UNIFIED
from minipod.kernel.launcher import Call
from minipod.kernel.process import CLONE_NEWCGROUP, CLONE_NEWNS, CLONE_NEWUSER
from minipod.runtime.facts import host_facts
from tests.attacks.canary import Canary
from tests.attacks.conftest import AttackedNode
from tests.attacks.evil import EvilImages, program
from tests.builders import Object, container, empty_dir, limits, manifest, mount, pod
from tests.layouts import entry
from tests.volume_pods import wait_for

pytestmark = pytest.mark.vm

#: Mounts every hierarchy that the kernel lists and says which; then whatever of it is the host's: a root with
#: release_agent (opened for writing, never written), one that cannot be frozen as only a root cannot, other groups.
MOUNT_ALL = """
    mkdir -p /tmp/h
    while IFS=: read -r id names path; do
        [ "$path" = / ] || echo "cgroup namespace: $names is $path"
        case $names in "") kind=cgroup2 options=rw ;; name=*) kind=cgroup options=none,$names ;;
                       *) kind=cgroup options=$names ;; esac
        mount -t $kind -o $options none /tmp/h 2>/tmp/why || { echo "refused $names: $(cat /tmp/why)"; continue; }
        echo "mounted $names"
        [ -e /tmp/h/release_agent ] && (true >> /tmp/h/release_agent) 2>/dev/null && echo "release_agent opens: $names"
        case $names in freezer) [ -e /tmp/h/freezer.state ] || echo "the host's freezer" ;;
                       "") [ -e /tmp/h/cgroup.events ] || echo "the host's cgroup2" ;; esac
        for group in $(cd /tmp/h && ls -d */ 2>/dev/null); do echo "another's group in $names: $group"; done
        while read -r process; do
            [ "$process" = 0 ] && echo "another's process in $names"
        done < /tmp/h/cgroup.procs
        umount /tmp/h
    done < /proc/self/cgroup
    echo looked
"""
UNCONFINED = {"seccompProfile": {"type": "Unconfined"}}
ADMIN = {"capabilities": {"add": ["SYS_ADMIN"]}}
#: name -> (security context, what runs $ATTACK)
ATTACKERS: dict[str, tuple[Object, str]] = {
    "SYS_ADMIN": (ADMIN, "sh"),
    "SYS_ADMIN, Unconfined": ({**ADMIN, **UNCONFINED}, "sh"),
    "user namespace, Unconfined": (UNCONFINED, "/unshare0"),
    "user namespace of a user, Unconfined": ({**UNCONFINED, "runAsUser": 1000, "runAsGroup": 1000}, "/unshare1000"),
    "privileged": ({"privileged": True}, "sh"),
}


def unshare_program(uid: int) -> bytes:
    """`unshare -UrmC sh -c "$ATTACK"` (busybox knows no -C): root in namespaces of its own."""

    def write(path: str, text: str) -> tuple[Call, ...]:
        opened = Call("openat", (-100, path.encode() + b"\0", os.O_WRONLY))
        return opened, Call("write", (3, text.encode(), len(text))), Call("close", (3,))

    shell = (b"sh", b"-c", b'eval "$ATTACK"')
    return program(
        Call("unshare", (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP,)),
        *write("/proc/self/setgroups", "deny"),
        *write("/proc/self/uid_map", f"0 {uid} 1"),
        *write("/proc/self/gid_map", f"0 {uid} 1"),
        Call("execve", (b"/bin/sh\0", shell, (b"PATH=/bin:/sbin", f"ATTACK={MOUNT_ALL}".encode()))),
    )


def hierarchies() -> int:
    """How many of them there are to mount: all that the kernel lists, cgroup2 where anything can be in it."""
    return len(Path("/proc/self/cgroup").read_text().splitlines()) - (UNIFIED not in host_facts().cgroup_mounts)


def run(node: AttackedNode, script: str, **fields: Any) -> list[str]:
    text = manifest(pod("p", container("c", script, **fields)))
    return node("run", "-", input=text, check=False).stdout.splitlines()


@pytest.mark.attack(row=17)
@pytest.mark.parametrize("how", ["start", "exec"])
@pytest.mark.parametrize("attacker", ATTACKERS)
def test_every_hierarchy_begins_for_a_container_at_its_own_group(
    node: AttackedNode, evil: EvilImages, attacker: str, how: str
) -> None:
    context, attack = ATTACKERS[attacker]
    image = evil("unshare", *(entry(f"unshare{uid}", unshare_program(uid), mode=0o755) for uid in (0, 1000)))
    script = 'eval "$ATTACK"' if attack == "sh" else attack
    if "1000" in attack:
        context = {**context, "runAsGroup": 1000}
    more: Object = {
        "image": image,
        "volumeMounts": [mount("t", "/tmp")],
        "env": [{"name": "ATTACK", "value": MOUNT_ALL.replace("$", "$$")}],
    }
    command = script if how == "start" else "exec sleep 1000"
    text = manifest(pod("p", container("c", command, securityContext=context, **more), volumes=[empty_dir("t")]))
    if how == "start":
        said = node("run", "-", input=text, check=False).stdout.splitlines()
    else:
        node("run", "-d", "-", input=text)
        said = node("exec", "p", "--", "sh", "-c", script, check=False).stdout.splitlines()
    mounted = [line for line in said if line.startswith("mounted ")]
    assert [line for line in said if line not in mounted] == ["looked"], said
    if "namespace" not in attacker:  # a new user namespace may be refused some, never given the host's
        assert len(mounted) == hierarchies(), said
    assert mounted


@pytest.mark.attack(row=17)
def test_an_ordinary_container_mounts_no_hierarchy_and_makes_no_namespace(node: AttackedNode, evil: EvilImages) -> None:
    image = evil("unshare", entry("unshare0", unshare_program(0), mode=0o755))
    first, *said, last = run(node, f"/unshare0; echo $?; {MOUNT_ALL}", image=image)
    assert (first, last) == ("255", "looked")
    assert [line for line in said if not line.startswith("refused ")] == []
    assert len(said) >= hierarchies()


@pytest.mark.attack(row=17)
def test_a_container_freezes_itself_and_nothing_of_the_host(node: AttackedNode) -> None:
    if "freezer" not in host_facts().cgroup_mounts:
        pytest.skip("no v1 freezer here")
    script = "mount -t cgroup -o freezer f /tmp && echo ready && echo FROZEN > /tmp/freezer.state; sleep 1000"
    attacker = container("c", script, securityContext={**ADMIN, **UNCONFINED})
    node("run", "-d", "-", input=manifest(pod("p", attacker)))
    node("run", "-d", "-", input=manifest(pod("q", container("c", "sleep 1000"))))
    freezer = host_facts().cgroup_mounts["freezer"]
    groups = [path.parent for path in Path(f"{freezer}{node.paths.cgroup_root}").rglob("freezer.self_freezing")]
    try:
        wait_for(lambda: any((group / "freezer.state").read_text() == "FROZEN\n" for group in groups))
        assert node("exec", "q", "--", "echo", "alive").stdout == "alive\n"
        frozen = [group for group in groups if (group / "freezer.self_freezing").read_text() == "1\n"]
        assert len(frozen) == 1
        assert len(frozen[0].name) == 64  # the container's own, not the pod's
        node("delete", "pod", "p")
    finally:
        for group in groups:
            if group.exists():
                (group / "freezer.state").write_text("THAWED")


@pytest.mark.attack(row=18)
@pytest.mark.parametrize(
    ("spec", "context"),
    [
        ({}, {}),
        ({"hostNetwork": True}, {}),
        ({"hostPID": True}, {}),
        ({"shareProcessNamespace": True}, {}),
        ({}, {"capabilities": {"add": ["DAC_OVERRIDE", "DAC_READ_SEARCH", "SYS_NICE"]}}),
        ({}, {"seccompProfile": {"type": "Unconfined"}}),
    ],
    ids=["plain", "hostNetwork", "hostPID", "shared", "capabilities", "Unconfined"],
)
def test_no_file_of_a_cgroup_opens_for_writing(node: AttackedNode, spec: Object, context: Object) -> None:
    script = """
        find /sys/fs/cgroup -type f > /tmp/all; wc -l < /tmp/all
        while read -r file; do (true >> "$file") 2>/dev/null && echo "$file opens"; done < /tmp/all
        find /sys/fs/cgroup -type d | while read -r d; do mkdir "$d/x" 2>/dev/null && echo "$d/x made"; done
        mount -o remount,rw /sys/fs/cgroup 2>/dev/null && echo remounted
        [ "$(cd -P /sys/fs/cgroup/.. && pwd)" = /sys/fs ] || echo "above is elsewhere"
        cat /sys/fs/cgroup/memory*/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null
        exit 0
    """
    made = container("c", script, securityContext=context, resources=limits(memory="64Mi"))
    tried, *opened = node("run", "-", input=manifest(pod("p", made, **spec))).stdout.splitlines()
    assert int(tried) > 30
    assert opened == [str(64 << 20)]  # its own group's, so it was looked at


DEVICES = """
    for node in {nodes}; do
        set -- $(echo $node | tr : ' ')
        rm -f /v/n; mknod /v/n $1 $2 $3 && echo made; (: < /v/n) 2>/dev/null && echo "$node opens for reading"
        (: >> /v/n) 2>/dev/null && echo "$node opens for writing"; rm -f /v/n
    done
"""


def nodes_of_disks() -> str:
    """The disk of the root file system, the usual ones, memory, ports, tun."""
    own = os.stat("/").st_dev
    return f"b:{os.major(own)}:{os.minor(own)} b:8:0 b:259:0 c:1:1 c:1:4 c:1:11 c:10:200 c:10:229"


@pytest.mark.attack(row=19)
def test_a_device_node_that_a_container_makes_opens_nothing(node: AttackedNode) -> None:
    """Made they are (MKNOD is a default): opened neither by its first process, nor in exec, nor after other limits."""
    nodes = nodes_of_disks()
    script = DEVICES.replace("{nodes}", nodes)
    attacker = container(
        "c", f"{script} echo started; exec sleep 1000", volumeMounts=[mount("v", "/v")], resources=limits(memory="64Mi")
    )
    node("run", "-d", "-", input=manifest(pod("p", attacker, volumes=[empty_dir("v")])))
    wait_for(lambda: "started" in node("logs", "p").stdout)
    assert node("logs", "p").stdout.splitlines() == ["made"] * len(nodes.split()) + ["started"]
    assert node("exec", "p", "--", "sh", "-c", script).stdout.splitlines() == ["made"] * len(nodes.split())
    node("resize", "pod", "p", "--container=c", "--limits=memory=80Mi")
    assert node("exec", "p", "--", "sh", "-c", script).stdout.splitlines() == ["made"] * len(nodes.split())


@pytest.mark.attack(row=19)
def test_a_device_node_of_an_image_or_a_hosts_folder_opens_nothing(
    node: AttackedNode, evil: EvilImages, canary: Canary
) -> None:
    own = os.stat("/").st_dev
    disk = entry("disk", kind=b"4", mode=0o666, devmajor=os.major(own), devminor=os.minor(own))
    os.mkdir(canary.folder.parent / f"{canary.folder.name}-nodes")
    folder = canary.folder.parent / f"{canary.folder.name}-nodes"
    try:
        os.mknod(folder / "disk", 0o060666, own)
        script = (
            'for n in /disk /v/disk; do [ -b $n ] && echo there; (: < $n) 2>/dev/null && echo "$n opens"; done; exit 0'
        )
        made = container("c", script, image=evil("disk", disk), volumeMounts=[mount("v", "/v")])
        text = manifest(pod("p", made, volumes=[{"name": "v", "hostPath": {"path": str(folder)}}]))
        assert node("run", "-", input=text).stdout.splitlines() == ["there", "there"]
    finally:
        os.unlink(folder / "disk")
        os.rmdir(folder)


#: struct file_handle of ext4's root directory: 8 bytes of type FILEID_INO32_GEN, inode 2, generation 0
ROOT_HANDLE = struct.pack("=IiII", 8, 1, 2, 0)
SHOCKER = (
    Call("openat", (-100, b"/v\0", os.O_RDONLY | os.O_DIRECTORY)),
    Call("open_by_handle_at", (3, ROOT_HANDLE, os.O_RDONLY | os.O_DIRECTORY)),
)


@pytest.mark.attack(row=19)
def test_a_volume_is_no_way_to_open_its_file_system_by_handle(node: AttackedNode, evil: EvilImages) -> None:
    image = evil("shocker", entry("shocker", program(*SHOCKER), mode=0o755))
    for context in ({}, UNCONFINED):
        attacker = container("c", "/shocker; echo $?", image=image, volumeMounts=[mount("v", "/v")])
        text = manifest(pod("p", {**attacker, "securityContext": context}, volumes=[empty_dir("v")]))
        assert node("run", "-", input=text).stdout == "255\n", context


SYSCTLS = {
    "kernel.core_pattern": "x",
    "kernel/core_pattern": "x",
    "net/../kernel.core_pattern": "x",
    "net.ipv4.conf.all.route_localnet": "1",
    "net.ipv4.conf.a/b.rp_filter": "0",
    "net/ipv4/conf/../../../kernel/core_pattern": "x",
    "kernel.shm_rmid_forced/../core_pattern": "x",
    "kernel.shm_rmid_forced+kernel.core_pattern": "1",
    "kernel.shm_rmid_forced\n": "1",
    "kernel.shmmax": "1",
    "vm.overcommit_memory": "1",
    "fs.mqueue.msg_max": "9",
}


@pytest.mark.attack(row=20)
@pytest.mark.parametrize("name", SYSCTLS)
def test_a_sysctl_that_is_not_the_pod_s_alone_is_refused_by_its_name(node: AttackedNode, name: str) -> None:
    context = {"sysctls": [{"name": name, "value": SYSCTLS[name]}]}
    done = node("run", "-", input=manifest(pod("p", container("c", "echo ran"), securityContext=context)), check=False)
    assert "ran" not in done.stdout
    assert "forbidden sysctl" in done.stderr or "must be a sysctl's name" in done.stderr, done.stderr


@pytest.mark.attack(row=20)
@pytest.mark.parametrize(
    "value",
    [
        "1+kernel.core_pattern=|x",
        "1\nkernel.core_pattern=x",
        "1\0",
        "1=kernel.core_pattern=x",
        "1 ../core_pattern",
        "1;x",
    ],
)
def test_a_value_sets_its_own_sysctl_or_nothing(node: AttackedNode, value: str) -> None:
    context = {"sysctls": [{"name": "kernel.shm_rmid_forced", "value": value}]}
    text = manifest(pod("p", container("c", "cat /proc/sys/kernel/shm_rmid_forced"), securityContext=context))
    done = node("run", "-", input=text, check=False)
    # The kernel takes the first word of a line; what else the host is, is compared after the test.
    assert done.stdout == "1\n" or "sysctl kernel.shm_rmid_forced=" in done.stderr


@pytest.mark.attack(row=20)
@pytest.mark.parametrize(
    ("name", "spec"),
    [("net.ipv4.ip_unprivileged_port_start", {"hostNetwork": True}), ("kernel.shm_rmid_forced", {"hostIPC": True})],
)
def test_a_namespace_of_the_host_s_is_not_set(node: AttackedNode, name: str, spec: Object) -> None:
    before = Path("/proc/sys", name.replace(".", "/")).read_text()
    context = {"sysctls": [{"name": name, "value": "1"}]}
    done = node(
        "run", "-", input=manifest(pod("p", container("c", "echo ran"), securityContext=context, **spec)), check=False
    )
    assert (done.returncode != 0, "ran" in done.stdout) == (True, False)
    assert Path("/proc/sys", name.replace(".", "/")).read_text() == before
