"""The oracle itself: a canary that is touched is noticed, and a guarded command does nothing outside of a pod."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import guard
from tests.attacks.canary import new_canary, picture_of_host
from tests.attacks.conftest import AttackedNode
from tests.attacks.evil import EvilImages, swap_forever, swap_program
from tests.builders import container, empty_dir, manifest, mount, pod
from tests.conftest import CHECKOUT, IN_CHROOT_VARIABLE
from tests.layouts import entry
from tests.own_mounts import unshare_mounts
from tests.volume_pods import wait_for


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        ("cat {}/secret >/dev/null", "atime_ns"),
        ("echo x >> {}/secret", "sha256"),
        ("chmod 604 {}/ptmx", "mode"),
        ("chown 1 {}/sub", "uid"),
        ("touch {}/sub/new", "new: mode was None"),
        ("rm {}/ptmx", "is None"),
        ("ln {}/ptmx {}/sub/link", "nlink"),
        ("setfattr -n user.x -v 1 {}/ptmx || chmod -x {}/ptmx", "ctime_ns"),
    ],
)
def test_a_canary_that_was_touched_says_how(attack: str, words: str) -> None:
    with new_canary() as canary:
        assert canary.harm() == []
        subprocess.run(["sh", "-c", attack.replace("{}", str(canary.folder))], check=True, stderr=subprocess.DEVNULL)
        assert words in "\n".join(canary.harm())


def test_a_secret_in_an_output_is_noticed_and_one_handed_in_may_be_read() -> None:
    with new_canary() as canary:
        canary.hear("harmless")
        canary.hear(canary.file.read_bytes(), "a log")
        assert "the secret is in: a log" in canary.harm()
    with new_canary() as canary:
        canary.give_to_read().read_text()
        canary.hear(canary.secret)
        assert canary.harm() == []
        canary.file.write_text("x")
        assert canary.harm()


def test_the_picture_of_the_host_holds_what_was_changed_by_escapes() -> None:
    picture = picture_of_host()
    assert {"/bin/sh", "/dev/null", "kernel/core_pattern"} <= picture.keys()
    assert any(key.startswith("mount ") for key in picture)


def test_a_guarded_command_does_nothing_outside_of_a_pod(node: AttackedNode, tmp_path: Path) -> None:
    attempt = guard.guarded(f"touch {tmp_path}/done")
    here = subprocess.run(["sh", "-c", attempt], capture_output=True, text=True, check=False)
    assert (here.returncode, os.listdir(tmp_path)) == (guard.NOT_THE_POD, [])
    with pytest.raises(AssertionError, match="is not the pod's"):
        guard.root_of(os.getpid())
    assert node("run", "-", input=manifest(pod("p", container("c", guard.guarded("echo done"))))).stdout == "done\n"


@pytest.mark.vm
def test_the_swapper_swaps_from_inside_a_pod(node: AttackedNode, evil: EvilImages) -> None:
    image = evil("swapper", entry("swap", swap_program("/v/a", "/v/b"), mode=0o755))
    volume, mounted = empty_dir("v"), mount("v", "/v")
    swapper = container("s", f"mkdir /v/a; ln -s / /v/b; {swap_forever('/v/rounds')}", image=image)
    seen = container(
        "c", "while :; do readlink /v/a && break; done; while :; do [ -L /v/a ] || break; done; exec sleep 1000"
    )
    node(
        "run",
        "-d",
        "-",
        input=manifest(
            pod("p", {**swapper, "volumeMounts": [mounted]}, {**seen, "volumeMounts": [mounted]}, volumes=[volume])
        ),
    )
    wait_for(lambda: int(node("exec", "p", "-c", "c", "--", "cat", "/v/rounds", check=False).stdout or 0) > 10)
    assert node("exec", "p", "-c", "c", "--", "sh", "-c", "readlink /proc/1/exe").stdout


def test_in_a_chroot_no_such_test_runs(tmp_path: Path) -> None:
    """There a pod's processes may come out on the host's root. A bind of `/`, in a mount namespace of its own."""
    environment = {name: value for name, value in os.environ.items() if name != IN_CHROOT_VARIABLE}
    command = f"{sys.executable} -m pytest -q -p no:cacheprovider tests/attacks/test_oracle.py"
    script = f"mount --rbind / {tmp_path} && exec chroot {tmp_path} sh -c 'cd {CHECKOUT} && exec {command}'"
    done = subprocess.run(
        ["sh", "-c", script], env=environment, capture_output=True, text=True, check=False, preexec_fn=unshare_mounts
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "this process is in a chroot" in done.stdout + done.stderr
    assert "no tests ran" in done.stdout
