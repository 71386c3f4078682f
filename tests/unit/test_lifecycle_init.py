"""Init containers and sidecars: order, start, restart, their part in phase and readiness."""

from __future__ import annotations

from typing import Any

import pytest

from minipod.lifecycle import model
from tests.unit.lifecycle_simulator import Simulator, make_pod

Spec = dict[str, Any]


def container(name: str, script: str, **more: object) -> Spec:
    return {"name": name, "command": ["sh", "-c", script], **more}


def sidecar(name: str, script: str = "sleep 1000", **more: object) -> Spec:
    return container(name, script, restartPolicy="Always", **more)


def simulate(inits: list[Spec], mains: list[Spec] | None = None, **spec: object) -> Simulator:
    mains = mains or [container("c", "sleep 1000")]
    return Simulator(make_pod({"initContainers": inits, "containers": mains, **spec})).start()


def started(sim: Simulator) -> list[str]:
    return [action.name for _, action in sim.actions if isinstance(action, model.StartContainer)]


def test_init_containers_run_one_after_the_other_before_all_others() -> None:
    sim = simulate([container("i1", "sleep 2"), container("i2", "sleep 2")])
    sim.run(1)
    assert started(sim) == ["i1"]
    assert sim.container("i2").state.waiting.reason == sim.container("c").state.waiting.reason == "PodInitializing"
    assert sim.condition("Initialized") == "False:ContainersNotInitialized"
    sim.run(2)
    assert started(sim) == ["i1", "i2"]
    sim.run(3)
    assert started(sim) == ["i1", "i2", "c"]
    assert sim.condition("Initialized") == "True"
    assert sim.container("i1").ready
    assert not sim.container("i1").started


def test_initialized_names_the_containers_that_are_missing() -> None:
    sim = simulate([container("i1", "sleep 2"), container("i2", "sleep 2")])
    condition = next(c for c in sim.state.status.conditions if c.type == "Initialized")
    assert condition.message == "containers with incomplete status: [i1 i2]"


def test_failed_init_with_restart_never_fails_the_pod() -> None:
    sim = simulate([container("i1", "exit 5"), container("i2", "true")], restartPolicy="Never")
    sim.run(5)
    assert sim.state.status.phase == "Failed"
    assert started(sim) == ["i1"]
    assert sim.container("i2").state.waiting.reason == "PodInitializing"


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
def test_failed_init_is_restarted_with_backoff_and_the_pod_stays_pending(policy: str) -> None:
    sim = simulate([container("i1", "exit 5"), container("i2", "true")], restartPolicy=policy)
    sim.run(5)
    assert started(sim) == ["i1", "i1"]
    assert sim.state.status.phase == "Pending"
    assert sim.container("i1").state.waiting.reason == "CrashLoopBackOff"
    sim.verdict["i1"] = (0, "", "")
    sim.run(10)
    assert started(sim) == ["i1", "i1", "i1", "i2", "c"]
    assert sim.container("i1").restart_count == 2
    assert sim.state.status.phase == "Running"


def test_init_container_of_its_own_restart_policy_fails_the_pod_or_not() -> None:
    sim = simulate([container("i1", "exit 5", restartPolicy="Never")], restartPolicy="Always")
    sim.run(5)
    assert sim.state.status.phase == "Failed"


def test_init_container_that_cannot_be_created_stops_the_pass() -> None:
    sim = simulate([container("i1", "true")])
    sim.fail["i1"] = model.ContainerCreateFailed(name="i1", reason="CreateContainerConfigError", message="m")
    sim.run(3)
    assert set(started(sim)) == {"i1"}
    assert sim.container("i1").state.waiting.reason == "CreateContainerConfigError"
    assert sim.state.status.phase == "Pending"


def test_regular_init_containers_never_rerun_once_a_main_container_was_started() -> None:
    sim = simulate([container("i1", "true")], [container("c", "exit 1")])
    sim.run(100)
    assert started(sim).count("i1") == 1
    assert started(sim).count("c") > 3


def test_new_sandbox_reruns_all_init_containers() -> None:
    sim = simulate([container("i1", "true"), container("i2", "true")])
    sim.run(5)
    sim.send(model.SandboxStopped(id="sandbox-0"))
    sim.end("c", 137)
    sim.run(15)
    assert started(sim) == ["i1", "i2", "c", "i1", "i2", "c"]
    assert len(sim.reasons("SandboxChanged")) == 1
    assert [a.attempt for _, a in sim.actions if isinstance(a, model.CreateSandbox)] == [0, 1]
    assert sim.container("c").restart_count == 1
    assert sim.state.status.phase == "Running"


def test_new_sandbox_skips_main_containers_that_succeeded_under_on_failure() -> None:
    sim = Simulator(
        make_pod({"containers": [container("a", "true"), container("b", "sleep 99")], "restartPolicy": "OnFailure"})
    ).start()
    sim.run(5)
    sim.end("b", 137)
    sim.send(model.SandboxStopped(id="sandbox-0"))
    sim.run(15)
    assert started(sim).count("a") == 1
    assert started(sim).count("b") == 2


def test_pod_with_restart_never_gets_no_second_sandbox() -> None:
    sim = Simulator(make_pod({"containers": [container("a", "sleep 99")], "restartPolicy": "Never"})).start()
    sim.run(5)
    sim.end("a", 137)
    sim.send(model.SandboxStopped(id="sandbox-0"))
    sim.run(5)
    assert sim.state.status.phase == "Failed"
    assert len([a for _, a in sim.actions if isinstance(a, model.CreateSandbox)]) == 1


# -- sidecars ----------------------------------------------------------------------------------------------------


def test_next_container_starts_when_the_sidecar_runs() -> None:
    sim = simulate([sidecar("s1"), container("i", "sleep 1"), sidecar("s2")])
    sim.run(5)
    assert started(sim) == ["s1", "i", "s2", "c"]
    assert sim.condition("Ready") == "True"


def test_next_container_waits_for_the_sidecars_startup_probe() -> None:
    probe = {"exec": {"command": ["test", "-e", "/ok"]}, "periodSeconds": 1, "failureThreshold": 20}
    sim = simulate([sidecar("s", "sleep 3; touch /ok; sleep 1000", startupProbe=probe)])
    sim.run(2)
    assert started(sim) == ["s"]
    assert sim.container("s").started is False
    assert sim.condition("Initialized") == "False:ContainersNotInitialized"
    sim.run(3)
    assert started(sim) == ["s", "c"]
    assert sim.container("s").started is True


def test_next_container_does_not_wait_for_the_sidecars_readiness() -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1}
    sim = simulate([sidecar("s", readinessProbe=probe)])
    sim.run(3)
    assert started(sim) == ["s", "c"]
    assert sim.condition("Ready") == "False:ContainersNotReady"


@pytest.mark.parametrize("policy", ["Never", "OnFailure", "Always"])
def test_sidecar_is_restarted_whatever_the_pods_policy(policy: str) -> None:
    sim = simulate([sidecar("s", "sleep 3; exit 0")], restartPolicy=policy)
    sim.run(5)
    assert sim.container("s").restart_count == 1
    assert sim.state.status.phase == "Running"
    assert sim.condition("Initialized") == "True"


def test_restarting_sidecar_backs_off_and_makes_the_pod_unready_but_keeps_it_running() -> None:
    sim = simulate([sidecar("s", "sleep 1; exit 1")])
    sim.run(5)
    assert sim.container("s").state.waiting.reason == "CrashLoopBackOff"
    assert sim.condition("Ready") == "False:ContainersNotReady"
    assert sim.condition("Initialized") == "True"
    assert sim.state.status.phase == "Running"


def test_failed_startup_probe_restarts_only_the_sidecar() -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 2}
    sim = simulate([sidecar("s", startupProbe=probe)], terminationGracePeriodSeconds=1)
    sim.run(6)
    assert started(sim) == ["s", "s"]
    killing = [e.message for _, e in sim.recorded if e.reason == "Killing"]
    assert killing[0] == "Init container s failed startup probe"
    assert sim.container("s").restart_count == 1


def test_failed_liveness_probe_restarts_only_the_sidecar() -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 2}
    sim = simulate([sidecar("s", livenessProbe=probe)], terminationGracePeriodSeconds=1)
    sim.run(5)
    assert started(sim) == ["s", "c", "s"]
    assert sim.container("c").restart_count == 0


def test_sidecars_end_when_no_main_container_is_left() -> None:
    sim = simulate([sidecar("s")], [container("c", "sleep 1")], restartPolicy="Never", terminationGracePeriodSeconds=2)
    sim.run(6)
    assert sim.state.status.phase == "Succeeded"
    assert sim.container("s").state.terminated.exit_code == 137
    assert sim.condition("Initialized") == "True:PodCompleted"


def test_exit_code_of_a_sidecar_never_fails_the_pod() -> None:
    sim = simulate([sidecar("s", "sleep 1; exit 9")], [container("c", "sleep 3")], restartPolicy="Never")
    sim.run(60)
    assert sim.state.status.phase == "Succeeded"


def test_sidecar_is_not_restarted_while_the_pod_ends() -> None:
    sim = simulate([sidecar("s", 'trap "x" TERM; sleep 1000')], terminationGracePeriodSeconds=5)
    sim.run(3)
    sim.send(model.DeleteRequested())
    sim.run(20)
    assert started(sim) == ["s", "c"]
    assert sim.state.stage == "gone"
