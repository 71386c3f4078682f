"""A new agent takes over, after the old one's death or after a reboot."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minipod.lifecycle import core, model
from minipod.lifecycle.values import User
from tests.unit.lifecycle_simulator import Simulator, make_pod

Spec = dict[str, Any]


def simulate(script: str = "sleep 1000", **spec: object) -> Simulator:
    container = {"name": "c", "command": ["sh", "-c", script]}
    return Simulator(make_pod({"containers": [container], **spec})).start()


def found(sim: Simulator) -> dict[str, model.Run]:
    """What the runtime has of the pod."""
    runs = {name: known.run for name, known in sim.state.containers.items() if known.run is not None}
    return {name: run for name, run in runs.items() if run.state != "exited"}


def take_over(sim: Simulator, runs: dict[str, model.Run] | None = None, *, ready: bool = True) -> None:
    """The old agent's timers and answers are lost; a new one starts with the saved state."""
    sim._queue.clear()
    sim._probing.clear()
    runs = found(sim) if runs is None else runs
    sandbox = sim.state.sandbox.id
    sim.send(model.AgentStarted(sandbox_id=sandbox, sandbox_ready=ready, ips=("10.1.0.2",), runs=runs))


def started(sim: Simulator) -> int:
    return sum(isinstance(action, model.StartContainer) for _, action in sim.actions)


def test_running_pod_goes_on_untouched() -> None:
    sim = simulate()
    sim.run(5)
    before = sim.state.status
    take_over(sim)
    sim.run(100)
    assert started(sim) == 1
    assert sim.state.status == before


def test_container_that_ended_without_an_agent_is_reported_with_its_true_end() -> None:
    sim = simulate(restartPolicy="Never")
    sim.run(5)
    run = found(sim)["c"]
    ended = msgspec.structs.replace(run, state="exited", exit_code=3, finished_at=sim.now - 1, message="bye")
    take_over(sim, {"c": ended})
    sim.run(5)
    status = sim.container("c").state.terminated
    assert (status.exit_code, status.reason, status.message) == (3, "Error", "bye")
    assert sim.state.status.phase == "Failed"


def test_backoff_continues_where_it_was() -> None:
    sim = simulate("exit 1")
    sim.run(15)
    assert sim.container("c").restart_count == 2
    ended = sim.state.containers["c"].run
    assert ended is not None
    take_over(sim, {"c": ended})
    sim.run(12)
    assert sim.container("c").restart_count == 2
    sim.run(5)
    assert sim.container("c").restart_count == 3


def test_container_that_the_runtime_lost_ended_with_137() -> None:
    sim = simulate(restartPolicy="Never")
    sim.run(5)
    take_over(sim, {})
    sim.run(1)
    ended = sim.container("c").state.terminated
    assert (ended.exit_code, ended.reason) == (137, "ContainerStatusUnknown")


@pytest.mark.parametrize("after", [0.0, 0.03, 0.061, 0.065])
def test_start_that_was_under_way_is_done_again(after: float) -> None:
    sim = simulate()
    sim.run(after)
    take_over(sim)
    sim.run(20)
    assert sim.state.status.phase == "Running"
    assert sim.container("c").state.running is not None
    assert len(sim.processes) == 1


def test_container_that_was_started_while_nobody_heard_is_adopted() -> None:
    sim = simulate()
    sim.hangs = {"c"}
    sim.run(3)
    run = model.Run(id="c-0", state="running", started_at=sim.now, pid=7)
    take_over(sim, {"c": run})
    sim.run(3)
    assert started(sim) == 1
    assert sim.state.status.phase == "Running"
    assert sim.container("c").container_id == "minipod://c-0"


def test_older_instance_is_not_taken_for_a_new_one() -> None:
    sim = simulate("exit 1")
    sim.run(15)
    older = model.Run(id="c-0", attempt=0, state="exited", exit_code=9, finished_at=1.0)
    take_over(sim, {"c": older})
    sim.run(1)
    assert sim.container("c").restart_count == 2


def test_grace_period_continues_where_it_was() -> None:
    sim = simulate(terminationGracePeriodSeconds=20)
    sim.run(5)
    sim.send(model.DeleteRequested())
    sim.run(8)
    take_over(sim)
    last = [a for _, a in sim.actions if isinstance(a, model.KillContainer)][-1]
    assert last.grace_s == pytest.approx(12, abs=0.1)
    sim.run(13)
    assert sim.state.stage == "gone"


def test_probe_counts_continue_where_they_were() -> None:
    probe = {"exec": {"command": ["false"]}, "failureThreshold": 3, "initialDelaySeconds": 10_000}
    sim = Simulator(make_pod({"containers": [{"name": "c", "livenessProbe": probe}]})).start()
    sim.run(3)
    failure = model.ProbeResult(name="c", container_id="c-0", kind="liveness", result="failure", message="m")
    sim.send(failure)
    sim.send(failure)
    take_over(sim)
    sim.send(failure)
    assert len(sim.reasons("Killing", "c")) == 1


def test_deadline_goes_on_where_it_was() -> None:
    sim = simulate(activeDeadlineSeconds=10, terminationGracePeriodSeconds=1)
    sim.run(6)
    take_over(sim)
    sim.run(7)
    assert sim.state.status.reason == "DeadlineExceeded"


def test_reboot_makes_a_new_sandbox_and_runs_the_init_containers_again() -> None:
    container = {"name": "c", "command": ["sh", "-c", "sleep 1000"]}
    init = {"name": "i", "command": ["sh", "-c", "true"]}
    sim = Simulator(make_pod({"containers": [container], "initContainers": [init]})).start()
    sim.run(5)
    sim.processes.clear()
    take_over(sim, {}, ready=False)
    sim.run(30)
    names = [a.name for _, a in sim.actions if isinstance(a, model.StartContainer)]
    assert names == ["i", "c", "i", "c"]
    assert len([a for _, a in sim.actions if isinstance(a, model.SetUpVolumes)]) == 2
    assert sim.state.status.phase == "Running"
    assert sim.container("c").restart_count == 1


def test_reboot_ends_a_pod_with_restart_never() -> None:
    sim = simulate(restartPolicy="Never")
    sim.run(5)
    sim.processes.clear()
    take_over(sim, {}, ready=False)
    sim.run(5)
    assert sim.state.status.phase == "Failed"
    assert sim.state.stage == "finished"


def test_pod_that_had_ended_stays_as_it_is() -> None:
    sim = simulate("exit 0", restartPolicy="Never")
    sim.run(5)
    before = sim.state
    take_over(sim, {}, ready=False)
    sim.run(5)
    assert sim.state.status == before.status
    assert sim.state.stage == "finished"


def test_tearing_down_is_done_again() -> None:
    sim = simulate("exit 0", restartPolicy="Never")
    sim.latency["tear"] = 1000
    sim.run(5)
    sim.latency["tear"] = 0.1
    take_over(sim, {}, ready=False)
    sim.run(1)
    assert sim.state.stage == "finished"


def test_new_ceiling_of_the_backoff_holds_from_then_on() -> None:
    sim = simulate()
    sim.run(2)
    runs = found(sim)
    sim.send(model.AgentStarted(sandbox_id="sandbox-0", sandbox_ready=True, runs=runs, max_backoff_s=5.0))
    assert sim.state.max_backoff_s == 5.0
    assert core.next_wakeup(sim.state) is None


def test_container_in_an_unknown_state_is_killed_before_it_is_restarted() -> None:
    sim = simulate(terminationGracePeriodSeconds=1)
    sim.run(3)
    unknown = msgspec.structs.replace(found(sim)["c"], state="unknown")
    take_over(sim, {"c": unknown})
    assert sim.container("c").state.terminated.reason == "ContainerStatusUnknown"
    sim.run(5)
    killing = [e.message for _, e in sim.recorded if e.reason == "Killing"]
    assert killing == ['Container is in "unknown" state, try killing it before restart']
    assert sim.container("c").restart_count == 1
    assert sim.state.status.phase == "Running"


def created(**spec: Any) -> tuple[Simulator, model.Run]:
    """The container is created, and the agent dies before it sees how its start went."""
    container = {"name": "c", "command": ["sh", "-c", "sleep 1000"]}
    sim = Simulator(make_pod({"containers": [container], **spec}))
    sim.hangs.add("c")
    sim.start()
    sim.run(1)
    return sim, create(sim)


def create(sim: Simulator) -> model.Run:
    sim.send(model.ContainerCreated(name="c", container_id="its id", image_id="sha256:1"))
    sim.hangs.clear()
    run = found(sim)["c"]
    assert run.state == "created"
    return run


def test_an_instance_that_was_never_started_is_made_again_with_its_number() -> None:
    sim, _ = created()
    take_over(sim, {})
    sim.run(10)
    assert sim.container("c").restart_count == 0
    assert [action.attempt for _, action in sim.actions if isinstance(action, model.StartContainer)] == [0, 0]
    assert sim.container("c").state.running is not None
    assert sim.container("c").last_state.terminated is None


def test_an_instance_that_was_never_started_leaves_the_last_end_of_the_one_before() -> None:
    sim = simulate("exit 3")
    sim.run(5)
    ended = sim.state.containers["c"].run
    assert ended is not None
    sim.hangs.add("c")
    sim.run(10)
    create(sim)
    take_over(sim, {"c": ended})
    sim.run(1)
    assert sim.container("c").restart_count == ended.attempt + 1
    assert sim.container("c").last_state.terminated is not None


def test_a_start_that_was_not_reported_is_reported_and_its_post_start_hook_runs() -> None:
    hook = {"postStart": {"exec": {"command": ["true"]}}}
    container = {"name": "c", "command": ["sh", "-c", "sleep 1000"], "lifecycle": hook}
    sim, run = created(containers=[container, {"name": "d", "command": ["sh", "-c", "sleep 1000"]}])
    user = User(uid=7, gid=7)
    take_over(sim, {"c": msgspec.structs.replace(run, state="running", pid=5, user=user, started_at=sim.now)})
    hooks = [action for _, action in sim.actions if isinstance(action, model.RunHook)]
    assert [(hook.name, hook.hook) for hook in hooks] == [("c", "postStart")]
    sim.run(10)
    assert [started for started in ("c", "d") if sim.container(started).state.running is None] == []
    assert sim.container("c").restart_count == 0
    assert sim.state.containers["c"].run is not None
    assert sim.state.containers["c"].run.user == user
    assert [event.reason for _, event in sim.recorded].count("Started") == 2


def with_hook(kind: str, seconds: float, ok: bool = True) -> Simulator:
    hook = {kind: {"exec": {"command": ["true"]}}}
    sim = Simulator(make_pod({"containers": [{"name": "c", "command": ["sh", "-c", "sleep 1000"], "lifecycle": hook}]}))
    sim.hook = lambda name, kind: (seconds, ok)
    return sim.start()


def hooks_of(sim: Simulator) -> list[model.RunHook]:
    return [action for _, action in sim.actions if isinstance(action, model.RunHook)]


@pytest.mark.parametrize("seconds", [2.0, 100.0])
def test_a_post_start_hook_that_was_under_way_is_run_again(seconds: float) -> None:
    """At least once, as Kubernetes promises: nobody knows how far it came."""
    sim = with_hook("postStart", 100.0)
    sim.run(5)
    sim.hook = lambda name, kind: (seconds, True)
    take_over(sim)
    sim.run(5)
    assert [hook.hook for hook in hooks_of(sim)] == ["postStart", "postStart"]
    assert sim.container("c").ready == (seconds < 5)
    assert sim.container("c").restart_count == 0


def test_a_container_whose_post_start_hook_has_failed_is_ended_by_the_next_agent() -> None:
    sim = with_hook("postStart", 1.0, ok=False)
    sim.run(1.5)
    assert sim.state.containers["c"].post_start_error == "hook"
    take_over(sim)
    sim.run(65)
    assert sim.container("c").restart_count == 1
    assert [hook.container_id for hook in hooks_of(sim)] == ["c-0", "c-1"]


def test_a_pre_stop_hook_that_was_under_way_is_run_again_within_the_same_grace() -> None:
    sim = with_hook("preStop", 100.0)
    sim.run(5)
    sim.send(model.DeleteRequested())
    sim.run(10)
    take_over(sim)
    assert [(hook.hook, hook.timeout_s) for hook in hooks_of(sim)] == [("preStop", 30.0), ("preStop", 20.0)]
    sim.run(23)
    assert sim.state.stage == "gone"


def test_a_pod_that_was_to_be_forgotten_is_forgotten() -> None:
    sim = simulate(terminationGracePeriodSeconds=1)
    sim.run(5)
    sim.send(model.DeleteRequested())
    sim.run(10)
    assert sim.state.stage == "gone"
    take_over(sim, {})
    assert sum(isinstance(action, model.Forget) for _, action in sim.actions) == 2
