"""Probes and hooks: who is probed when, what thresholds do, what failures do."""

from __future__ import annotations

from typing import Any

from minipod.lifecycle import model
from minipod.lifecycle.probes import wanted_probes
from tests.unit.lifecycle_simulator import Simulator, make_pod

Spec = dict[str, Any]
FAILS = {"exec": {"command": ["false"]}, "periodSeconds": 1}
WORKS = {"exec": {"command": ["true"]}, "periodSeconds": 1}


def simulate(script: str = "sleep 1000", **more: object) -> Simulator:
    spec = {"name": "c", "command": ["sh", "-c", script], **more}
    return Simulator(make_pod({"containers": [spec], "terminationGracePeriodSeconds": 1})).start()


def wanted(sim: Simulator) -> list[str]:
    return [probe.kind for probe in wanted_probes(sim.state)]


def result(sim: Simulator, kind: str, outcome: str) -> None:
    run = sim.state.containers["c"].run
    assert run is not None
    sim.send(model.ProbeResult(name="c", container_id=run.id, kind=kind, result=outcome, message="m"))


def quiet(**probes: Spec) -> Simulator:
    """A running container whose probes are made by hand."""
    sim = simulate("sleep 1000", **{name: {**probe, "initialDelaySeconds": 10_000} for name, probe in probes.items()})
    sim.run(1)
    return sim


def test_container_without_probes_is_started_and_ready_when_it_runs() -> None:
    sim = quiet()
    assert sim.container("c").started
    assert sim.container("c").ready


def test_container_is_unready_until_its_readiness_probe_succeeds() -> None:
    sim = quiet(readinessProbe=WORKS)
    assert sim.container("c").started
    assert not sim.container("c").ready
    result(sim, "readiness", "success")
    assert sim.container("c").ready
    assert sim.condition("Ready") == "True"


def test_thresholds_count_equal_results_in_a_row() -> None:
    sim = quiet(readinessProbe={**WORKS, "successThreshold": 2, "failureThreshold": 3})
    for outcome, expected in [
        ("success", False),
        ("failure", False),
        ("success", False),
        ("success", True),
        ("failure", True),
        ("failure", True),
        ("success", True),
        ("failure", True),
        ("failure", True),
        ("failure", False),
    ]:
        result(sim, "readiness", outcome)
        assert sim.container("c").ready is expected


def test_probe_that_goes_on_as_it_did_changes_nothing() -> None:
    sim = quiet(livenessProbe=WORKS, readinessProbe=WORKS)
    for kind in ("liveness", "readiness"):
        result(sim, kind, "success")
        before = sim.state
        result(sim, kind, "success")
        assert sim.state == before


def test_warning_counts_as_success_and_is_reported() -> None:
    sim = quiet(readinessProbe=WORKS)
    result(sim, "readiness", "warning")
    assert sim.container("c").ready
    assert len(sim.reasons("ProbeWarning", "c")) == 1


def test_each_failure_is_reported_as_unhealthy() -> None:
    sim = quiet(livenessProbe=FAILS)
    result(sim, "liveness", "failure")
    result(sim, "liveness", "failure")
    told = [e.message for _, e in sim.recorded if e.reason == "Unhealthy"]
    assert told == ["Liveness probe failed: m"] * 2


def test_until_started_only_the_startup_probe_runs() -> None:
    sim = quiet(startupProbe=WORKS, livenessProbe=WORKS, readinessProbe=WORKS)
    assert wanted(sim) == ["startup"]
    assert not sim.container("c").started
    result(sim, "startup", "success")
    assert wanted(sim) == ["liveness", "readiness"]
    assert sim.container("c").started
    assert not sim.container("c").ready


def test_container_with_only_a_startup_probe_is_ready_once_started() -> None:
    sim = quiet(startupProbe=WORKS)
    assert not sim.container("c").ready
    result(sim, "startup", "success")
    assert (sim.container("c").started, sim.container("c").ready) == (True, False)  # told first
    sim.run(0.01)
    assert sim.container("c").ready


def test_after_a_restart_by_a_probe_it_is_reported_as_started_until_its_startup_probe_has_its_turn() -> None:
    sim = quiet(startupProbe=WORKS | {"periodSeconds": 4}, livenessProbe=FAILS | {"failureThreshold": 1})
    result(sim, "startup", "success")
    sim.run(0.01)
    result(sim, "liveness", "failure")
    sim.run(2.1)  # until it was killed
    assert sim.container("c").restart_count == 1
    assert (sim.container("c").started, sim.container("c").ready) == (True, True)
    assert wanted(sim) == ["liveness"]
    sim.run(3.9)
    assert (sim.container("c").started, sim.container("c").ready) == (False, False)
    assert wanted(sim) == ["startup"]


def test_the_count_of_failures_continues_over_a_restart() -> None:
    sim = quiet(livenessProbe=FAILS | {"failureThreshold": 2})
    result(sim, "liveness", "failure")
    sim.end("c", 1)
    sim.run(0.5)
    assert sim.container("c").restart_count == 1
    result(sim, "liveness", "failure")
    assert sim.reasons("Killing")


def test_failed_liveness_restarts_the_container_and_rests_until_it_is_another_one() -> None:
    sim = quiet(livenessProbe={**FAILS, "failureThreshold": 2})
    result(sim, "liveness", "failure")
    assert wanted(sim) == ["liveness"]
    result(sim, "liveness", "failure")
    assert wanted(sim) == []
    killing = [e.message for _, e in sim.recorded if e.reason == "Killing"]
    assert killing == ["Container c failed liveness probe, will be restarted"]
    sim.run(3)
    assert sim.container("c").restart_count == 1
    assert sim.container("c").state.running is not None
    assert wanted(sim) == ["liveness"]


def test_liveness_failure_of_the_only_container_under_never_ends_the_pod() -> None:
    spec = {"name": "c", "command": ["sh", "-c", "sleep 1000"], "livenessProbe": {**FAILS, "failureThreshold": 1}}
    sim = Simulator(make_pod({"containers": [spec], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1}))
    sim.start().run(10)
    assert sim.state.status.phase == "Failed"
    assert [e.message for _, e in sim.recorded if e.reason == "Killing"] == ["Stopping container c"]


def test_failed_startup_probe_restarts_the_container() -> None:
    sim = quiet(startupProbe={**FAILS, "failureThreshold": 1})
    result(sim, "startup", "failure")
    sim.run(3)
    assert sim.container("c").restart_count == 1
    assert wanted(sim) == ["startup"]


def test_container_killed_by_its_probe_is_never_reported_as_terminated_before_it_runs_again() -> None:
    sim = quiet(livenessProbe={**FAILS, "failureThreshold": 1})
    result(sim, "liveness", "failure")
    sim.run(3)
    assert not any(entry["containers"]["c"]["state"] == "terminated" for entry in sim.history())


def test_second_kill_by_a_probe_restarts_at_once_and_the_third_waits() -> None:
    sim = simulate(livenessProbe={**FAILS, "failureThreshold": 1, "initialDelaySeconds": 2})
    sim.run(13)
    assert sim.container("c").restart_count == 2
    assert sim.container("c").state.waiting.reason == "CrashLoopBackOff"


def test_results_of_an_older_instance_count_for_nothing() -> None:
    sim = quiet(livenessProbe={**FAILS, "failureThreshold": 1})
    sim.send(model.ProbeResult(name="c", container_id="c-77", kind="liveness", result="failure", message="m"))
    assert sim.recorded[-1][1].reason != "Unhealthy"
    assert wanted(sim) == ["liveness"]


def test_restarted_container_is_unready_until_its_own_probe_succeeds() -> None:
    sim = quiet(readinessProbe=WORKS)
    result(sim, "readiness", "success")
    sim.end("c", 1)
    sim.run(1)
    assert sim.container("c").restart_count == 1
    assert not sim.container("c").ready


def test_while_a_pod_is_deleted_only_readiness_is_probed() -> None:
    sim = quiet(livenessProbe=WORKS, readinessProbe=WORKS)
    result(sim, "readiness", "success")
    sim.send(model.DeleteRequested(grace_period_s=20))
    sim.run(1)
    assert wanted(sim) == ["readiness"]
    for _ in range(3):
        result(sim, "readiness", "failure")
    assert not sim.container("c").ready
    assert sim.condition("Ready") == "False:ContainersNotReady"


def test_no_probe_is_wanted_of_a_pod_that_has_ended() -> None:
    spec = {"name": "c", "command": ["sh", "-c", "exit 1"], "readinessProbe": WORKS}
    sim = Simulator(make_pod({"containers": [spec], "restartPolicy": "Never"})).start()
    sim.run(5)
    assert wanted(sim) == []


def test_container_is_reported_as_running_only_when_the_others_of_its_pass_were_started() -> None:
    sim = Simulator(make_pod({"containers": [{"name": "c"}, {"name": "d"}]}))
    sim.hangs = {"d"}
    sim.start().run(5)
    assert sim.state.containers["c"].run is not None
    assert sim.container("c").state.waiting.reason == "ContainerCreating"


def test_readiness_is_reported_while_another_container_is_restarted() -> None:
    mains = [{"name": "c", "readinessProbe": {**WORKS, "initialDelaySeconds": 10_000}}, {"name": "d"}]
    sim = Simulator(make_pod({"containers": mains})).start()
    sim.run(5)
    sim.hangs = {"d"}
    sim.end("d", 1)
    result(sim, "readiness", "success")
    assert sim.container("c").ready
    assert sim.container("d").state.terminated is not None


# -- hooks -------------------------------------------------------------------------------------------------------

POST_START = {"postStart": {"exec": {"command": ["x"]}}}


def test_post_start_blocks_the_start_of_the_next_container() -> None:
    mains = [{"name": "a", "lifecycle": POST_START}, {"name": "b"}]
    sim = Simulator(make_pod({"containers": mains}))
    sim.hook = lambda name, hook: (3.0, True)
    sim.start().run(2)
    assert [a.name for _, a in sim.actions if isinstance(a, model.StartContainer)] == ["a"]
    assert sim.container("a").state.waiting is not None
    sim.run(2)
    assert [a.name for _, a in sim.actions if isinstance(a, model.StartContainer)] == ["a", "b"]
    assert sim.state.status.phase == "Running"


def test_container_is_not_probed_while_its_post_start_hook_runs() -> None:
    sim = Simulator(make_pod({"containers": [{"name": "c", "lifecycle": POST_START, "livenessProbe": FAILS}]}))
    sim.hook = lambda name, hook: (3.0, True)
    sim.start().run(2)
    assert wanted(sim) == []


def test_failed_post_start_hook_kills_the_container_which_is_restarted_by_its_policy() -> None:
    sim = Simulator(
        make_pod({"containers": [{"name": "c", "lifecycle": POST_START}], "terminationGracePeriodSeconds": 2})
    )
    sim.hook = lambda name, hook: (0.1, False)
    sim.start().run(2.5)
    assert sim.container("c").state.waiting.reason == "PostStartHookError"
    assert sim.container("c").last_state.terminated.exit_code == 137
    assert [e.message for _, e in sim.recorded if e.reason == "Killing"] == ["FailedPostStartHook"]
    assert len(sim.reasons("FailedPostStartHook", "c")) == 1
    sim.run(2)
    assert len(sim.reasons("Started", "c")) == 2


def test_failed_post_start_hook_under_never_fails_the_pod() -> None:
    sim = Simulator(
        make_pod(
            {
                "containers": [{"name": "c", "lifecycle": POST_START}],
                "terminationGracePeriodSeconds": 2,
                "restartPolicy": "Never",
            }
        )
    )
    sim.hook = lambda name, hook: (0.1, False)
    sim.start().run(5)
    assert sim.state.status.phase == "Failed"
    assert sim.container("c").state.terminated.exit_code == 137


def test_deletion_does_not_wait_for_a_hanging_post_start_hook() -> None:
    sim = Simulator(
        make_pod({"containers": [{"name": "c", "lifecycle": POST_START}], "terminationGracePeriodSeconds": 2})
    )
    sim.hook = lambda name, hook: (10_000.0, True)
    sim.start().run(2)
    sim.send(model.DeleteRequested())
    sim.run(5)
    assert sim.state.stage == "gone"


def test_container_that_ends_during_its_post_start_hook_fails_its_start() -> None:
    sim = Simulator(
        make_pod({"containers": [{"name": "c", "command": ["sh", "-c", "exit 4"], "lifecycle": POST_START}]})
    )
    sim.hook = lambda name, hook: (0.5, False)
    sim.start().run(1)
    assert sim.container("c").state.waiting.reason == "PostStartHookError"
    assert sim.container("c").last_state.terminated.exit_code == 4
    assert len(sim.reasons("Killing")) == 1
