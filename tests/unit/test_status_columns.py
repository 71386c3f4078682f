"""kubectl's tables: the STATUS word, READY, RESTARTS, ages, events."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minipod.api.columns import age, pod_row, status_word
from minipod.api.types import Pod

Spec = dict[str, Any]
NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z
RUNNING: Spec = {"running": {}}


def status(name: str, state: Spec, **more: object) -> Spec:
    return {"name": name, "state": state, "ready": "running" in state, **more}


def make(phase: str, *mains: Spec, inits: tuple[Spec, ...] = (), sidecars: tuple[str, ...] = (), **more: Any) -> Pod:
    spec = {
        "containers": [{"name": s["name"]} for s in mains],
        "initContainers": [
            {"name": s["name"], **({"restartPolicy": "Always"} if s["name"] in sidecars else {})} for s in inits
        ],
        **more.pop("spec", {}),
    }
    metadata = {"name": "p", "creationTimestamp": "2023-11-14T22:12:20Z", **more.pop("metadata", {})}
    conditions = [{"type": kind, "status": value} for kind, value in more.pop("conditions", {}).items()]
    body = {
        "phase": phase,
        "containerStatuses": mains,
        "initContainerStatuses": inits,
        "conditions": conditions,
        **more,
    }
    return msgspec.convert({"metadata": metadata, "spec": spec, "status": body}, Pod)


def ended(code: int, reason: str = "", **more: object) -> Spec:
    return {"terminated": {"exitCode": code, "reason": reason, **more}}


def waiting(reason: str) -> Spec:
    return {"waiting": {"reason": reason}}


@pytest.mark.parametrize(
    ("pod", "word"),
    [
        (make("Running", status("a", RUNNING)), "Running"),
        (make("Pending", status("a", waiting("ContainerCreating"))), "ContainerCreating"),
        (make("Running", status("a", waiting("CrashLoopBackOff"))), "CrashLoopBackOff"),
        (make("Succeeded", status("a", ended(0, "Completed"))), "Completed"),
        (make("Failed", status("a", ended(1, "Error"))), "Error"),
        (make("Failed", status("a", ended(0, "Completed")), status("b", ended(1, "Error"))), "Error"),
        (make("Failed", status("a", ended(137, "OOMKilled"))), "OOMKilled"),
        (make("Failed", status("a", ended(3))), "ExitCode:3"),
        (make("Failed", status("a", ended(137, "", signal=9))), "Signal:9"),
        (make("Running", status("a", ended(0, "Completed")), status("b", RUNNING)), "NotReady"),
        (
            make("Running", status("a", ended(0, "Completed")), status("b", RUNNING), conditions={"Ready": "True"}),
            "Running",
        ),
        (make("Failed", status("a", RUNNING), reason="DeadlineExceeded"), "DeadlineExceeded"),
        (make("Pending"), "Pending"),
    ],
)
def test_status_is_the_word_that_kubectl_says(pod: Pod, word: str) -> None:
    assert status_word(pod) == word


@pytest.mark.parametrize(
    ("inits", "word"),
    [
        ((status("i", waiting("PodInitializing")), status("j", waiting("PodInitializing"))), "Init:0/2"),
        ((status("i", RUNNING), status("j", waiting("PodInitializing"))), "Init:0/2"),
        ((status("i", ended(0, "Completed")), status("j", RUNNING)), "Init:1/2"),
        ((status("i", waiting("CrashLoopBackOff")), status("j", waiting("PodInitializing"))), "Init:CrashLoopBackOff"),
        ((status("i", ended(1, "Error")), status("j", waiting("PodInitializing"))), "Init:Error"),
        ((status("i", ended(5)), status("j", waiting("PodInitializing"))), "Init:ExitCode:5"),
    ],
)
def test_status_of_an_initializing_pod_says_how_far_it_is(inits: tuple[Spec, ...], word: str) -> None:
    assert status_word(make("Pending", status("a", waiting("PodInitializing")), inits=inits)) == word


def test_deleted_pod_is_terminating_until_its_phase_is_terminal() -> None:
    deleted = {"deletionTimestamp": "2023-11-14T22:13:20Z"}
    assert status_word(make("Running", status("a", RUNNING), metadata=deleted)) == "Terminating"
    assert status_word(make("Failed", status("a", ended(1, "Error")), metadata=deleted)) == "Error"


def test_gated_pod_says_so() -> None:
    pod = make("Pending")
    condition = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    pod = msgspec.structs.replace(
        pod, status=msgspec.convert({"phase": "Pending", "conditions": [condition]}, type(pod.status))
    )
    assert status_word(pod) == "SchedulingGated"


def test_ready_counts_main_containers_and_sidecars() -> None:
    pod = make(
        "Running",
        status("a", RUNNING),
        status("b", waiting("X")),
        inits=(status("s", RUNNING, started=True), status("i", ended(0))),
        sidecars=("s",),
    )
    assert pod_row(pod, NOW)[1] == "2/3"


def test_restarts_say_when_the_last_one_was() -> None:
    last = {"lastState": {"terminated": {"exitCode": 1, "finishedAt": "2023-11-14T22:11:20Z"}}}
    pod = make("Running", status("a", RUNNING, restartCount=3, **last))
    assert pod_row(pod, NOW)[3] == "3 (2m ago)"
    assert pod_row(make("Running", status("a", RUNNING)), NOW)[3] == "0"


def test_restarts_of_init_containers_count_only_while_they_run() -> None:
    crashing = (status("i", waiting("CrashLoopBackOff"), restartCount=4),)
    assert pod_row(make("Pending", status("a", waiting("PodInitializing")), inits=crashing), NOW)[3] == "4"
    done = (status("i", ended(0), restartCount=4),)
    assert pod_row(make("Running", status("a", RUNNING, restartCount=1), inits=done), NOW)[3] == "1"


def test_row_has_name_and_age_and_wide_more() -> None:
    pod = make("Running", status("a", RUNNING))
    assert pod_row(pod, NOW) == ["p", "1/1", "Running", "0", "60s"]
    assert pod_row(pod, NOW, wide=True)[5:] == ["<none>"] * 4
    spec = {"nodeName": "n", "readinessGates": [{"conditionType": "g"}, {"conditionType": "h"}]}
    pod = make("Running", status("a", RUNNING), podIPs=[{"ip": "10.0.0.1"}], spec=spec, conditions={"g": "True"})
    assert pod_row(pod, NOW, wide=True)[5:] == ["10.0.0.1", "n", "<none>", "1/2"]


def test_age_of_nothing_is_unknown() -> None:
    assert age(None, NOW) == "<unknown>"
    assert age("2023-11-14T22:13:10.250000Z", NOW) == "9s"
