"""Section B of the catalogue: what an image, a volume or a container beside makes of the paths that are mounted on."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.conftest import AttackedNode
from tests.attacks.evil import EvilImages
from tests.builders import Object, container, empty_dir, host_path, manifest, mount, pod
from tests.layouts import Entry, entry, folder, symlink

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
    for number, (place, refused) in enumerate(
        {"/proc": True, "/l/sys": True, "/dev/shm": False, "/sys": False}.items()
    ):
        image = evil(f"volume{number}", symlink("l", "proc"), config={"Volumes": {place: {}}})
        said = run(node, container("c", LOOK, image=image, securityContext=context))
        assert ("leads into the container's /proc" in said) if refused else (said == "looked\n"), said


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
