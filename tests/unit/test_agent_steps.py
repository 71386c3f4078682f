"""What `run` shows of a pod: each thing once."""

from __future__ import annotations

from minipod.agent.pods import steps
from minipod.lifecycle import core, model
from tests.unit.lifecycle_simulator import Simulator, make_pod


def running_pod() -> Simulator:
    pod = make_pod({"containers": [{"name": "c", "command": ["sh", "-c", "sleep 1000"]}], "restartPolicy": "Never"})
    sim = Simulator(pod).start()
    sim.run(5)
    return sim


def told(sim: Simulator, event: model.Event) -> list[str]:
    before = sim.state
    sim.state, _ = core.step(before, event, sim.t)
    return [f"{step.step} {step.message}" for step in steps.of_event(event, before, sim.state)]


def test_an_end_that_is_reported_by_its_wait_and_by_its_kill_is_one_step() -> None:
    sim = running_pod()
    run = sim.state.containers["c"].run
    assert run is not None
    end = model.ContainerExited(name="c", container_id=run.id, exit_code=137, reason="OOMKilled", finished_at=sim.t)
    assert told(sim, end) == ["exited c: exit code 137 (OOMKilled)"]
    assert told(sim, end) == []


def test_the_end_of_an_older_instance_is_no_step() -> None:
    sim = running_pod()
    assert told(sim, model.ContainerExited(name="c", container_id="older", exit_code=1, finished_at=sim.t)) == []


def test_a_deletion_is_reported_again_only_when_it_shortens() -> None:
    sim = running_pod()
    assert told(sim, model.DeleteRequested(grace_period_s=9)) == ["terminating grace period 9 s"]
    assert told(sim, model.DeleteRequested(grace_period_s=20)) == []
    assert told(sim, model.DeleteRequested(grace_period_s=0)) == ["terminating grace period 0 s"]
