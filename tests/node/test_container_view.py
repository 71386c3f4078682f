"""What a container sees and may do, line by line as under a real kubelet (containerd, runc)."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from minipod.runtime.facts import host_facts
from tests import builders
from tests.builders import Object, container, empty_dir, host_path, mount
from tests.node_fixtures import Node

pytestmark = pytest.mark.vm

SLEEP = "sleep 10000"
DEFAULT_CAPABILITIES = 0xA80425FB
STATUS = "grep -E 'Cap|NoNewPrivs|Seccomp:|Groups|Sig(Ign|Blk)' /proc/self/status"
SIGQUIT = 1 << 2  # ash itself ignores it
DEVICES = {"full": "1, 7", "null": "1, 3", "random": "1, 8", "tty": "5, 0", "urandom": "1, 9", "zero": "1, 5"}
HOSTS = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def start(node: Node, *containers: Object, **spec: Any) -> Node:
    node("run", "-d", "-", input=builders.manifest(builders.pod("view", *containers, **spec)))
    return node


def inside(node: Node, script: str, name: str = "a", *, tty: bool = False) -> str:
    """What a script prints that is executed in the container."""
    done = node("exec", *(["-t"] if tty else []), "view", "-c", name, "--", "sh", "-c", script, check=False)
    return done.stdout.replace("\r\n", "\n") + done.stderr


def said(node: Node, script: str, **fields: Any) -> str:
    """What a script prints as a container's own process."""
    spec = {key: fields.pop(key) for key in ("volumes", "securityContext", "shareProcessNamespace") if key in fields}
    text = builders.manifest(builders.pod("view", container("a", script, **fields), **spec))
    return node("run", "-", input=text, check=False).stdout


def fields_of(status: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)


@pytest.mark.parametrize("how", ["own", "exec"])
def test_an_ordinary_container_has_kubernetes_default_rights(node: Node, how: str) -> None:
    seen = said(node, STATUS) if how == "own" else inside(start(node, container("a", SLEEP)), STATUS)
    status = fields_of(seen)
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status[name], 16) == DEFAULT_CAPABILITIES
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert status["NoNewPrivs"] == "0"
    assert status["Seccomp"] == "2"  # RuntimeDefault, as a kubelet with seccompDefault
    assert (int(status["SigIgn"], 16) & ~SIGQUIT, int(status["SigBlk"], 16)) == (0, 0)
    assert status["Groups"].split() == ["0", "10"]


def test_its_environment_user_place_and_limits(node: Node) -> None:
    script = "env | sort; id -u; id -g; pwd; umask; cat /proc/self/oom_score_adj; hostname; ulimit -n"
    lines = said(node, script).splitlines()
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert [line for line in lines if line.partition("=")[0] not in ("PWD", "SHLVL")][:3] == [
        "HOME=/root",
        "HOSTNAME=view",
        path,
    ]
    assert lines[-7:-1] == ["0", "0", "/", "0022", "1000", "view"]
    assert lines[-1] == "1024"  # systemd's and containerd's, whatever the agent has


def test_its_mounts_are_those_of_containerd(node: Node) -> None:
    mounts = {line.split()[1]: line.split() for line in said(node, "cat /proc/mounts").splitlines()}

    def options(place: str) -> set[str]:
        return set(mounts[place][3].split(","))

    assert (mounts["/"][2], mounts["/"][3].split(",")[0]) == ("overlay", "rw")
    assert options("/proc") == {"rw", "nosuid", "nodev", "noexec", "relatime"}
    assert options("/dev") >= {"rw", "nosuid", "size=65536k", "mode=755"}
    assert options("/dev/pts") >= {"rw", "nosuid", "noexec", "gid=5", "mode=620", "ptmxmode=666"}
    assert options("/dev/mqueue") >= {"nosuid", "nodev", "noexec"}
    assert options("/dev/shm") >= {"rw", "nosuid", "nodev", "noexec", "size=65536k"}
    assert options("/sys") >= {"ro", "nosuid", "nodev", "noexec"}
    assert options("/sys/fs/cgroup") >= {"ro", "nosuid", "nodev", "noexec"}
    for place in ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"):
        assert "ro" in options(place)
    for place in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log"):
        assert place in mounts
    assert (mounts["/sys/firmware"][2], mounts["/sys/firmware"][3].split(",")[0]) == ("tmpfs", "ro")


def test_its_devices_and_links(node: Node) -> None:
    seen = said(node, "ls -l /dev | tail -n +2; find /dev -maxdepth 1 | wc -l").splitlines()
    listing = {}
    for line in seen[:-1]:
        mode, name = line.split()[0], line.split(" -> ")[0].split()[-1]
        listing[name] = (mode, re.sub(r"\s+", " ", line))
    for name, numbers in DEVICES.items():
        assert listing[name][0] == "crw-rw-rw-"
        assert numbers in listing[name][1]
    for name, target in (
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ):
        assert listing[name][1].endswith(f"-> {target}")
    assert listing["termination-log"][0] == "-rw-rw-rw-"
    assert set(listing) == {
        *DEVICES,
        "ptmx",
        "fd",
        "stdin",
        "stdout",
        "stderr",
        "mqueue",
        "pts",
        "shm",
        "termination-log",
    }


def test_hosts_and_resolvers_are_the_kubelet_s_byte_for_byte(node: Node) -> None:
    seen = inside(start(node, container("a", SLEEP)), "cat /etc/hosts; echo ==; cat /etc/hostname")
    status: Any = node.pod("view")["status"]
    addresses = "".join(f"{entry['ip']}\tview\n" for entry in status["podIPs"])
    assert seen == f"{HOSTS}{addresses}==\nview\n"
    assert inside(node, "cat /etc/resolv.conf").startswith(("nameserver ", "search ", "options "))


@pytest.mark.attack(row=21)
def test_what_shows_too_much_is_masked_and_nothing_of_the_kernel_can_be_set(node: Node) -> None:
    script = """
        for file in interrupts kcore keys latency_stats timer_list timer_stats sched_debug; do
            [ ! -e /proc/$file ] || wc -c < /proc/$file
        done
        for folder in /proc/acpi /proc/asound /proc/scsi /sys/firmware /sys/devices/virtual/powercap; do
            [ ! -e $folder ] || ls -A $folder
        done
        for place in /proc/sys/kernel/panic /proc/sysrq-trigger /sys/kernel/profiling /proc/irq/default_smp_affinity; do
            [ -e $place ] && (echo 0 > $place) 2>/dev/null && echo writable $place
        done
        mount -t tmpfs x /tmp 2>/dev/null && echo mounted
        unshare -U true 2>/dev/null && echo user namespace
        dmesg 2>/dev/null | head -1
        mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg 2>/dev/null
        echo end
    """
    assert set(said(node, script).split()) <= {"0", "end"}


@pytest.mark.attack(row=1)
@pytest.mark.parametrize("how", ["own", "exec", "tty"])
def test_no_descriptor_is_inherited(node: Node, how: str) -> None:
    script = "for fd in $(seq 0 200); do link=$(readlink /proc/self/fd/$fd) && echo $fd $link; done"
    if how != "own":
        start(node, container("a", SLEEP))
    seen = said(node, script) if how == "own" else inside(node, script, tty=how == "tty")
    found = dict(line.split(" ", 1) for line in seen.splitlines())
    assert set(found) == {"0", "1", "2"}
    assert all(re.match(r"/dev/null|pipe:|socket:|/dev/pts/0", target) for target in found.values())


def test_a_user_of_its_own_with_groups_and_fs_group(node: Node) -> None:
    context = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [4000, 5000]}
    container_context = {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    }
    mounts = [mount("disk", "/d"), mount("memory", "/m")]
    volumes = [empty_dir("disk"), empty_dir("memory", medium="Memory", sizeLimit="1Mi")]
    script = f"{STATUS}; id -u; id -g; touch /x /d/x /m/x 2>/dev/null; stat -c '%u %g %a' /d /d/x /m /m/x; ls /x 2>&1"
    ordinary = container("a", SLEEP, securityContext=container_context, volumeMounts=mounts)
    seen = inside(start(node, ordinary, securityContext=context, volumes=volumes), script)
    status = fields_of(seen)
    assert set(status["Groups"].split()) == {"2000", "3000", "4000", "5000"}
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert int(status["CapBnd"], 16) == 1 << 10
    assert status["NoNewPrivs"] == "1"
    lines = seen.splitlines()
    assert lines[-7:-1] == ["1000", "3000", "0 2000 2777", "1000 2000 644", "0 2000 3777", "1000 2000 644"]
    assert "No such file" in lines[-1]
    full = inside(node, "dd if=/dev/zero of=/m/big bs=1M count=3 2>&1")
    assert "No space left" in full


@pytest.mark.parametrize(("policy", "groups"), [("Merge", {"0", "10", "7"}), ("Strict", {"0", "7"})])
def test_the_image_s_groups_count_unless_the_policy_is_strict(node: Node, policy: str, groups: set[str]) -> None:
    context = {"supplementalGroups": [7], "supplementalGroupsPolicy": policy}
    assert set(said(node, "id -G", securityContext=context).split()) == groups


def test_privileged_beside_ordinary(node: Node) -> None:
    ordinary = container("a", SLEEP)
    privileged = container("p", SLEEP, securityContext={"privileged": True})
    start(node, ordinary, privileged)
    status = fields_of(inside(node, STATUS, "p"))
    assert int(status["CapEff"], 16) & ~DEFAULT_CAPABILITIES
    assert status["Seccomp"] == "0"
    script = "grep -E ' (/sys|/proc) ' /proc/mounts | cut -d' ' -f2,4 | cut -d, -f1; grep -c ' /proc/' /proc/mounts"
    assert inside(node, script, "p").split() == ["/proc", "rw", "/sys", "rw", "0"]
    assert inside(node, script).split()[:4] == ["/proc", "rw", "/sys", "ro"]
    kmsg = "mknod /tmp/kmsg c 1 11; head -c 1 /tmp/kmsg >/dev/null && echo read"
    assert inside(node, kmsg, "p") == "read\n"
    assert "not permitted" in inside(node, kmsg)


@pytest.mark.parametrize(
    ("context", "seccomp", "unshare"),
    [({}, "2", "denied"), ({"seccompProfile": {"type": "Unconfined"}}, "0", "done")],
)
def test_seccomp_holds_for_exec_too(node: Node, context: Object, seccomp: str, unshare: str) -> None:
    start(node, container("a", SLEEP, securityContext=context))
    seen = inside(node, "grep Seccomp: /proc/self/status; unshare -U true 2>/dev/null && echo done || echo denied")
    assert seen.split() == ["Seccomp:", seccomp, unshare]


def test_a_localhost_profile_that_is_missing_is_known_before_anything_starts(node: Node) -> None:
    context = {"seccompProfile": {"type": "Localhost", "localhostProfile": "none.json"}}
    text = builders.manifest(builders.pod("view", container("a", SLEEP, securityContext=context)))
    done = node("run", "-", input=text, check=False)
    assert done.returncode == 3
    assert "CreateContainer" in done.stderr
    assert f"{node.paths.state}/seccomp/none.json" in done.stderr


def test_a_terminal_of_its_own(node: Node) -> None:
    start(node, container("a", SLEEP, tty=True, stdin=True))
    own = inside(node, "readlink /proc/1/fd/0; echo $TERM; tty; [ -c /dev/console ] && echo console")
    assert own.split("\n")[:4] == ["/dev/pts/0", "xterm", "not a tty", "console"]
    assert inside(node, "tty; stty size; echo $TERM", tty=True).split() == ["/dev/pts/1", "24", "80", "xterm"]


def test_containers_share_network_ipc_and_hostname_and_nothing_else(node: Node) -> None:
    kinds = ("net", "ipc", "uts", "pid", "mnt", "cgroup")
    start(node, container("a", SLEEP), container("b", SLEEP))
    script = "for kind in " + " ".join(kinds) + "; do readlink /proc/self/ns/$kind; done"
    one, other = inside(node, script).split(), inside(node, script, "b").split()
    host = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
    assert [a == b for a, b in zip(one, other, strict=True)] == [True, True, True, False, False, False]
    assert not set(one + other) & set(host)
    inside(node, "echo shared > /dev/shm/x; echo own > /tmp/x")
    assert inside(node, "cat /dev/shm/x; ls /tmp/x 2>/dev/null; ps | grep -c sleep", "b").split()[0] == "shared"


def test_the_host_s_namespaces(node: Node) -> None:
    start(node, container("a", SLEEP), hostNetwork=True, hostPID=True, hostIPC=True)
    for kind in ("net", "ipc", "uts", "pid"):
        assert inside(node, f"readlink /proc/self/ns/{kind}").strip() == os.readlink(f"/proc/self/ns/{kind}")
    assert inside(node, "hostname").strip() == socket.gethostname()
    hosts = inside(node, "cat /etc/hosts")
    assert hosts.startswith("# Kubernetes-managed hosts file (host network).\n")
    own = Path("/etc/hosts")
    assert (own.read_text() if own.exists() else "") in hosts


@pytest.mark.attack(row=2)
def test_a_shared_pid_namespace_shows_neither_descriptors_nor_secrets_of_the_host(node: Node) -> None:
    start(
        node,
        container("a", SLEEP),
        container("b", SLEEP, env=[{"name": "SECRET", "value": "s3cret"}]),
        shareProcessNamespace=True,
    )
    script = """
        for _ in $(seq 300); do
            for p in /proc/[0-9]*; do
                [ "${p#/proc/}" = $$ ] && continue
                readlink $p/exe; tr '\\0' ' ' < $p/cmdline; ls -l $p/fd | grep -- '->' | sed 's/.*-> //'
            done
        done 2>/dev/null | sort -u
    """
    with node.popen("exec", "view", "-c", "a", "--", "sh", "-c", script) as watcher:
        for _ in range(8):
            inside(node, "true", "b")
        seen, _ = watcher.communicate(timeout=120)
    assert "sleep" in seen
    for word in ("python", "minipod", "spawner", node.paths.root, node.paths.state, "s3cret"):
        assert word not in seen
    assert "pause" in seen


def test_each_type_of_host_path(node: Node, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("text")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    volumes = [
        host_path("folder", tmp_path / "folder", type="Directory"),
        host_path("file", tmp_path / "file", type="File"),
        host_path("socket", tmp_path / "socket", type="Socket"),
        host_path("device", "/dev/null", type="CharDevice"),
        host_path("new-folder", tmp_path / "new-folder", type="DirectoryOrCreate"),
        host_path("new-file", tmp_path / "new-file", type="FileOrCreate"),
        host_path("any", tmp_path / "any"),
    ]
    mounts = [mount(volume["name"], f"/v/{volume['name']}", readOnly=volume["name"] == "folder") for volume in volumes]
    script = (
        "cd /v; stat -c '%n %F' * | sort; echo x > new-file/.. 2>/dev/null; echo x > new-file; touch folder/x any/x"
    )
    seen = inside(start(node, container("a", SLEEP, volumeMounts=mounts), volumes=volumes), script)
    assert seen.splitlines()[:7] == [
        "any directory",
        "device character special file",
        "file regular file",
        "folder directory",
        "new-file regular empty file",
        "new-folder directory",
        "socket socket",
    ]
    assert "Read-only file system" in seen
    assert (tmp_path / "new-file").read_text() == "x\n"
    assert (tmp_path / "any" / "x").exists()
    assert not (tmp_path / "folder" / "x").exists()


@pytest.mark.parametrize("kind", ["Directory", "File", "Socket", "CharDevice", "BlockDevice"])
def test_a_host_path_of_another_type_is_refused(node: Node, tmp_path: Path, kind: str) -> None:
    volumes = [host_path("v", tmp_path / "nothing", type=kind)]
    text = builders.manifest(
        builders.pod("view", container("a", SLEEP, volumeMounts=[mount("v", "/v")]), volumes=volumes)
    )
    done = node("run", "-", input=text, check=False)
    assert done.returncode == 3
    assert "hostPath type check failed" in done.stderr
    assert not (tmp_path / "nothing").exists()


@pytest.mark.attack(row=14)
@pytest.mark.parametrize("target", ["/", "/etc", "../../../..", "/proc/self/root", "/proc/1/cwd"])
def test_an_image_whose_own_folders_are_links_leads_nowhere(node: Node, tmp_path: Path, target: str) -> None:
    """/dev, /sys, /etc and a mount's place as links: what is made there is made inside the container."""
    root = tmp_path / "image"
    (root / "bin").mkdir(parents=True)
    busybox = root / "bin" / "busybox"
    busybox.write_bytes(Path("/bin/busybox").read_bytes())
    busybox.chmod(0o755)
    for name in ("dev", "sys", "etc", "data"):
        (root / name).symlink_to(target)
    names = {name: set(os.listdir(name)) for name in ("/", "/etc", "/dev")}
    command = ["/bin/busybox", "sh", "-c", "busybox ls / /etc/hosts; busybox touch /data/made"]
    node.configure(f'image_directories = ["{tmp_path}"]')
    made = {**container("a", image=f"dir:{root}", volumeMounts=[mount("v", "/data/v")]), "command": command}
    text = builders.manifest(builders.pod("view", made, volumes=[empty_dir("v")]))
    done = node("run", "-", input=text, check=False)  # whether it starts or is refused
    assert "/etc/hosts" in done.stdout or "CreateContainerError" in done.stderr or "cannot be started" in done.stderr
    assert {name: set(os.listdir(name)) for name in names} == names
    assert sorted(os.listdir(root)) == ["bin", "data", "dev", "etc", "sys"]


def test_facts_of_this_host_are_those_of_its_containers(node: Node) -> None:
    """A cgroup namespace of its own: the container's group is the root of what it sees."""
    groups = {line.rpartition(":")[2] for line in said(node, "cat /proc/self/cgroup").splitlines()}
    assert groups == {"/"} if host_facts().cgroup_version == 2 else "/" in groups
