"""scripts/setup against a host made of small fakes: what it does, what it says, and that it does nothing twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

COPIED = ("scripts/setup", "scripts/constraints.txt", "pyproject.toml", "minipod/runtime/images/busybox.py")

#: the host's programs; each writes down how it was called
FAKES = {
    "uname": 'if [ "$1" = -r ]; then cat $HOST/release; else echo Linux; fi',
    "id": "cat $HOST/uid",
    "dpkg-query": 'if grep -qx "$4" $HOST/missing; then exit 1; else echo installed; fi',
    "apt-get": """echo "apt-get $*" >>$HOST/calls
        [ ! -e $HOST/offline ] || { echo "E: Unable to fetch some archives"; exit 100; }
        case "$*" in *install*) [ -e $HOST/lists ] || exit 100; : >$HOST/missing ;; *update*) : >$HOST/lists ;; esac""",
    "python3": """case "$*" in
        *version_info*) [ ! -e $HOST/old-python ] ;;
        "-m venv"*) echo "venv" >>$HOST/calls; mkdir -p "$4/bin"; cp "$0" "$4/bin/python3" ;;
        *"-m pip"*) echo "pip" >>$HOST/calls
            [ ! -e $HOST/retries ] || cat $HOST/retries
            [ ! -e $HOST/offline ] || { echo "ERROR: No matching distribution"; exit 1; } ;;
        *sysconfig*) mkdir -p $HOST/site; echo $HOST/site ;;
        "-I - "*) exec $REAL_PYTHON "$@" ;;
        *"image load"*) echo "image" >>$HOST/calls
            mkdir -p "$MINIPOD_STATE/images"; : >"$MINIPOD_STATE/images/index.json" ;;
        esac""",
}


class Host:
    """A checkout and a host whose facts are files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkout = path / "checkout"
        for name in COPIED:
            (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, self.checkout / name)
        (path / "bin").mkdir()
        for name, body in FAKES.items():
            fake = path / "bin" / name
            fake.write_text(f"#!/bin/sh\n{body}\n")
            fake.chmod(0o755)
        for name, fact in {"release": "6.1.0-18-amd64", "uid": "0", "missing": "", "lists": "", "calls": ""}.items():
            self.set(name, fact)

    def set(self, name: str, fact: str = "") -> None:
        (self.path / name).write_text(f"{fact}\n" if fact else "")

    def start(self, *args: str, venv: str | None = None, state: str = "state") -> subprocess.Popen[str]:
        env = {
            "PATH": f"{self.path}/bin:{os.defpath}",
            "HOST": str(self.path),
            "REAL_PYTHON": sys.executable,
            "MINIPOD_STATE": f"{self.path}/{state}",
            "MINIPOD_PYTHON": f"{self.path}/bin/python3",
        }
        if venv:
            env["MINIPOD_VENV"] = venv
        command = [str(self.checkout / "scripts" / "setup"), *args]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def setup(self, *args: str, venv: str | None = None, state: str = "state") -> subprocess.CompletedProcess[str]:
        with self.start(*args, venv=venv, state=state) as setup:
            stdout, stderr = setup.communicate()
        return subprocess.CompletedProcess(args, setup.returncode, stdout, stderr)

    def calls(self) -> list[str]:
        """What was called since the last time one asked."""
        calls = (self.path / "calls").read_text().splitlines()
        self.set("calls")
        return calls


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_bare_host_gets_packages_environment_and_image(host: Host) -> None:
    host.set("missing", "gcc\nbusybox-static")
    (host.path / "lists").unlink()
    done = host.setup()
    assert done.returncode == 0, done.stderr
    install = "apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends busybox-static gcc"
    update = "apt-get -o DPkg::Lock::Timeout=120 update"
    assert host.calls() == [install, update, install, "venv", "pip", "image"]
    assert (host.path / "site" / "minipod-checkout.pth").read_text() == f"{host.checkout}\n"


def test_it_says_what_it_does_and_only_on_stderr(host: Host) -> None:
    host.set("missing", "gcc")
    done = host.setup()
    assert done.stdout == ""
    assert [line.split(":")[1].split()[0] for line in done.stderr.splitlines()] == [
        "installing",
        "making",
        "installing",
        "building",
        "done",
    ]
    assert "installing Debian packages: gcc\n" in done.stderr


def test_the_second_time_it_goes_straight_on(host: Host) -> None:
    host.setup()
    host.calls()
    done = host.setup()
    assert (done.returncode, done.stdout, done.stderr, host.calls()) == (0, "", "", [])


def test_what_is_set_up_needs_no_root(host: Host) -> None:
    host.setup()
    host.set("uid", "1000")
    assert (host.setup().returncode, host.setup().stderr) == (0, "")


def test_a_changed_dependency_is_installed(host: Host) -> None:
    host.setup()
    host.calls()
    with open(host.checkout / "scripts" / "constraints.txt", "a") as file:
        file.write("# newer\n")
    host.setup()
    assert host.calls() == ["pip", "image"]


def test_an_image_that_was_lost_is_built_again(host: Host) -> None:
    host.setup()
    host.calls()
    shutil.rmtree(host.path / "state")
    host.setup()
    assert host.calls()[-1] == "image"


def test_another_state_needs_an_image_and_nothing_else(host: Host) -> None:
    host.setup()
    host.calls()
    for state in ("other", "state", "other"):
        assert host.setup(state=state).returncode == 0
    assert host.calls() == ["image"]


def test_an_image_of_an_older_builder_is_built_again_in_every_state(host: Host) -> None:
    for state in ("state", "other"):
        host.setup(state=state)
    host.calls()
    with open(host.checkout / "minipod/runtime/images/busybox.py", "a") as file:
        file.write("# newer\n")
    for state in ("state", "other", "state", "other"):
        host.setup(state=state)
    assert host.calls() == ["image", "image"]


def test_the_tests_packages_come_on_top(host: Host) -> None:
    host.setup()
    host.calls()
    assert host.setup("--test").returncode == 0
    assert host.calls() == ["pip", "image"]
    requirements = (host.checkout / ".venv" / ".requirements").read_text()
    assert "pytest" in requirements
    assert "msgspec" in requirements
    assert host.setup().stderr == ""


@pytest.mark.parametrize(
    ("fact", "value", "words"),
    [
        ("uid", "1000", "run as root"),
        ("release", "5.4.0-100-generic", "Linux 5.4.0-100-generic is too old: minipod needs 5.10 or newer"),
        ("release", "4.19", "Linux 4.19 is too old"),
        ("old-python", "", "needs Python 3.11 or newer"),
    ],
)
def test_what_cannot_be_helped_is_one_clear_line(host: Host, fact: str, value: str, words: str) -> None:
    host.set(fact, value)
    done = host.setup()
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert host.calls() == []


def test_a_place_for_the_environment_that_is_not_there_is_reported_with_the_remedy(host: Host) -> None:
    done = host.setup(venv=f"{host.path}/nowhere/venv")
    assert (done.returncode, done.stderr) == (
        1,
        f"setup: cannot write to {host.path}/nowhere: name another virtual environment with MINIPOD_VENV\n",
    )


@pytest.mark.parametrize("release", ["5.10.0", "5.15-foo", "6.1.0+", "10.0"])
def test_a_kernel_from_5_10_on_will_do(host: Host, release: str) -> None:
    host.set("release", release)
    assert host.setup().returncode == 0


def test_without_a_network_the_package_manager_s_own_words_are_shown(host: Host) -> None:
    host.set("missing", "gcc")
    host.set("offline")
    done = host.setup()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("(no network?): E: Unable to fetch some archives")


def test_without_a_network_python_packages_are_an_error_and_the_next_attempt_works(host: Host) -> None:
    host.set("offline")
    done = host.setup()
    assert done.stderr.splitlines()[-1].endswith("(no network?): ERROR: No matching distribution")
    (host.path / "offline").unlink()
    assert host.setup().returncode == 0


def test_why_nothing_was_fetched_is_reported_rather_than_that_there_is_nothing(host: Host) -> None:
    cause = "SSLError(SSLCertVerificationError(1, 'certificate verify failed'))"
    host.set("retries", f"WARNING: Retrying (Retry(total=0)) after connection broken by '{cause}': /simple/isal/")
    host.set("offline")
    assert host.setup().stderr.splitlines()[-1].endswith(f"(no network?): {cause}")


def test_two_at_once_set_up_only_once(host: Host) -> None:
    setups = [host.start() for _ in range(3)]
    for setup in setups:
        setup.communicate()
    assert [setup.returncode for setup in setups] == [0, 0, 0]
    assert sorted(host.calls()) == ["image", "pip", "venv"]
