"""Restarts, back-off and what they do to the phase."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from minipod.api.timestamps import go_duration
from minipod.lifecycle import backoff, model
from minipod.lifecycle.values import BackOff
from tests.unit.lifecycle_simulator import Simulator, make_pod

Spec = dict[str, Any]


def container(script: str, name: str = "c", **more: object) -> Spec:
    return {"name": name, "command": ["sh", "-c", script], **more}


def run(seconds: float, *containers: Spec, max_backoff_s: float = 300.0, **spec: object) -> Simulator:
    sim = Simulator(make_pod({"containers": list(containers), **spec}), max_backoff_s=max_backoff_s).start()
    sim.run(seconds)
    return sim


def starts(sim: Simulator, name: str = "c") -> list[float]:
    return [t for t, action in sim.actions if isinstance(action, model.StartContainer) and action.name == name]


def waits(sim: Simulator) -> list[int]:
    """Whole seconds between the starts of a container that ends at once."""
    times = starts(sim)
    return [round(after - before) for before, after in pairwise(times)]


def test_first_crash_restarts_at_once_then_ten_seconds_doubled_up_to_three_hundred() -> None:
    sim = run(1900, container("exit 1"))
    assert waits(sim)[:9] == [0, 10, 20, 40, 80, 160, 300, 300, 300]


def test_clean_exit_under_always_backs_off_too() -> None:
    sim = run(50, container("exit 0"))
    assert waits(sim) == [0, 10, 20]
    assert sim.state.status.phase == "Running"


def test_backoff_starts_anew_when_the_container_ran_for_more_than_six_hundred_seconds() -> None:
    sim = run(16, container("sleep 601; exit 1"))
    sim.end("c", 1)
    sim.run(12)
    sim.end("c", 1)
    sim.run(11)
    assert len(starts(sim)) == 3
    sim.run(602 + 2)
    times = starts(sim)
    assert times[3] - times[2] < 602


def test_backoff_of_an_entry_expires_only_after_six_hundred_seconds() -> None:
    entry = BackOff(delay_s=160.0, updated_at=1000.0)
    assert backoff.in_restart_backoff(entry, 1600.0, 1601.0)
    assert not backoff.in_restart_backoff(entry, 1600.1, 1601.0)
    assert backoff.next_restart_backoff(entry, 1600.0, 1761.0, 300.0).delay_s == 300.0
    assert backoff.next_restart_backoff(entry, 1600.1, 1601.0, 300.0).delay_s == 10.0


@pytest.mark.parametrize(("ceiling", "expected"), [(1.0, [0, 1, 1, 1]), (30.0, [0, 10, 20, 30, 30])])
def test_ceiling_of_the_backoff_is_configurable(ceiling: float, expected: list[int]) -> None:
    sim = run(120, container("exit 1"), max_backoff_s=ceiling)
    assert waits(sim)[: len(expected)] == expected


def test_changed_image_backs_off_anew() -> None:
    sim = run(75, container("exit 1", image="v1"))
    assert waits(sim) == [0, 10, 20, 40]
    changed = make_pod({"containers": [container("exit 1", image="v2")]})
    sim.send(model.PodUpdated(pod=changed))
    sim.run(15)
    assert waits(sim) == [0, 10, 20, 40, 5, 10]  # at once, in the middle of the fifth wait; then from the beginning


def test_crash_loop_is_reported_with_the_wait() -> None:
    sim = run(5, container("exit 1"))
    status = sim.container("c")
    assert status.state.waiting.reason == "CrashLoopBackOff"
    assert status.state.waiting.message == "back-off 10s restarting failed container=c pod=p_default(u-1)"
    assert status.last_state.terminated.exit_code == 1
    assert status.restart_count == 1
    assert sim.state.status.phase == "Running"
    assert len(sim.reasons("BackOff", "c")) == 1


def test_durations_are_written_as_go_writes_them() -> None:
    assert [go_duration(s) for s in (1, 10, 80, 160, 300, 3600)] == ["1s", "10s", "1m20s", "2m40s", "5m0s", "1h0m0s"]
    assert [go_duration(s) for s in (0, 0.0128, 0.8, 1.2049, 61.05)] == ["0s", "12ms", "800ms", "1.204s", "1m1.05s"]


def test_never_lets_a_container_end_once_and_the_pod_with_it() -> None:
    sim = run(5, container("exit 3"), restartPolicy="Never")
    assert len(starts(sim)) == 1
    assert sim.state.status.phase == "Failed"
    assert sim.container("c").state.terminated.exit_code == 3


def test_on_failure_restarts_until_the_container_succeeds() -> None:
    sim = Simulator(make_pod({"containers": [container("exit 1")], "restartPolicy": "OnFailure"})).start()
    sim.run(1)
    sim.verdict["c"] = (0, "", "")
    sim.run(12)
    assert sim.state.status.phase == "Succeeded"
    assert sim.container("c").restart_count == 2


def test_pod_succeeds_only_when_all_its_containers_did() -> None:
    sim = run(5, container("exit 0", "a"), container("exit 1", "b"), restartPolicy="Never")
    assert sim.state.status.phase == "Failed"
    sim = run(5, container("exit 0", "a"), container("sleep 2", "b"), restartPolicy="Never")
    assert sim.state.status.phase == "Succeeded"


def test_pod_runs_while_one_of_its_containers_does() -> None:
    sim = run(5, container("exit 1", "a"), container("sleep 100", "b"), restartPolicy="Never")
    assert sim.state.status.phase == "Running"
    assert sim.condition("Ready") == "False:ContainersNotReady"


def test_main_containers_are_started_in_order_one_after_the_other() -> None:
    sim = Simulator(make_pod({"containers": [container("sleep 9", name) for name in ("z", "a", "m")]}))
    sim.latency["start"] = 1.0
    sim.start().run(10)
    begun = [(t, action.name) for t, action in sim.actions if isinstance(action, model.StartContainer)]
    assert [name for _, name in begun] == ["z", "a", "m"]
    assert [round(t - begun[0][0]) for t, _ in begun] == [0, 1, 2]


def test_container_that_cannot_be_created_does_not_keep_the_others_from_starting() -> None:
    sim = Simulator(make_pod({"containers": [container("sleep 99", "a"), container("sleep 99", "b")]}))
    sim.fail["a"] = model.ContainerCreateFailed(name="a", reason="CreateContainerError", message="m")
    sim.start().run(3)
    assert sim.container("a").state.waiting.reason == "CreateContainerError"
    assert sim.container("b").state.running is not None
    assert sim.state.status.phase == "Pending"


def test_failed_creation_is_retried_within_a_second_and_then_every_ten_to_fifteen() -> None:
    sim = Simulator(make_pod({"containers": [container("sleep 99")]}))
    sim.fail["c"] = model.ContainerCreateFailed(name="c", reason="CreateContainerConfigError", message='secret "s"')
    sim.start().run(30)
    assert waits(sim) == [1, 13, 13]
    assert sim.container("c").state.waiting.message == 'secret "s"'
    del sim.fail["c"]
    sim.run(13)
    assert sim.state.status.phase == "Running"
    assert sim.container("c").restart_count == 0


def test_start_error_is_an_end_with_code_128() -> None:
    sim = Simulator(make_pod({"containers": [container("x")], "restartPolicy": "Never"}))
    sim.fail["c"] = model.ContainerStartFailed(name="c", container_id="", at=0, message="")
    sim.start().run(3)
    ended = sim.container("c").state.terminated
    assert (ended.reason, ended.exit_code) == ("StartError", 128)
    assert sim.state.status.phase == "Failed"
    assert not sim.reasons("Started")
    assert len(sim.reasons("Failed", "c")) == 1


def test_start_error_under_always_is_a_run_container_error_that_backs_off() -> None:
    sim = Simulator(make_pod({"containers": [container("x")]}))
    sim.fail["c"] = model.ContainerStartFailed(name="c", container_id="", at=0, message="")
    sim.start().run(0.5)
    assert sim.container("c").state.waiting.reason == "RunContainerError"
    assert sim.container("c").last_state.terminated.exit_code == 128
    sim.run(30)
    assert waits(sim)[:2] == [1, 10]


def test_image_that_cannot_be_pulled_is_asked_for_again_with_a_backoff_of_its_own() -> None:
    sim = Simulator(make_pod({"containers": [container("x")]}))
    sim.fail["c"] = model.ImageFailed(name="c", reason="ErrImagePull", message="not found")
    sim.start().run(0.5)
    assert sim.container("c").state.waiting.reason == "ErrImagePull"
    sim.run(2.5)
    waiting = sim.container("c").state.waiting
    assert waiting.reason == "ImagePullBackOff"
    assert waiting.message == 'Back-off pulling image "busybox": ErrImagePull: not found'
    allowed = [a.pull_allowed for _, a in sim.actions if isinstance(a, model.StartContainer)]
    assert allowed == [True, False]
    sim.run(12)
    allowed = [a.pull_allowed for _, a in sim.actions if isinstance(a, model.StartContainer)]
    assert allowed == [True, False, True]
    assert sim.state.status.phase == "Pending"


def test_what_one_container_could_not_pull_the_others_of_the_pod_wait_for_too() -> None:
    """The back-off is the pod's and the image's (image_manager.go pullImage)."""
    sim = Simulator(make_pod({"containers": [container("x"), container("x", "d"), container("x", "e", image="other")]}))
    for name in ("c", "d", "e"):
        sim.fail[name] = model.ImageFailed(name=name, reason="ErrImagePull", message="not found")
    sim.start().run(0.5)
    reasons = [sim.container(name).state.waiting.reason for name in ("c", "d", "e")]
    assert reasons == ["ErrImagePull", "ImagePullBackOff", "ErrImagePull"]


def test_an_image_volume_that_does_not_come_is_the_pod_s_trouble_and_its_container_waits() -> None:
    spec = container("x", volumeMounts=[{"name": "v", "mountPath": "/v"}])
    volumes = [{"name": "v", "image": {"reference": "other"}}]
    sim = Simulator(make_pod({"containers": [spec], "volumes": volumes}))
    sim.fail["c"] = model.ImageFailed(name="c", reason="ErrImagePull", message="not found", reference="other")
    sim.start().run(0.5)
    assert sim.container("c").state.waiting.reason == "ErrImagePull"
    told = [(e.reason, e.field_path, e.message) for _, e in sim.recorded if e.reason == "Failed"]
    assert told == [
        ("Failed", "", 'Failed to pull image "other": not found'),
        ("Failed", "spec.containers{c}", "Error: ErrImagePull"),
    ]
    sim.run(3)
    starts = [a for _, a in sim.actions if isinstance(a, model.StartContainer)]
    assert [(one.pull_allowed, one.no_pull) for one in starts] == [(True, ()), (True, ("other",))]


def test_image_events_are_those_of_the_image_manager() -> None:
    sim = Simulator(make_pod({"containers": [container("x")]}))
    sim.fail["c"] = model.ImageFailed(name="c", reason="ErrImagePull", message="not found")
    sim.start().run(0.5)
    told = [(e.type, e.reason, e.message) for _, e in sim.recorded if e.field_path]
    assert told == [
        ("Warning", "Failed", 'Failed to pull image "busybox": not found'),
        ("Warning", "Failed", "Error: ErrImagePull"),
    ]


def test_container_restart_policy_wins_over_the_pods() -> None:
    sim = run(5, container("exit 1", restartPolicy="Never"), container("sleep 99", "b"))
    assert len(starts(sim)) == 1
    sim = run(5, container("exit 1", restartPolicy="Always"), restartPolicy="Never")
    assert len(starts(sim)) == 2
    assert sim.state.status.phase == "Running"


def rules(action: str, operator: str, *codes: int) -> list[Spec]:
    return [{"action": action, "exitCodes": {"operator": operator, "values": list(codes)}}]


def test_restart_rules_come_before_the_restart_policy() -> None:
    never: Spec = {"restartPolicy": "Never", "restartPolicyRules": rules("Restart", "In", 42)}
    assert len(starts(run(5, container("exit 42", **never), restartPolicy="Never"))) == 2
    assert len(starts(run(5, container("exit 41", **never), restartPolicy="Never"))) == 1
    never["restartPolicyRules"] = rules("Restart", "NotIn", 0, 7)
    assert len(starts(run(5, container("exit 8", **never), restartPolicy="Never"))) == 2
    assert len(starts(run(5, container("exit 7", **never), restartPolicy="Never"))) == 1


def test_restart_all_containers_ends_all_and_runs_the_init_containers_again() -> None:
    source = container(
        "sleep 5; exit 88", "a", restartPolicy="Never", restartPolicyRules=rules("RestartAllContainers", "In", 88)
    )
    sim = run(
        6,
        source,
        container("sleep 99", "b"),
        initContainers=[container("true", "i")],
        restartPolicy="Never",
    )
    assert sim.condition("AllContainersRestarting") == "True:RestartAllContainersStarted"
    sim.run(2)
    assert len(starts(sim, "i")) == len(starts(sim, "a")) == len(starts(sim, "b")) == 2
    assert sim.condition("AllContainersRestarting") == "False"
    assert sim.condition("Initialized") == "True"
    assert sim.container("a").restart_count == sim.container("b").restart_count == 1
    assert sim.state.status.phase == "Running"
    removed = [a.name for _, a in sim.actions if isinstance(a, model.RemoveContainer)]
    assert removed == ["b", "i", "a"]


def test_active_deadline_fails_the_pod_and_ends_its_containers() -> None:
    sim = run(3, container("sleep 99"), activeDeadlineSeconds=4, terminationGracePeriodSeconds=2)
    assert sim.state.status.phase == "Running"
    sim.run(1.5)
    assert sim.condition("Ready") == "False:PodFailed"
    sim.run(2)
    status = sim.state.status
    assert (status.phase, status.reason) == ("Failed", "DeadlineExceeded")
    assert status.message == "Pod was active on the node longer than the specified deadline"
    assert sim.container("c").state.terminated.exit_code == 137


def test_deadline_that_passes_during_a_start_waits_for_it_without_spinning() -> None:
    sim = Simulator(make_pod({"containers": [container("sleep 99")], "activeDeadlineSeconds": 2}))
    sim.latency["image"] = 10
    sim.start().run(60)
    assert sim.state.status.reason == "DeadlineExceeded"


def test_sandbox_that_cannot_be_made_is_tried_again() -> None:
    sim = Simulator(make_pod({"containers": [container("sleep 99")]}))
    sim.sandbox_errors = 1
    sim.start().run(10)
    assert sim.condition("PodReadyToStartContainers") == "False"
    assert len(sim.reasons("FailedCreatePodSandBox")) == 1
    sim.run(5)
    assert sim.state.status.phase == "Running"


def test_volumes_that_cannot_be_mounted_are_tried_again_with_doubled_waits() -> None:
    sim = Simulator(make_pod({"containers": [container("sleep 99")]}))
    sim.later = lambda what, event: (  # type: ignore[method-assign]
        sim.send(model.VolumesFailed(message="no such directory")) if what == "volumes" else None
    )
    sim.start().run(8)
    times = [t for t, a in sim.actions if isinstance(a, model.SetUpVolumes)]
    assert times == [0, 0.5, 1.5, 3.5, 7.5]
    assert sim.reasons("FailedMount") == times


def test_end_that_is_reported_before_the_start_counts() -> None:
    sim = Simulator(make_pod({"containers": [container("x")], "restartPolicy": "Never"}))
    sim.hangs = {"c"}
    sim.start().run(1)
    sim.send(model.ContainerCreated(name="c", container_id="x"))
    sim.send(model.ContainerExited(name="c", container_id="x", exit_code=5, finished_at=sim.now))
    sim.send(model.ContainerStarted(name="c", container_id="x", pid=1, at=sim.now))
    sim.run(1)
    assert sim.container("c").state.terminated.exit_code == 5
    assert sim.state.status.phase == "Failed"
    assert len(sim.reasons("Started", "c")) == 1
