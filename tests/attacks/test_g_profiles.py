"""Section G, row 42: a profile that is empty, odd or missing never means unconfined."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.conftest import AttackedNode
from tests.builders import Object, container, manifest, pod
from tests.volume_pods import wait_for

#: prints `Seccomp: 2`, and in the profile's own words that the one call that it refuses is refused
SHOW = "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; hostname changed 2>&1"
REFUSED = "hostname: sethostname: Operation not supported\n"
REFUSES_SETHOSTNAME = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EOPNOTSUPP}],
}


def localhost(profile: object) -> Object:
    return {"seccompProfile": {"type": "Localhost", "localhostProfile": profile}}


def folder_of(node: AttackedNode) -> Path:
    folder = Path(node.paths.state, "seccomp")
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.attack(row=42)
@pytest.mark.parametrize("level", ["pod", "container"])
@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("", "CreateContainerConfigError: seccompProfile.localhostProfile: required for type Localhost"),
        (None, "localhostProfile: Required value"),
        ("../canary.json", "must not contain '..'"),
        ("a/../../canary.json", "must not contain '..'"),
        ("/etc/canary.json", "must be a relative path"),
    ],
    ids=["empty", "none", "up", "up later", "absolute"],
)
def test_a_profile_s_name_that_leads_elsewhere_is_refused(
    node: AttackedNode, level: str, profile: str | None, words: str
) -> None:
    Path(node.paths.state, "canary.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    of_container: dict[str, Any] = {"securityContext": localhost(profile)} if level == "container" else {}
    of_pod: dict[str, Any] = {"securityContext": localhost(profile)} if level == "pod" else {}
    written = manifest(pod("p", container("c", "echo ran", **of_container), **of_pod))
    done = node("run", "-", input=written, check=False)
    os.unlink(f"{node.paths.state}/canary.json")
    assert done.returncode != 0
    assert words in done.stderr
    assert "ran" not in done.stdout


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file or directory: localhostProfile is a path below"),
    "empty": (lambda path: path.write_text(""), "Input data was truncated"),
    "no JSON": (lambda path: path.write_text("{"), "Input data was truncated"),
    "empty object": (lambda path: path.write_text("{}"), "missing required field `defaultAction`"),
    "FIFO": (os.mkfifo, "is no regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is no regular file"),
    "directory": (os.mkdir, "is no regular file"),
    "huge": (lambda path: path.write_text(" " * (2 << 20)), "is larger than 1 MiB"),
    "deep": (lambda path: path.write_text('{"x":' + "[" * 200_000), "is nested too deeply"),
    "unknown action": (lambda path: path.write_text('{"defaultAction": "SCMP_ACT_NONE"}'), "is not known"),
    "wrong type": (lambda path: path.write_text('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}'), "$.syscalls"),
}


@pytest.mark.attack(row=42)
@pytest.mark.vm
def test_an_odd_profile_keeps_its_container_from_starting_and_the_agent_answers(node: AttackedNode) -> None:
    """Of one pod, all kinds at once; the container without a fault starts, so none of them holds the agent."""
    folder = folder_of(node)
    for number, (make, _) in enumerate(ODD.values()):
        make(folder / f"{number}.json")
    odd = [
        container(f"c{number}", "echo ran; sleep 1000", securityContext=localhost(f"{number}.json"))
        for number in range(len(ODD))
    ]
    node("run", "-d", "-", input=manifest(pod("p", *odd), pod("q", container("c", "sleep 1000"))), check=False)
    wait_for(lambda: len(reasons(node)) == len(ODD) and "" not in reasons(node).values(), timeout_s=20)
    for (kind, (_, words)), (name, found) in zip(ODD.items(), sorted_by_number(reasons(node)), strict=True):
        assert found.startswith("CreateContainerError: ") and words in found, (kind, name, found)  # noqa: PT018
    assert node("logs", "p", "--all-containers", check=False).stdout == ""
    node("wait", "--for=condition=Ready", "pod/q", "--timeout=20s")


def reasons(node: AttackedNode) -> dict[str, str]:
    """Container → reason and message of its waiting."""
    statuses: list[Object] = node.pod("p")["status"].get("containerStatuses", [])  # type: ignore[attr-defined]
    waiting = {status["name"]: status["state"].get("waiting", {}) for status in statuses}
    return {
        name: f"{one.get('reason', '')}: {one['message']}" if "message" in one else "" for name, one in waiting.items()
    }


def sorted_by_number(found: dict[str, str]) -> list[tuple[str, str]]:
    return sorted(found.items(), key=lambda item: int(item[0][1:]))


@pytest.mark.attack(row=42)
@pytest.mark.vm
@pytest.mark.parametrize("no_new_privs", [False, True])
def test_the_pod_s_and_the_container_s_profile_hold_for_start_exec_probes_hooks_and_ephemeral_containers(
    node: AttackedNode, no_new_privs: bool
) -> None:
    """`Seccomp: 2` in each, and the call that the profile refuses is refused; SYS_ADMIN would allow it otherwise."""
    (folder_of(node) / "p.json").write_text(json.dumps(REFUSES_SETHOSTNAME))
    added: Object = {"capabilities": {"add": ["SYS_ADMIN"]}}
    if no_new_privs:
        added = {"allowPrivilegeEscalation": False}  # which Kubernetes refuses together with SYS_ADMIN
    volume = {"name": "v", "emptyDir": {}}
    mounts = [{"name": "v", "mountPath": "/v"}]

    def written(name: str) -> Object:
        return {"exec": {"command": ["sh", "-c", f"({SHOW}; true) > /v/{name}"]}}

    main = container(
        "c", f"({SHOW}) > /v/start; trap 'exit 0' TERM; sleep 1000 & wait", volumeMounts=mounts, securityContext=added,
        lifecycle={"postStart": written("hook")}, readinessProbe={**written("probe"), "periodSeconds": 1},
    )  # fmt: skip
    of_container = container(
        "own", f"({SHOW}) > /v/own; trap 'exit 0' TERM; sleep 1000 & wait", volumeMounts=mounts,
        securityContext={**added, **localhost("p.json")},
    )  # fmt: skip
    init = container("i", f"({SHOW}; true) > /v/init", volumeMounts=mounts, securityContext=added)
    of_pod = localhost("p.json")
    body = pod("p", main, of_container, init=[init], volumes=[volume], securityContext=of_pod)
    node("run", "-d", "--until", "ready", "-", input=manifest(body))
    expected = f"NoNewPrivs:\t{int(no_new_privs)}\nSeccomp:\t2\n"
    for name in ("init", "start", "own", "hook", "probe"):
        found = node("exec", "p", "-c", "c", "--", "cat", f"/v/{name}").stdout
        assert found.startswith(expected) and found.endswith(REFUSED), (name, found)  # noqa: PT018
    for options in ((), ("-t",)):
        found = node("exec", *options, "p", "-c", "c", "--", "sh", "-c", SHOW, check=False).stdout.replace("\r", "")
        assert found.startswith(expected) and found.endswith(REFUSED), found  # noqa: PT018
    done = node("debug", "p", "--image", "busybox", "-c", "d", "--attach=true", "--", "sh", "-c", f"sleep 1; {SHOW}",
                check=False)  # fmt: skip
    assert "Seccomp:\t2\n" in done.stdout
    assert "hostname: sethostname: Operation not" in done.stdout, "its profile is its own"


@pytest.mark.attack(row=42)
@pytest.mark.parametrize("kind", ["RuntimeDefault", "Localhost"])
def test_an_unloaded_apparmor_profile_is_refused(node: AttackedNode, kind: str) -> None:
    profile = {"type": kind, **({"localhostProfile": "no-such-profile"} if kind == "Localhost" else {})}
    written = manifest(pod("p", container("c", "echo ran", securityContext={"appArmorProfile": profile})))
    done = node("run", "-", input=written, check=False)
    assert done.returncode != 0
    assert "appArmorProfile" in done.stderr
    assert "ran" not in done.stdout
