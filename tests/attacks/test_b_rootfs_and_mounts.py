"""Section B of the catalogue: what an image, a volume or a container beside makes of the paths that are mounted on."""

from __future__ import annotations

import os
import select
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import ImageError
from minipod.kernel import mount as kmount
from minipod.plan.operation import ChildContext, ChildOperation
from minipod.plan.process.rootfs import BindMount, KeepWritable, MakeDeviceNode, MakeFolder
from minipod.plan.volumes.nfs import split_options
from tests.attacks.canary import Canary
from tests.attacks.conftest import AttackedNode
from tests.attacks.evil import EvilImages, swap_forever, swap_program
from tests.builders import Object, container, empty_dir, host_path, manifest, mount, pod
from tests.guard import guarded
from tests.layouts import Entry, entry, folder, symlink
from tests.own_mounts import in_own_mounts, swapped_at_every_step
from tests.patience import SLOWNESS
from tests.volume_pods import wait_for

pytestmark = pytest.mark.vm

#: prints what is wrong: a procfs elsewhere than at /proc, what is not masked, what of the kernel opens for writing
LOOK = """
    while read -r id parent device root place options rest; do
        case "$rest" in *"- proc "*)
            case "$place" in /proc|/proc/bus|/proc/fs|/proc/irq|/proc/sys|/proc/sysrq-trigger) ;;
            *) echo "a procfs at $place" ;; esac
            for name in sys/kernel/core_pattern sys/kernel/hostname sysrq-trigger irq/default_smp_affinity; do
                (true >> $place/$name) 2>/dev/null && echo "$place/$name is writable"
            done ;;
        *"- sysfs "*) case "$options" in ro,*) ;; *) echo "a writable sysfs at $place" ;; esac ;; esac
    done < /proc/self/mountinfo
    [ "$(stat -f -c %t /proc)" = 9fa0 ] || echo "/proc is no procfs"
    for name in interrupts kcore keys timer_list sched_debug; do
        [ ! -e /proc/$name ] || [ "$(stat -c %t:%T /proc/$name)" = 1:3 ] || echo "/proc/$name is not masked"
    done
    for name in /proc/acpi /proc/scsi /sys/firmware /sys/devices/virtual/powercap; do
        [ ! -e $name ] || [ -z "$(ls -A $name)" ] || echo "$name is not masked"
    done
    echo looked
"""


def run(node: AttackedNode, *containers: Object, **spec: Any) -> str:
    """What the pod's containers print; with the words of a start that is refused."""
    done = node("run", "-", input=manifest(pod("p", *containers, **spec)), check=False)
    return done.stdout.replace("c | ", "") + (done.stderr if done.returncode else "")


LINKED_PLACES: dict[str, tuple[list[Entry], str, str]] = {
    "proc is a link": ([symlink("proc", "/x"), folder("x")], "", "/proc must be an ordinary directory"),
    "proc is a link to nothing": ([symlink("proc", "x")], "", "/proc must be an ordinary directory"),
    "proc leads over a volume": (
        [symlink("proc", "/d/l"), folder("d"), symlink("d/l", "/x"), folder("x")],
        "/d",
        "/proc must be an ordinary directory",
    ),
    "proc is a file": ([entry("proc", b"x")], "", "/proc must be an ordinary directory"),
    "sys is a link": ([symlink("sys", "/x"), folder("x")], "", "/sys must be an ordinary directory"),
    "dev is a link": ([symlink("dev", "/x"), folder("x")], "", "/dev must be an ordinary directory"),
    "dev is a file": ([entry("dev", b"x")], "", "/dev must be an ordinary directory"),
    "a volume led onto proc": ([symlink("l", "/proc")], "/l", "leads into the container's /proc"),
    "a volume led into proc": ([symlink("l", "/proc/sys")], "/l", "leads into the container's /proc"),
    "a volume led to a process": ([symlink("l", "../proc/1")], "/l", "leads into the container's /proc"),
    "a volume led by two links": ([symlink("l", "m"), symlink("m", "proc")], "/l/self/net", "the container's /proc"),
    "a volume led below a mask": ([symlink("l", "/proc/self/root/proc")], "/l", "symbolic links"),
    "a volume led into sys": ([symlink("l", "/sys/kernel")], "/l", "leads into the container's /sys"),
    "a volume led to the root": ([symlink("l", "/")], "/l", "leads to the root directory"),
}


@pytest.mark.attack(row=10)
@pytest.mark.parametrize("case", LINKED_PLACES)
def test_an_image_s_links_move_neither_the_kernel_s_file_systems_nor_a_volume_onto_them(
    node: AttackedNode, evil: EvilImages, case: str
) -> None:
    entries, place, words = LINKED_PLACES[case]
    mounts = {"volumeMounts": [mount("v", place)]} if place else {}
    said = run(node, container("c", LOOK, image=evil("links", *entries), **mounts), volumes=[empty_dir("v")])
    assert words in said, said
    assert "looked" not in said  # it did not start


@pytest.mark.attack(row=10)
@pytest.mark.parametrize("place", ["/proc", "/proc/", "/proc/self", "/x/../proc/sys", "/proc/sysrq-trigger"])
def test_a_manifest_mounts_nothing_in_proc(node: AttackedNode, place: str) -> None:
    text = manifest(pod("p", container("c", LOOK, volumeMounts=[mount("v", place)]), volumes=[empty_dir("v")]))
    node("run", "-d", "--timeout", "1s", "-", input=text, check=False)
    state: Any = node.pod("p")["status"]
    assert "CreateContainerError" in str(state)
    assert "nothing can be mounted in /proc" in str(state)


@pytest.mark.attack(row=10)
@pytest.mark.parametrize("places", [("/sys",), ("/sys/fs/cgroup",), ("/sys/kernel", "/sys/firmware"), ("/dev",)])
def test_a_volume_over_sys_or_dev_uncovers_nothing(node: AttackedNode, places: tuple[str, ...]) -> None:
    """Also where another container has filled the volume with what a mask would be looked for in."""
    volumes = [empty_dir(f"v{number}") for number in range(len(places))]
    fake = container(
        "i",
        "mkdir -p /w/firmware /w/devices/virtual && ln -s /x /w/devices/virtual/powercap && ln -s /proc/keys /w/null",
        volumeMounts=[mount("v0", "/w")],
    )
    mounts = [mount(f"v{number}", place) for number, place in enumerate(places)]
    assert run(node, container("c", LOOK, volumeMounts=mounts), init=[fake], volumes=volumes) == "looked\n"


@pytest.mark.attack(row=10)
def test_a_volume_of_the_image_s_configuration_covers_no_proc(node: AttackedNode, evil: EvilImages) -> None:
    context = {"readOnlyRootFilesystem": True}
    for number, place in enumerate(("/proc", "/l/sys", "/dev/shm", "/sys")):
        image = evil(f"volume{number}", symlink("l", "proc"), config={"Volumes": {place: {}}})
        said = run(node, container("c", LOOK, image=image, securityContext=context))
        legitimate = place in ("/dev/shm", "/sys")
        assert (said == "looked\n") if legitimate else ("leads into the container's /proc" in said), said


@pytest.mark.attack(row=10)
def test_proc_and_sys_of_the_host_are_volumes_elsewhere_and_what_lxcfs_makes_is_one_in_proc(
    node: AttackedNode, tmp_path: Path
) -> None:
    """What is legitimate still works."""
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\n")
    volumes = [host_path("proc", "/proc"), host_path("sys", "/sys"), host_path("lxcfs", tmp_path), empty_dir("e")]
    mounts = [
        mount("proc", "/host/proc", readOnly=True),
        mount("sys", "/host/sys", readOnly=True),
        mount("lxcfs", "/proc/meminfo", subPath="meminfo"),
        mount("e", "/host/proc/fs"),
    ]
    script = "cat /proc/meminfo; [ -d /host/proc/sys ] && ls -A /host/proc/fs && [ -d /host/sys/kernel ] && echo seen"
    said = run(node, container("c", script, volumeMounts=mounts), volumes=volumes)
    assert said == "MemTotal: 1 kB\nseen\n"


@pytest.mark.attack(row=11)
def test_a_mask_is_the_container_s_own_null_device_and_cannot_be_changed(node: AttackedNode, tmp_path: Path) -> None:
    """The host's /dev/null was chmodded through a mask; an image's or a volume's `null` is not what is bound."""
    before = os.stat("/dev/null")
    make = "rm -f /v/null; ln -s /proc/sys/kernel/hostname /v/null"
    script = f"""
        {LOOK}
        for name in interrupts kcore keys timer_list; do
            for change in "chmod 0600" "chown 1" "touch -d 2001-01-01"; do
                $change /proc/$name 2>/dev/null && echo "$change /proc/$name"
            done
            grep " /proc/$name " /proc/self/mountinfo
        done
    """
    mounted = [mount("v", "/dev")]
    for mounts in ([], mounted):
        first = container("i", make, volumeMounts=[mount("v", "/v")])
        said = run(node, container("c", script, volumeMounts=mounts), init=[first], volumes=[empty_dir("v")])
        wrong, _, masks = said.partition("looked\n")
        assert wrong == ""
        assert len(masks.splitlines()) >= 3
        for line in masks.splitlines():
            fields = line.split()
            assert fields[3] == "/null", line  # of the container's own tmpfs, not of the host's /dev
            assert {"ro", "nosuid", "noexec"} <= set(fields[5].split(",")), line
            assert fields[fields.index("-") + 1] == "tmpfs"
    after = os.stat("/dev/null")
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
    assert stat.S_IMODE(after.st_mode) == 0o666


# ---- races: the swap is forced before each step of each operation


#: places that the canary has, too
PLACED: dict[str, Callable[[Path], ChildOperation]] = {
    "folder": lambda top: BindMount(source=f"{top}/source", target="/v/m/sub"),
    "file": lambda top: BindMount(source=f"{top}/file", target="/v/m/ptmx", readonly=True),
    "sub path": lambda top: BindMount(source=str(top), sub_path="source", target="/v/m"),
    "image volume": lambda top: KeepWritable("/v/m/sub"),
    "device": lambda top: MakeDeviceNode("/dev/null", "/v/m/sub/sda"),
    "working directory": lambda top: MakeFolder("/v/m/sub/wd"),
}


@pytest.mark.attack(row=8)
@pytest.mark.attack(row=9)
@pytest.mark.parametrize("kind", PLACED)
@pytest.mark.parametrize("way", ["absolute", "relative"])
def test_a_place_that_is_exchanged_at_any_step_never_leads_out(
    canary: Canary, tmp_path: Path, kind: str, way: str
) -> None:
    """The canary's own fixture sees what is made in it; here: that each step was raced and nothing mounted there."""
    link = str(canary.folder) if way == "absolute" else f"../../../../../../..{canary.folder}"
    outcomes = swapped_at_every_step(canary.folder, tmp_path, PLACED[kind](tmp_path), link)
    assert len(outcomes) >= 3, outcomes
    assert [outcome["outside"] for outcome in outcomes if outcome["outside"]] == []
    assert any(not outcome["said"] for outcome in outcomes), outcomes  # a swap after the look-up stops nothing


@pytest.mark.attack(row=8)
def test_pods_start_beside_one_that_exchanges_their_mount_points(
    node: AttackedNode, evil: EvilImages, canary: Canary, tmp_path: Path
) -> None:
    """The live race of CVE-2021-30465, over two thousand exchanges while pods start."""
    (tmp_path / "v").mkdir(mode=0o777)
    image = evil("swapper", entry("swap", swap_program("/v/m", "/v/l", times=100), mode=0o755))
    shared = host_path("v", tmp_path / "v")
    prepare = f"mkdir -p /v/m/x; ln -s ../../../../../..{canary.folder} /v/l; {swap_forever('/v/rounds')}"
    swapper = container("s", prepare, image=image, volumeMounts=[mount("v", "/v")])
    node("run", "-d", "-", input=manifest(pod("swapper", swapper, volumes=[shared])))
    rounds = tmp_path / "v" / "rounds"

    def exchanged() -> int:
        text = rounds.read_text().strip() if rounds.exists() else ""
        return int(text or 0) * 100

    wait_for(lambda: exchanged() > 0)
    begun, started, number = exchanged(), 0, 0
    mounts = [mount("v", "/v"), mount("e", "/v/m/x"), mount("e", "/v/m/f/new", subPath="sub")]
    while exchanged() - begun < 2000 or started < 3:
        number += 1
        assert number < 100, f"{started} of {number} pods started"
        victim = pod(f"p{number}", container("c", LOOK, volumeMounts=mounts), volumes=[shared, empty_dir("e")])
        done = node("run", "-", input=manifest(victim), check=False)
        started += done.stdout == "looked\n"
        assert done.stdout in ("", "looked\n"), done.stdout
    assert sorted(os.listdir(canary.folder)) == ["ptmx", "secret", "sub"]


# ---- what is prepared in a root before it is entered


@pytest.mark.attack(row=9)
@pytest.mark.parametrize("way", ["absolute", "relative", "chain", "dangling"])
def test_what_is_made_for_a_container_is_made_in_its_root(
    node: AttackedNode, evil: EvilImages, canary: Canary, tmp_path: Path, way: str
) -> None:
    """Mount points, working directory and termination log behind a link: inside, whatever the link says."""
    out = str(canary.folder)
    links = {
        "absolute": [symlink("a", out)],
        "relative": [symlink("a", f"../../../../../..{out}")],
        "chain": [symlink("a", "b/c"), folder("b"), symlink("b/c", "/d"), symlink("d", f"..{out}")],
        "dangling": [symlink("a", f"{out}/not/there")],
    }
    image = evil("made", *links[way], config={"WorkingDir": "/a/image-wd", "User": "1000:1000"})
    (tmp_path / "file").touch()
    made = container(
        "c",
        f"pwd -P; find {out} | sort",
        image=image,
        volumeMounts=[mount("e", "/a/new/d"), mount("f", "/a/f")],
        terminationMessagePath="/a/t",
    )
    said = run(node, made, volumes=[empty_dir("e"), host_path("f", tmp_path / "file")])
    top = f"{out}/not/there" if way == "dangling" else out
    assert said.splitlines()[0] == f"{top}/image-wd"
    assert {f"{top}/new/d", f"{top}/f", f"{top}/t"} <= set(said.splitlines()), said
    named = container("c", "pwd -P", image=image, workingDir="/a/wd")
    assert run(node, named) == f"{top}/wd\n"


ROOTS: dict[str, Callable[[str], list[Entry]]] = {
    "dev": lambda out: [symlink("dev", out)],
    "dev, relative": lambda out: [symlink("dev", f"../../../../../..{out}")],
    "etc": lambda out: [symlink("etc", out)],
    "run and tmp": lambda out: [symlink("run", out), symlink("tmp", out), symlink("var", out)],
    "files of etc": lambda out: [
        symlink(f"etc/{name}", f"{out}/secret") for name in ("hosts", "resolv.conf", "hostname", "mtab", "group")
    ],
    "passwd": lambda out: [symlink("etc/passwd", f"{out}/secret"), symlink("etc/shadow", f"{out}/secret")],
    "what lies in dev": lambda out: [
        symlink(f"dev/{name}", f"{out}/ptmx")
        for name in ("null", "ptmx", "console", "shm", "mqueue", "pts", "termination-log", "fd")
    ],
    "the root itself": lambda out: [symlink("./", out)],
}


@pytest.mark.attack(row=14)
@pytest.mark.parametrize("case", ROOTS)
def test_no_link_of_an_image_leads_what_is_prepared_out_of_the_root(
    node: AttackedNode, evil: EvilImages, canary: Canary, case: str
) -> None:
    """Refused, or prepared inside; the canary has a decoy `ptmx` that devpts' removal and making would reach."""
    entries = ROOTS[case](str(canary.folder))
    if case == "the root itself":
        with pytest.raises(ImageError):
            evil("root", *entries)
        return
    image = evil("root", *entries)
    context = {"runAsUser": 1000, "runAsGroup": 1000}
    said = run(node, container("c", f"cat {canary.file} /etc/hostname; {LOOK}", image=image, securityContext=context))
    assert ("/dev must be an ordinary directory" in said) if case.startswith("dev") else ("looked\n" in said), said


@pytest.mark.attack(row=12)
def test_a_terminal_is_the_container_s_own_whatever_lies_in_dev(
    node: AttackedNode, evil: EvilImages, canary: Canary
) -> None:
    """CVE-2025-52565: the slave is bound at /dev/console, and given to the container's user."""
    names = ("console", "ptmx", "null", "tty")
    out = f"{canary.folder}/ptmx"
    image = evil("console", *(symlink(f"dev/{name}", out) for name in names), symlink("dev/pts", str(canary.folder)))
    fake = (
        f"cd /v; mkdir pts; for name in {' '.join(names)} pts/ptmx pts/0; do ln -s {out} $name; done; chmod 777 . pts"
    )
    context = {"runAsUser": 1000, "readOnlyRootFilesystem": True}
    for mounts in ([], [mount("v", "/dev")]):
        made = container("c", "exec sleep 1000", image=image, tty=True, volumeMounts=mounts, securityContext=context)
        first = container("i", fake, volumeMounts=[mount("v", "/v")])
        node("run", "-d", "-", input=manifest(pod("p", made, init=[first], volumes=[empty_dir("v")])))
        look = "stat -L -c %u /proc/1/fd/0; readlink /proc/1/fd/0; stat -c %t:%T /dev/console"
        said = node("exec", "p", "--", "sh", "-c", look, check=False).stdout.split()
        assert said[:2] == ["1000", "/dev/pts/0"], said
        inside = node("exec", "-t", "p", "--", "tty", check=False)
        if mounts:  # the user's own /dev has no terminals, only links
            assert inside.returncode != 0
        else:
            assert said[2] == "88:0"
            assert inside.stdout.strip() == "/dev/pts/1"
        node("delete", "pod", "p", "--now")


# ---- what the runtime writes in /proc, takes away again, and mounts


@pytest.mark.attack(row=13)
def test_nothing_is_written_or_read_in_a_proc_that_a_container_has_faked(node: AttackedNode, canary: Canary) -> None:
    """CVE-2025-52881: exec, probe and hook in a container whose /proc is a tmpfs with files and links of its own."""
    files = "self/oom_score_adj self/attr/exec self/uid_map self/setgroups self/cgroup self/mountinfo 1/stat"
    fake = f"""
        mount -t tmpfs x /proc && cd /proc && mkdir -p self/attr thread-self sys/kernel 1 || exit 1
        for name in {files} sys/kernel/hostname thread-self/oom_score_adj; do
            echo 0 > $name; touch -d '2001-01-01 00:00:00' $name
        done
        ln -s {canary.folder} self/fd; ln -s {canary.folder} self/ns; touch /faked; exec sleep 1000
    """
    context = {"capabilities": {"add": ["SYS_ADMIN"]}, "seccompProfile": {"type": "Unconfined"}}
    made = container(
        "c",
        guarded(fake),
        securityContext=context,
        readinessProbe={"exec": {"command": ["test", "-e", "/faked"]}, "periodSeconds": 1},
        lifecycle={"preStop": {"exec": {"command": ["true"]}}},
    )
    node("run", "-d", "-", input=manifest(pod("p", made)))
    look = f"cd /proc; stat -c '%n %s %X %Y' {files} sys/kernel/hostname thread-self/oom_score_adj"

    def seen() -> list[str]:
        return node("exec", "p", "--", "sh", "-c", look).stdout.splitlines()

    assert {tuple(line.split()[1:]) for line in seen()} == {("2", "978307200", "978307200")}
    node("exec", "-t", "p", "--", "true")
    running = node.popen("exec", "p", "--", "sleep", "98765")
    found: list[int] = []

    def started() -> bool:
        found[:] = [pid for pid in processes() if command_of(pid) == b"sleep\x0098765\x00"]
        return bool(found)

    wait_for(started)
    assert [Path(f"/proc/{pid}/oom_score_adj").read_text() for pid in found] == ["1000\n"]  # BestEffort
    os.kill(found[0], signal.SIGKILL)
    running.communicate()
    assert {tuple(line.split()[1:]) for line in seen()} == {("2", "978307200", "978307200")}


def processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


@pytest.mark.attack(row=15)
def test_what_a_container_puts_in_place_of_mount_points_is_removed_and_never_followed(
    node: AttackedNode, evil: EvilImages, canary: Canary
) -> None:
    """Links to the canary where the runtime made folders: over a restart, an update, a dead agent, delete and gc."""
    out = canary.folder
    image = evil("links", symlink("etc/out", str(out)), folder("deep"), symlink("deep/out", str(out)))
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "1"}}
    volumes = [empty_dir("v"), empty_dir("w"), empty_dir("t", medium="Memory")]
    volumes.append({"name": "m", "configMap": {"name": "m"}})
    mounts = [mount("v", "/v"), mount("w", "/v/m"), mount("t", "/v/t"), mount("m", "/v/c")]
    begin = "[ -e /v/second ] && exec sleep 1000; touch /v/first; until [ -e /v/second ]; do usleep 20000; done; exit 1"
    attack = f"""
        cd /v; until [ -e first ]; do usleep 20000; done
        for name in m t c; do mv $name was-$name; ln -s {out} $name; done
        mkdir -p a/b; ln -s {out} a/b/x; ln -s {out}/sub ..data; ln -s {out} .removing-0
        rm -rf /deep; ln -s {out} /deep
        (echo 2 > c/k || ln -sfn {out} c/..data) 2>/dev/null; chmod 777 . a; touch second; exec sleep 1000
    """
    first = container("c", begin, image=image, volumeMounts=mounts)
    second = container("s", guarded(attack), image=image, volumeMounts=mounts[:1])
    attacked = pod("p", first, second, volumes=volumes, restartPolicy="OnFailure")
    node("run", "-d", "-", input=manifest(settings, attacked))

    def restarted() -> bool:
        statuses: Any = node.pod("p")["status"]
        one = next(status for status in statuses["containerStatuses"] if status["name"] == "c")
        return bool(one["restartCount"] == 1 and "running" in one["state"])

    wait_for(restarted, timeout_s=30)
    assert node("exec", "p", "-c", "s", "--", "readlink", "/v/m").stdout.strip() == str(out)  # the attack happened
    node("apply", "-", input=manifest({**settings, "data": {"k": "3"}}))
    pid = node.agent_pid()
    assert pid is not None
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([pidfd], [], [], 10 * SLOWNESS)
    os.close(pidfd)
    node("delete", "pod", "p", "--now")
    node("image", "rm", image)
    node("gc")
    assert sorted(os.listdir(out)) == ["ptmx", "secret", "sub"]


@pytest.mark.attack(row=16)
def test_what_a_container_mounts_stays_with_it(node: AttackedNode, tmp_path: Path) -> None:
    """The fixtures compare the host's mounts; here: that the container could mount, and shared what it has."""
    (tmp_path / "v").mkdir()
    script = """
        mount --make-rshared / && mount -t tmpfs x /v && mount -t tmpfs x /e && mkdir /e/sub && mount --bind /e/sub /mnt
        touch /v/inside && grep -c ' - tmpfs x ' /proc/self/mountinfo
    """
    context = {"capabilities": {"add": ["SYS_ADMIN"]}, "seccompProfile": {"type": "Unconfined"}}
    mounts = [mount("v", "/v", mountPropagation="HostToContainer"), mount("e", "/e")]
    made = container("c", guarded(f"mkdir -p /mnt; {script}"), securityContext=context, volumeMounts=mounts)
    volumes = [host_path("v", tmp_path / "v"), empty_dir("e")]
    assert run(node, made, volumes=volumes) == "3\n"
    assert os.listdir(tmp_path / "v") == []


@pytest.mark.attack(row=16)
def test_options_of_a_persistent_volume_are_the_file_system_s_or_refused() -> None:
    """A list of options cannot smuggle in what mount(2) knows besides: binds, propagation, remounts."""
    given = ("bind", "rbind", "rshared", "remount", "move", "suid,dev", "noexec", "loop=/dev/sda", "ro,nosuid")
    flags, rest = split_options(given)
    assert flags == kmount.MS_NOEXEC | kmount.MS_RDONLY | kmount.MS_NOSUID
    assert rest == ("bind", "rbind", "rshared", "remount", "move", "loop=/dev/sda")  # for the NFS client, which refuses


#: what overlayfs, mount(8) and mountinfo split at
ODD = "a,lowerdir=.:b\\c=d e\tf\ng\"h'i"


@pytest.mark.attack(row=16)
@pytest.mark.parametrize("layers", [2, 60])
def test_layers_whose_paths_hold_what_options_are_split_at_are_mounted_as_they_are(tmp_path: Path, layers: int) -> None:
    """By mount(2) as long as the options fit a page, by fsconfig(2) beyond."""
    base = tmp_path / ODD
    for name in (*(f"l{number}" for number in range(layers)), "upper", "work", "merged", "root"):
        (base / name).mkdir(parents=True)
    for number in range(layers):
        (base / f"l{number}" / f"f{number}").touch()

    def work(ctx: ChildContext) -> list[str]:
        lower = tuple(f"{base}/l{number}" for number in range(layers))
        kmount.overlay(lower, f"{base}/upper", f"{base}/work", f"{base}/merged")
        (base / "merged" / "new").touch()
        return sorted(os.listdir(base / "merged"))

    assert in_own_mounts(base / "root", work) == sorted([*(f"f{number}" for number in range(layers)), "new"])
    assert os.listdir(base / "upper") == ["new"]


@pytest.mark.attack(row=16)
def test_volumes_whose_paths_hold_what_options_are_split_at_are_bound_as_they_are(
    node: AttackedNode, tmp_path: Path
) -> None:
    (tmp_path / ODD / "sub,x:y").mkdir(parents=True)
    (tmp_path / ODD / "sub,x:y" / "file").touch()
    mounts = [mount("v", "/a,b=c\\d e", subPath="sub,x:y"), mount("v", "/v")]
    made = container("c", "ls '/a,b=c\\d e'; ls /v", volumeMounts=mounts)
    assert run(node, made, volumes=[host_path("v", tmp_path / ODD)]) == "file\nsub,x:y\n"
