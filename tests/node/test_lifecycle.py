"""The kubelet's rules on the real kernel: order of start and end, probes that turn, grace periods, exits (node, root).

The recorded pods are in `test_behaviour`; here is what needs times from inside, or somebody outside who acts.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import health_server
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

WAIT_S = 30.0 * SLOWNESS
TRAPPED = "trap 'exit 0' TERM; while :; do sleep 0.1 & wait; done"

Spec = dict[str, Any]


def container(name: str, script: str, **more: Any) -> Spec:
    return {"name": name, "image": "busybox", "command": ["sh", "-c", script], **more}


def start(node: Node, name: str, spec: Spec, until: str = "created") -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    node("run", "-d", "--until", until, "-", input=json.dumps(pod))


def status_of(node: Node, name: str) -> dict[str, Any]:
    pod: Any = node.pod(name)
    status: dict[str, Any] = pod["status"]
    return status


def container_of(node: Node, name: str, which: int = 0) -> dict[str, Any]:
    statuses = status_of(node, name).get("containerStatuses") or [{"state": {}}]
    found: dict[str, Any] = statuses[which]
    return found


def until(condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.1)


def events_of(node: Node, name: str, reason: str) -> list[dict[str, Any]]:
    told = node("events", "--for", f"pod/{name}", "-o", "json").stdout
    return [event for event in json.loads(told)["items"] if event["reason"] == reason] if told else []


# -- order


@pytest.mark.vm
def test_sidecars_start_before_and_end_after_the_main_container_in_reverse_order(node: Node, tmp_path: Path) -> None:
    def said(name: str) -> str:
        # The process leaves a file when it begins and one when it is asked to end, and takes its time then.
        return (
            f"touch /shared/{name}.begins; trap 'touch /shared/{name}.ends; sleep 0.3; exit 0' TERM; "
            "while :; do sleep 0.1 & wait; done"
        )

    def ready(name: str) -> Spec:
        return {
            "exec": {"command": ["test", "-e", f"/shared/{name}.begins"]},
            "periodSeconds": 1,
            "failureThreshold": 30,
        }

    mounts = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    sidecars = [
        container(name, said(name), restartPolicy="Always", startupProbe=ready(name), **mounts)
        for name in ("first", "second")
    ]
    spec = {
        "terminationGracePeriodSeconds": 10,
        "volumes": [{"name": "shared", "hostPath": {"path": str(tmp_path)}}],
        "initContainers": sidecars,
        "containers": [container("main", said("main"), **mounts)],
    }
    start(node, "web", spec, until="ready")
    node("delete", "pod", "web")
    times = {path.name: path.stat().st_mtime for path in tmp_path.iterdir()}
    assert sorted(times, key=lambda name: times[name]) == [
        "first.begins",
        "second.begins",
        "main.begins",
        "main.ends",
        "second.ends",
        "first.ends",
    ]
    ends = {name.partition(".")[0]: at for name, at in times.items() if name.endswith("ends")}
    assert ends["second"] - ends["main"] >= 0.25, "only when the main container had ended"
    assert ends["first"] - ends["second"] >= 0.25


# -- probes

PYTHON = os.path.realpath(sys.executable)
GOOD = "mkdir -p /www; touch /www/ok; "
HANDLERS: dict[str, tuple[str, Spec, str, str]] = {
    # what runs, the probe's handler, and what makes it bad and good again
    "exec": ("", {"exec": {"command": ["test", "-e", "/www/ok"]}}, "rm /www/ok", "touch /www/ok"),
    "http": (
        "httpd -p 80 -h /www; ",
        {"httpGet": {"path": "/ok", "port": "web", "httpHeaders": [{"name": "X-Probe", "value": "1"}]}},
        "rm /www/ok",
        "touch /www/ok",
    ),
    "tcp": (
        "httpd -p 80 -h /www; ",
        {"tcpSocket": {"port": "web"}},
        "kill $(pidof httpd)",
        "httpd -p 80 -h /www",
    ),
    "grpc": (
        f"{PYTHON} -I /health_server.py 80 /www/ok & ",
        {"grpc": {"port": 80}},
        "rm /www/ok",
        "touch /www/ok",
    ),
}


def probed(kind: str, **probes: Spec) -> Spec:
    server, handler, _, _ = HANDLERS[kind]
    made = {name: {**handler, "periodSeconds": 1, **settings} for name, settings in probes.items()}
    main = container("main", GOOD + server + TRAPPED, ports=[{"name": "web", "containerPort": 80}], **made)
    spec: Spec = {"terminationGracePeriodSeconds": 1, "containers": [main]}
    if kind == "grpc":  # this host's Python, where it looks for itself
        places = {
            place: os.path.realpath(place) for place in {sys.base_prefix, "/lib", "/lib64"} if Path(place).exists()
        }
        places["/health_server.py"] = str(Path(health_server.__file__))
        main["volumeMounts"] = [
            {"name": f"v{number}", "mountPath": place, "readOnly": True} for number, place in enumerate(places)
        ]
        spec["volumes"] = [
            {"name": f"v{number}", "hostPath": {"path": path}} for number, path in enumerate(places.values())
        ]
    return spec


@pytest.mark.vm
def test_readiness_of_each_kind_goes_with_what_is_asked(node: Node) -> None:
    for kind in HANDLERS:
        start(node, kind, probed(kind, readinessProbe={"failureThreshold": 1}), until="ready")
    for kind, (_, _, bad, _) in HANDLERS.items():
        node("exec", kind, "--", "sh", "-c", bad)
    for kind in HANDLERS:
        until(lambda kind=kind: not container_of(node, kind)["ready"], f"{kind} is not ready")  # type: ignore[misc]
        assert events_of(node, kind, "Unhealthy")[0]["message"].startswith("Readiness probe failed: ")
    for kind, (_, _, _, good) in HANDLERS.items():
        node("exec", kind, "--", "sh", "-c", good)
    for kind in HANDLERS:
        until(lambda kind=kind: container_of(node, kind)["ready"], f"{kind} is ready again")  # type: ignore[misc]
        assert container_of(node, kind)["restartCount"] == 0


@pytest.mark.vm
def test_liveness_of_each_kind_restarts_what_has_turned_bad(node: Node) -> None:
    for kind in HANDLERS:
        probe = {"failureThreshold": 2, "terminationGracePeriodSeconds": 1}
        spec = {**probed(kind, startupProbe={"failureThreshold": 30}, livenessProbe=probe)}
        spec["terminationGracePeriodSeconds"] = 60
        start(node, kind, spec, until="ready")
    for kind, (_, _, bad, _) in HANDLERS.items():
        node("exec", kind, "--", "sh", "-c", bad)
    for kind in HANDLERS:
        until(lambda kind=kind: container_of(node, kind)["restartCount"] == 1, f"{kind} was restarted")  # type: ignore[misc]
        until(lambda kind=kind: container_of(node, kind)["ready"], f"{kind} is well again")  # type: ignore[misc]
        killing = events_of(node, kind, "Killing")
        assert killing[0]["message"] == "Container main failed liveness probe, will be restarted"


def test_a_probe_that_cannot_be_made_changes_nothing_and_is_reported(node: Node) -> None:
    main = container("main", TRAPPED, livenessProbe={"exec": {"command": ["/no/such"]}, "periodSeconds": 1})
    start(node, "web", {"terminationGracePeriodSeconds": 1, "containers": [main]}, until="ready")
    until(lambda: bool(events_of(node, "web", "Unhealthy")), "it is reported")
    time.sleep(4 * SLOWNESS)
    assert container_of(node, "web")["restartCount"] == 0
    message = events_of(node, "web", "Unhealthy")[0]["message"]
    assert message.startswith("Liveness probe errored and resulted in unknown state: ")


# -- ends


@pytest.mark.vm
def test_a_liveness_kill_has_the_probe_s_own_grace_period(node: Node) -> None:
    probe = {
        "exec": {"command": ["false"]},
        "periodSeconds": 1,
        "failureThreshold": 1,
        "terminationGracePeriodSeconds": 3,
    }
    main = container("main", "trap '' TERM; while :; do sleep 1; done", livenessProbe=probe)
    start(node, "web", {"terminationGracePeriodSeconds": 60, "containers": [main]})
    until(lambda: container_of(node, "web").get("restartCount") == 1, "it was killed and restarted")
    (killing,) = events_of(node, "web", "Killing")
    ended = container_of(node, "web")["lastState"]["terminated"]
    assert ended["exitCode"] == 137
    assert 2 <= seconds(ended["finishedAt"]) - seconds(killing["firstTimestamp"]) <= 4 * SLOWNESS
    node("delete", "pod", "web", "--grace-period=1")


def seconds(stamp: str) -> float:
    import calendar

    return calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ"))


@pytest.mark.vm
def test_a_second_delete_cuts_the_grace_period_of_the_first(node: Node) -> None:
    main = container("main", "trap '' TERM; while :; do sleep 1; done")
    start(node, "web", {"terminationGracePeriodSeconds": 60, "containers": [main]}, until="ready")
    began = time.monotonic()
    with node.popen("delete", "pod", "web") as first:
        until(lambda: "deletionTimestamp" in str(node.pod("web")), "it is being deleted")
        node("delete", "pod", "web", "--grace-period=2")
        assert first.wait(WAIT_S) == 0
    assert 2 <= time.monotonic() - began < 10 * SLOWNESS


@pytest.mark.vm
def test_the_prestop_hook_s_time_is_part_of_the_grace_period(node: Node, tmp_path: Path) -> None:
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "touch /shared/hook; sleep 60"]}}}
    script = "trap 'touch /shared/term; exit 0' TERM; while :; do sleep 0.1 & wait; done"
    main = container("main", script, lifecycle=hook, volumeMounts=[{"name": "shared", "mountPath": "/shared"}])
    volumes = [{"name": "shared", "hostPath": {"path": str(tmp_path)}}]
    start(node, "web", {"terminationGracePeriodSeconds": 3, "volumes": volumes, "containers": [main]}, until="ready")
    began = time.monotonic()
    node("delete", "pod", "web")
    took = time.monotonic() - began
    hook_at, term_at = ((tmp_path / name).stat().st_mtime for name in ("hook", "term"))
    assert 2.5 <= term_at - hook_at <= 4 * SLOWNESS, "the hook is given up when the grace period is over"
    assert took < 8 * SLOWNESS
    assert events_of(node, "web", "FailedPreStopHook")


@pytest.mark.vm
def test_exit_codes_are_what_the_kernel_and_the_shell_say(node: Node) -> None:
    scripts = {
        "ok": ("exit 0", 0, "Completed"),
        "one": ("exit 1", 1, "Error"),
        "not-executable": ("exec /etc/passwd", 126, "Error"),
        "not-found": ("exec /no/such", 127, "Error"),
        "killed": ("head -c 200m /dev/zero | tail; exit $?", 137, "OOMKilled"),
    }
    for name, (script, _, _) in scripts.items():
        main = container("main", script, resources={"limits": {"memory": "32Mi"}})
        start(node, name, {"restartPolicy": "Never", "containers": [main]})
    for name, (_, code, reason) in scripts.items():
        until(lambda name=name: "terminated" in container_of(node, name)["state"], f"{name} has ended")  # type: ignore[misc]
        ended = container_of(node, name)["state"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (code, reason), name


@pytest.mark.vm
def test_a_container_ended_by_a_signal_from_outside_has_128_and_its_number(node: Node) -> None:
    main = container("main", "exec sleep 1000")
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [main]}
    # As process 1 of a namespace of its own it would be deaf to all but KILL (pid_namespaces(7)).
    start(node, "web", {**spec, "shareProcessNamespace": True}, "ready")
    identity = container_of(node, "web")["containerID"].removeprefix("minipod://")
    pid = json.loads(Path(node.paths.root, "containers", identity, "container.json").read_text())["status"]["pid"]
    os.kill(pid, signal.SIGSEGV)
    until(lambda: status_of(node, "web")["phase"] == "Failed", "it has failed")
    assert container_of(node, "web")["state"]["terminated"]["exitCode"] == 139


@pytest.mark.vm
def test_restart_all_containers_starts_the_whole_pod_anew_in_its_sandbox(node: Node) -> None:
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    cause = container("cause", "sleep 1; [ -e /once/done ] || { touch /once/done; exit 42; }; " + TRAPPED)
    mount = {"volumeMounts": [{"name": "once", "mountPath": "/once"}]}
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "once", "emptyDir": {}}],
        "initContainers": [container("init", "true")],
        "containers": [
            {**cause, **mount, "restartPolicy": "Never", "restartPolicyRules": [rule]},
            container("other", TRAPPED),
        ],
    }
    start(node, "web", spec)
    until(lambda: container_of(node, "web", 1).get("restartCount") == 1, "the other was restarted too")
    until(lambda: status_of(node, "web")["phase"] == "Running", "it runs again")
    address = status_of(node, "web")["podIP"]
    assert address
    assert [status["restartCount"] for status in status_of(node, "web")["initContainerStatuses"]] == [1]


@pytest.mark.vm
@pytest.mark.parametrize(
    ("policy", "phase", "restarts"), [("Never", "Failed", 0), ("OnFailure", "Pending", 1), ("Always", "Pending", 1)]
)
def test_a_failing_init_container_under_each_restart_policy(node: Node, policy: str, phase: str, restarts: int) -> None:
    spec = {
        "restartPolicy": policy,
        "terminationGracePeriodSeconds": 1,
        "initContainers": [container("init", "exit 5")],
        "containers": [container("main", TRAPPED)],
    }
    start(node, "web", spec)
    until(lambda: told_init(node).get("restartCount") == restarts and ended_init(node) == 5, "it has failed enough")
    until(lambda: status_of(node, "web")["phase"] == phase, phase)


def told_init(node: Node) -> dict[str, Any]:
    statuses = status_of(node, "web").get("initContainerStatuses") or [{}]
    first: dict[str, Any] = statuses[0]
    return first


def ended_init(node: Node) -> int | None:
    status = told_init(node)
    ended = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated") or {}
    code: int | None = ended.get("exitCode")
    return code


# -- images


def test_an_image_that_does_not_come_is_reported_and_tried_again(node: Node) -> None:
    spec = {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": "nosuch.invalid/x:1"}]}
    start(node, "web", spec)

    def waiting() -> Any:
        return container_of(node, "web")["state"].get("waiting", {}).get("reason")

    until(lambda: waiting() in ("ErrImagePull", "ImagePullBackOff"), "the fetch has failed")
    until(lambda: waiting() == "ImagePullBackOff", "it waits before it tries again")
    bad = {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": "UPPER//x"}]}
    start(node, "bad", bad)
    until(
        lambda: container_of(node, "bad")["state"].get("waiting", {}).get("reason") == "InvalidImageName", "a bad name"
    )


# -- a watcher


def test_a_watcher_sees_every_status_in_order_also_of_many_pods_at_once(node: Node) -> None:
    node("get", "pods")
    watch = node.popen("get", "pods", "-w", "-o", "json", stderr=subprocess.DEVNULL)
    names = [f"quick-{number}" for number in range(10)]
    for name in names:
        start(node, name, {"restartPolicy": "Never", "containers": [container("main", "exit 3")]})
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    assert watch.stdout is not None
    for line in watch.stdout:
        pod = json.loads(line)
        seen[pod["metadata"]["name"]].append(pod)
        if all(pods and pods[-1]["status"]["phase"] == "Failed" for pods in seen.values()):
            break
    watch.terminate()
    watch.communicate()
    for name, pods in seen.items():
        versions = [int(pod["metadata"]["resourceVersion"]) for pod in pods]
        assert versions == sorted(set(versions)), name
        phases = list(dict.fromkeys(pod["status"]["phase"] for pod in pods))
        assert phases == ["Pending", "Running", "Failed"], name
