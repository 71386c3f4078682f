"""How containers and pods end: grace periods, hooks, order, deletion at any moment."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minipod.lifecycle import model
from tests.unit.lifecycle_simulator import START, Simulator, make_pod

Spec = dict[str, Any]
OBEYS = 'trap "exit 0" TERM; sleep 1000'
IGNORES = "sleep 1000"


def container(script: str = IGNORES, name: str = "c", **more: object) -> Spec:
    return {"name": name, "command": ["sh", "-c", script], **more}


def sidecar(name: str, **more: object) -> Spec:
    return container(OBEYS, name, restartPolicy="Always", **more)


def simulate(*containers: Spec, **spec: object) -> Simulator:
    return Simulator(make_pod({"containers": list(containers or [container()]), **spec})).start()


def running(*containers: Spec, **spec: object) -> Simulator:
    sim = simulate(*containers, **spec)
    sim.run(5)
    return sim


def delete(sim: Simulator, grace_s: int | None = None) -> float:
    sim.send(model.DeleteRequested(grace_period_s=grace_s))
    return sim.t


def kills(sim: Simulator) -> list[tuple[float, str, float]]:
    return [(t, a.name, a.grace_s) for t, a in sim.actions if isinstance(a, model.KillContainer)]


def gone_at(sim: Simulator) -> float:
    return next(t for t, action in sim.actions if isinstance(action, model.Forget))


def test_deletion_sends_the_stop_signal_and_kills_after_the_grace_period() -> None:
    sim = running(terminationGracePeriodSeconds=7)
    at = delete(sim)
    sim.run(30)
    assert kills(sim) == [(at, "c", 7.0)]
    assert gone_at(sim) == pytest.approx(at + 7, abs=0.1)
    assert sim.container("c").state.terminated.exit_code == 137
    assert sim.state.status.phase == "Failed"


def test_the_first_request_to_delete_is_another_generation_of_the_pod() -> None:
    sim = running(terminationGracePeriodSeconds=7)
    metadata = msgspec.structs.replace(sim.state.pod.metadata, generation=1)
    sim.state = msgspec.structs.replace(sim.state, pod=msgspec.structs.replace(sim.state.pod, metadata=metadata))
    delete(sim)
    assert sim.state.pod.metadata.generation == 2
    delete(sim, 3)
    assert sim.state.pod.metadata.generation == 2


def test_container_that_obeys_ends_at_once_and_the_pod_succeeds_when_all_did() -> None:
    sim = running(container(OBEYS))
    at = delete(sim)
    sim.run(30)
    assert gone_at(sim) < at + 0.5
    assert sim.state.status.phase == "Succeeded"


def test_deletion_timestamp_is_the_end_of_the_grace_period() -> None:
    sim = running(terminationGracePeriodSeconds=7)
    delete(sim)
    metadata = sim.state.pod.metadata
    assert metadata.deletion_grace_period_seconds == 7
    assert metadata.deletion_timestamp == "2023-11-14T22:13:32Z"
    assert pytest.approx(1_700_000_000.0) == START


def test_deletion_is_reported_before_anything_follows_from_it() -> None:
    sim = simulate()
    sim.fail["c"] = model.ContainerCreateFailed(name="c", reason="CreateContainerConfigError", message="m")
    sim.run(5)
    before = len(sim.published)
    delete(sim)
    assert sim.container("c").state.waiting.reason == "CreateContainerConfigError"
    assert len(sim.published) == before + 1
    sim.run(0.001)
    assert sim.container("c").state.waiting.reason == "ContainerCreating"


def test_grace_period_of_the_request_wins() -> None:
    sim = running(terminationGracePeriodSeconds=30)
    at = delete(sim, 3)
    sim.run(30)
    assert kills(sim) == [(at, "c", 3.0)]


def test_deletion_without_a_grace_period_kills_at_once_and_runs_no_hook() -> None:
    sim = running(container(lifecycle={"preStop": {"exec": {"command": ["x"]}}}))
    at = delete(sim, 0)
    sim.run(1)
    assert kills(sim) == [(at, "c", 0.0)]
    assert not any(isinstance(a, model.RunHook) for _, a in sim.actions)
    assert gone_at(sim) < at + 0.5


def test_a_pod_that_wants_no_grace_period_is_reported_as_deleted_and_then_no_more() -> None:
    sim = running(terminationGracePeriodSeconds=0)
    before = len(sim.published)
    delete(sim)
    sim.run(1)
    assert len(sim.published) == before + 1
    assert sim.state.stage == "gone"


def test_grace_zero_shortens_a_deletion() -> None:
    sim = running(terminationGracePeriodSeconds=60)
    delete(sim)
    sim.run(1)
    at = delete(sim, 0)
    sim.run(1)
    assert [grace for _, _, grace in kills(sim)] == [60.0, 0.0]
    assert gone_at(sim) < at + 0.5


def test_second_deletion_with_a_shorter_grace_cuts_the_first() -> None:
    sim = running(terminationGracePeriodSeconds=100)
    delete(sim)
    sim.run(5)
    at = delete(sim, 4)
    sim.run(30)
    assert [grace for _, _, grace in kills(sim)] == [100.0, 4.0]
    assert gone_at(sim) == pytest.approx(at + 4, abs=0.1)
    assert sim.state.pod.metadata.deletion_grace_period_seconds == 4


def test_second_deletion_with_a_longer_grace_changes_nothing() -> None:
    sim = running(terminationGracePeriodSeconds=10)
    at = delete(sim)
    sim.run(5)
    delete(sim, 50)
    sim.run(30)
    assert len(kills(sim)) == 1
    assert gone_at(sim) == pytest.approx(at + 10, abs=0.1)


def test_second_deletion_cuts_a_running_pre_stop_hook() -> None:
    sim = running(container(lifecycle={"preStop": {"exec": {"command": ["x"]}}}), terminationGracePeriodSeconds=100)
    sim.hook = lambda name, hook: (1000.0, True)
    delete(sim)
    sim.run(5)
    at = delete(sim, 3)
    sim.run(20)
    assert gone_at(sim) == pytest.approx(at + 3 + 2, abs=0.1)


def test_time_of_the_pre_stop_hook_is_taken_from_the_grace_period() -> None:
    sim = running(container(lifecycle={"preStop": {"exec": {"command": ["x"]}}}), terminationGracePeriodSeconds=10)
    sim.hook = lambda name, hook: (3.6, True)
    at = delete(sim)
    sim.run(30)
    ((killed_at, name, grace_s),) = kills(sim)
    assert killed_at == pytest.approx(at + 3.6, abs=0.01)
    assert (name, grace_s) == ("c", 7.0)


def test_pre_stop_hook_that_takes_all_the_grace_leaves_two_seconds() -> None:
    sim = running(container(lifecycle={"preStop": {"exec": {"command": ["x"]}}}), terminationGracePeriodSeconds=5)
    sim.hook = lambda name, hook: (1000.0, True)
    at = delete(sim)
    sim.run(30)
    assert kills(sim) == [(at + 5, "c", 2.0)]


def test_failed_pre_stop_hook_is_reported_and_the_end_continues() -> None:
    sim = running(container(OBEYS, lifecycle={"preStop": {"exec": {"command": ["x"]}}}))
    sim.hook = lambda name, hook: (0.1, False)
    delete(sim)
    sim.run(5)
    assert len(sim.reasons("FailedPreStopHook", "c")) == 1
    assert sim.state.stage == "gone"


def test_pre_stop_hook_does_not_run_when_the_container_ends_by_itself() -> None:
    sim = running(container("sleep 2", lifecycle={"preStop": {"exec": {"command": ["x"]}}}), restartPolicy="Never")
    sim.run(5)
    assert not any(isinstance(a, model.RunHook) for _, a in sim.actions)


def test_all_main_containers_end_at_the_same_time() -> None:
    sim = running(container(name="a"), container(name="b"), terminationGracePeriodSeconds=4)
    at = delete(sim)
    sim.run(20)
    assert {(t, name) for t, name, _ in kills(sim)} == {(at, "a"), (at, "b")}


def test_sidecars_end_after_the_main_containers_in_reverse_order() -> None:
    sim = running(
        container('trap "x" TERM; sleep 1000', "c"), initContainers=[sidecar("s1"), sidecar("s2"), sidecar("s3")]
    )
    delete(sim)
    sim.run(20)
    assert [name for _, name, _ in kills(sim)] == ["c", "s3", "s2", "s1"]
    assert sim.state.stage == "gone"


def test_waiting_sidecars_have_what_is_left_of_the_grace_period_and_two_seconds_at_least() -> None:
    sim = running(initContainers=[sidecar("s1"), sidecar("s2")], terminationGracePeriodSeconds=10)
    at = delete(sim)
    sim.run(20)
    assert kills(sim)[0] == (at, "c", 10.0)
    later = kills(sim)[1:]
    assert [t for t, _, _ in later] == pytest.approx([at + 10, at + 10], abs=0.1)
    assert all(grace == 2.0 for _, _, grace in later)


def test_pre_stop_hooks_of_sidecars_start_at_once() -> None:
    hook = {"preStop": {"exec": {"command": ["x"]}}}
    sim = running(initContainers=[sidecar("s1", lifecycle=hook)], terminationGracePeriodSeconds=10)
    at = delete(sim)
    sim.run(30)
    assert [t for t, a in sim.actions if isinstance(a, model.RunHook)] == pytest.approx([at], abs=0.01)


def test_liveness_kill_uses_the_probes_own_grace_period() -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    sim = simulate(container(livenessProbe={**probe, "terminationGracePeriodSeconds": 3}))
    sim.run(2)
    assert [grace for _, _, grace in kills(sim)] == [3.0]
    sim = simulate(container(livenessProbe=probe), terminationGracePeriodSeconds=9)
    sim.run(2)
    assert [grace for _, _, grace in kills(sim)] == [9.0]


def test_deleting_pod_ignores_the_probes_grace_period() -> None:
    probe = {"exec": {"command": ["true"]}, "terminationGracePeriodSeconds": 3}
    sim = running(container(livenessProbe=probe), terminationGracePeriodSeconds=9)
    delete(sim)
    sim.run(1)
    assert [grace for _, _, grace in kills(sim)] == [9.0]


def test_gated_pod_is_gone_at_once() -> None:
    sim = simulate(schedulingGates=[{"name": "example.com/g"}])
    sim.run(5)
    assert sim.condition("PodScheduled") == "False:SchedulingGated"
    at = delete(sim)
    assert gone_at(sim) == at
    assert [type(a) for _, a in sim.actions] == [model.Forget]


def test_gated_pod_starts_when_its_gates_are_removed() -> None:
    sim = simulate(schedulingGates=[{"name": "example.com/g"}])
    sim.run(5)
    sim.send(model.PodUpdated(pod=make_pod({"containers": [container()]})))
    sim.run(2)
    assert (sim.state.stage, sim.state.status.phase) == ("unscheduled", "Pending")
    sim.send(model.Unscheduled(message="0/1 nodes are available: 1 Insufficient cpu."))
    (condition,) = sim.state.status.conditions
    assert (condition.type, condition.status, condition.reason) == ("PodScheduled", "False", "Unschedulable")
    sim.send(model.Scheduled(node_name="here"))
    sim.run(2)
    assert (sim.state.pod.spec.node_name, sim.state.status.phase) == ("here", "Running")
    assert sim.condition("PodScheduled") == "True"


def test_ended_pod_is_forgotten_at_once_when_it_is_deleted() -> None:
    sim = running(container("true"), restartPolicy="Never")
    assert sim.state.stage == "finished"
    at = delete(sim)
    assert gone_at(sim) == at
    assert sim.state.pod.metadata.deletion_grace_period_seconds == 0


@pytest.mark.parametrize("after", [0.0, 0.02, 0.5, 1.0, 2.2, 4.0])
def test_pod_that_is_deleted_while_it_starts_leaves_nothing_behind(after: float) -> None:
    sim = Simulator(make_pod({"containers": [container(OBEYS, "a"), container(OBEYS, "b")]}))
    sim.latency = dict.fromkeys(sim.latency, 0.9)
    sim.start().run(after)
    delete(sim)
    sim.run(30)
    assert sim.state.stage == "gone"
    assert not sim.processes
    started = [a for _, a in sim.actions if isinstance(a, model.StartContainer)]
    assert len(started) <= 2
    kinds = [type(a) for _, a in sim.actions if not isinstance(a, model.RecordEvent)]
    assert kinds[-2:] == [model.TearDown, model.Forget]


def test_queue_of_starts_is_dropped_by_a_deletion() -> None:
    sim = Simulator(make_pod({"containers": [container(OBEYS, "a"), container(OBEYS, "b")]}))
    sim.latency["start"] = 5.0
    sim.start().run(2)
    delete(sim)
    sim.run(30)
    assert [a.name for _, a in sim.actions if isinstance(a, model.StartContainer)] == ["a"]


def test_pod_that_never_ran_is_reported_as_failed_when_it_is_deleted() -> None:
    sim = simulate()
    sim.fail["c"] = model.ImageFailed(name="c", reason="ErrImageNeverPull", message="m")
    sim.run(3)
    delete(sim)
    sim.run(3)
    assert sim.state.status.phase == "Failed"
    ended = sim.container("c").state.terminated
    assert (ended.reason, ended.exit_code) == ("ContainerStatusUnknown", 137)


def test_terminal_phase_is_reported_only_when_everything_has_ended() -> None:
    sim = simulate(
        container("sleep 2"),
        initContainers=[container(IGNORES, "s", restartPolicy="Always")],
        restartPolicy="Never",
        terminationGracePeriodSeconds=5,
    )
    sim.run(6)
    assert sim.container("c").state.terminated is not None
    assert sim.state.status.phase == "Running"
    sim.run(3)
    assert sim.state.status.phase == "Succeeded"


def test_terminal_phase_stays() -> None:
    sim = running(container("exit 1"), restartPolicy="Never")
    assert sim.state.status.phase == "Failed"
    delete(sim)
    sim.run(5)
    assert sim.state.status.phase == "Failed"


def test_sandbox_is_stopped_and_torn_down_when_the_pod_has_ended() -> None:
    sim = running(container("true"), restartPolicy="Never")
    assert sim.condition("PodReadyToStartContainers") == "False"
    kinds = [type(a).__name__ for _, a in sim.actions if not isinstance(a, model.RecordEvent)]
    assert kinds == ["SetUpVolumes", "CreateSandbox", "StartContainer", "StopSandbox", "TearDown"]


def test_kill_that_fails_is_tried_again() -> None:
    sim = running(container())
    sim.processes.clear()
    delete(sim, 5)
    sim.run(0.1)
    sim.send(model.ContainerKillFailed(name="c", container_id="c-0", message="no such cgroup"))
    sim.run(3)
    assert [grace for _, _, grace in kills(sim)] == [5.0, pytest.approx(2.9, abs=0.2)]


def test_tearing_down_that_fails_is_tried_again() -> None:
    sim = simulate(container("true"), restartPolicy="Never")
    sim.latency["tear"] = 1000
    sim.run(2)
    sim.send(model.TearDownFailed(message="busy"))
    sim.run(3)
    assert len([a for _, a in sim.actions if isinstance(a, model.TearDown)]) == 2
    assert sim.state.stage == "terminated"
    sim.send(model.TornDown())
    assert sim.state.stage == "finished"


def test_deletion_during_a_post_start_hook_is_reported_before_the_container_as_running() -> None:
    sim = simulate(container(lifecycle={"postStart": {"exec": {"command": ["x"]}}}))
    sim.hook = lambda name, hook: (100.0, True)
    sim.run(2)
    delete(sim)
    assert sim.container("c").state.waiting is not None
    sim.run(0.01)
    assert sim.container("c").state.running is not None


def test_a_sleep_that_outlasts_the_grace_period_is_no_failure() -> None:
    sim = running(container(lifecycle={"preStop": {"sleep": {"seconds": 9}}}), terminationGracePeriodSeconds=2)
    sim.hook = lambda name, hook: (2.0, False)
    delete(sim)
    sim.run(10)
    assert not sim.reasons("FailedPreStopHook")
