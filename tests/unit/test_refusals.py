"""What the API server accepts and containerd or runc refuse: the state, the reason, the field and the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from minipod.errors import ContainerError, SandboxError, VolumeError
from minipod.plan.configs import ContainerConfig, Mount
from minipod.plan.container import ExecPlace, SeccompFilter, exec_operations
from minipod.plan.process.identity import AssumeUser
from minipod.plan.refusals import refuse_creation, refuse_start
from minipod.plan.volumes.host_paths import CheckHostPath
from tests.unit.test_container_plan import SANDBOX, V1, plan
from tests.unit.test_plan_pod import sandbox_of


def config(**fields: Any) -> ContainerConfig:
    return ContainerConfig(id="c", name="c", image="busybox", directory="/state/c", **fields)


def mounts(host_path: str = "/h", container_path: str = "/m", **fields: Any) -> dict[str, Any]:
    return {"mounts": (Mount(volume="v", host_path=host_path, container_path=container_path, **fields),)}


@pytest.mark.parametrize(
    ("fields", "reason", "words"),
    [
        (mounts("/a\0b"), "CreateContainerError", r"volume \"v\": failed to stat '/a\\x00b': invalid argument"),
        (mounts("/x" * 3000), "CreateContainerError", r"failed to stat '/x/x.*…': file name too long: .* 4095 bytes"),
        (mounts(sub_path="x\0"), "CreateContainerConfigError", r"failed to prepare subPath for volumeMount \"v\""),
    ],
)
def test_the_creation_is_refused(fields: dict[str, Any], reason: str, words: str) -> None:
    with pytest.raises(ContainerError, match=words) as caught:
        plan(**fields)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("fields", "cwd", "argv", "words"),
    [
        (mounts("tmp/x"), "/", ["a"], r"volume \"v\": hostPath 'tmp/x' is not absolute.*leading /"),
        (mounts("."), "/", ["a"], r"hostPath '\.' is not absolute"),
        (mounts(container_path="/m\0"), "/", ["a"], r"mountPath '/m\\x00': invalid argument: a NUL byte"),
        ({}, "/ä" * 2000, ["a"], "workingDir '/ä.*…': file name too long"),
        ({}, "srv", ["a"], "workingDir 'srv': Cwd must be an absolute path: write it with a leading /"),
        ({}, "/s\0", ["a"], r"workingDir '/s\\x00': invalid argument"),
        ({"termination_message_path": "/t\0"}, "/", ["a"], "terminationMessagePath"),
        ({}, "/", ["echo", "a\0b"], r"exec 'echo': argument 1, 'a\\x00b': invalid argument: a NUL byte"),
        ({}, "/", ["echo", "\0" + "x" * 5000], r"argument 1, '\\x00x{39}…': invalid argument"),
    ],
)
def test_the_start_is_refused(fields: dict[str, Any], cwd: str, argv: list[str], words: str) -> None:
    refuse_creation(config(**fields))
    with pytest.raises(ContainerError, match=words) as caught:
        refuse_start(config(**fields), cwd, argv)
    assert caught.value.reason == "RunContainerError"


@pytest.mark.parametrize(("path", "words"), [("/a\0b", "a NUL byte"), ("/x" * 3000, "file name too long")])
def test_a_path_with_a_type_fails_where_the_kubelet_looks_at_it(path: str, words: str) -> None:
    with pytest.raises(VolumeError, match=f"MountVolume.SetUp failed .*{words}"):
        CheckHostPath("v", path, "Directory").execute()
    CheckHostPath("v", path).execute()  # nothing is made, and the creation is refused


def test_what_both_take_is_left_alone() -> None:
    for path in ("/a:b", "/a\nb", "//x/../y/", "/ä"):
        refuse_creation(config(**mounts(path, path, sub_path="a:b")))
        refuse_start(config(**mounts(path, path), termination_message_path="relative"), path, ["sh", "", "a\nb", "ä"])


def test_a_command_in_a_container_is_not_cut_at_a_nul_byte() -> None:
    place = ExecPlace(root=(1, 2), user=AssumeUser(uid=0, gid=0), environment=(), cwd="/")
    with pytest.raises(ContainerError, match="argument 1"):
        exec_operations(config(), SANDBOX, place, ("rm", "/x\0.bak"), V1, SeccompFilter("p"), None)


@pytest.mark.parametrize("value", ["1\n0", "1\0", "ü", "1\r", "0\n\n"])
def test_a_sysctl_has_one_line_of_ascii(value: str) -> None:
    with pytest.raises(SandboxError, match=r"sysctl kernel.shm_rmid_forced=.*: invalid argument: a value is printable"):
        sandbox_of(securityContext={"sysctls": [{"name": "kernel.shm_rmid_forced", "value": value}]})


@pytest.mark.parametrize("value", ["1", "1\n", "1024\t65000", "", "1+kernel.core_pattern=|x"])
def test_a_value_that_the_kernel_judges_is_passed_on(value: str) -> None:
    found = sandbox_of(securityContext={"sysctls": [{"name": "net/ipv4/tcp_rmem", "value": value}]})
    assert found.sysctls["net.ipv4.tcp_rmem"] == value
