"""What `check` says of a container around it: capabilities, user namespaces, groups (unit)."""

from __future__ import annotations

import errno

import pytest

from minipod.agent import confinement
from minipod.cli import check_confinement
from minipod.errors import HostError
from minipod.kernel import inherit

ALL = 0x1FFFFFFFFFF
DOCKER = 0x00000000A80425FB  # what an unprivileged container has


@pytest.mark.parametrize(
    ("effective", "bounding", "names"),
    [
        (ALL, ALL, ()),
        (DOCKER, DOCKER, ("SYS_ADMIN", "NET_ADMIN", "DAC_READ_SEARCH")),
        (ALL, ALL & ~(1 << 13), ("NET_RAW",)),  # containers have it by default
        (ALL & ~(1 << 24), ALL & ~(1 << 24), ()),  # SYS_RESOURCE: limits are not raised, that is all
        (0, 0, confinement.NEEDED),
    ],
)
def test_what_is_missing_is_named_with_the_options_that_add_it(
    effective: int, bounding: int, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = {"CapEff": f"{effective:016x}", "CapBnd": f"{bounding:016x}"}
    monkeypatch.setattr(inherit, "status_field", lambda pid, name: masks[name])
    monkeypatch.setattr("os.geteuid", lambda: 0)
    (finding,) = check_confinement.capabilities()
    assert finding.is_fatal is bool(names)
    if not names:
        confinement.require_capabilities()
        return
    options = " ".join(f"--cap-add={name}" for name in names)
    assert f"--privileged, or at least {options} --security-opt seccomp=unconfined" in finding.remedy
    with pytest.raises(HostError, match=f"the agent lacks the capabilities {', '.join(names)}: root of the host"):
        confinement.require_capabilities()


@pytest.mark.parametrize(
    ("text", "mapped"),
    [
        ("         0          0 4294967295\n", False),
        ("         0       1000          1\n", True),
        ("         0     100000      65536\n     65536 0 1\n", True),
        ("", False),  # a kernel without user namespaces
    ],
)
def test_the_root_of_a_user_namespace_is_not_the_hosts(text: str, mapped: bool) -> None:
    assert confinement.is_mapped(text) is mapped


@pytest.mark.parametrize(
    ("mark", "groups", "kind"),
    [
        ("", "0::/user.slice/user-0.slice/session-1.scope\n", ""),
        ("", "0::/minipod/kubepods/pod1/c\n", "kubepods"),
        ("", "12:pids:/docker/0123abcd\n", "docker"),
        ("", "0::/machine.slice/libpod-01.scope\n", "libpod"),
        ("lxc", "", "lxc"),
    ],
)
def test_a_container_is_known_by_its_marks(mark: str, groups: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.exists", lambda path: False)
    assert confinement.container(mark, groups) == kind


def test_a_namespace_that_may_not_be_made_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(check_confinement, "unshare_error", lambda flags: errno.EPERM)
    found = check_confinement.namespaces()
    assert {finding.is_fatal for finding in found} == {True}
    assert {finding.detail for finding in found} == {"unshare: operation not permitted"}
    assert "--privileged" in found[0].remedy
    monkeypatch.setattr(check_confinement, "unshare_error", lambda flags: errno.ENOSPC)
    assert check_confinement.namespaces()[0].remedy == "sysctl user.max_mnt_namespaces: raise it"


def test_a_group_with_processes_below_the_root_cannot_pass_controllers_on(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"cgroup.procs": "1\n20", "cgroup.subtree_control": "cpu"}
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.access", lambda path, mode: True)
    monkeypatch.setattr("os.path.exists", lambda path: True)
    monkeypatch.setattr(check_confinement, "_read", lambda path: files[path.rpartition("/")[2]])
    (finding,) = check_confinement.cgroup_mounts()
    assert finding.is_fatal
    assert finding.detail == "/sys/fs/cgroup has processes, so groups below it get no memory, pids"
    assert finding.remedy.startswith("mkdir /sys/fs/cgroup/init; ")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert check_confinement.cgroup_mounts()[0].detail == "read-only: /sys/fs/cgroup"
