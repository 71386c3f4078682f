"""The node stops its pods, as before a shutdown, and lets them run again."""

from __future__ import annotations

import pytest

from minipod.lifecycle import core, model
from tests.unit.lifecycle_simulator import Simulator, make_pod

GRACEFUL = "trap 'exit 0' TERM; while true; sleep 1"


def simulate(script: str = GRACEFUL, **spec: object) -> Simulator:
    sim = Simulator(make_pod({"containers": [{"name": "c", "command": ["sh", "-c", script]}], **spec})).start()
    sim.run(5)
    return sim


def starts(sim: Simulator) -> int:
    return sum(isinstance(action, model.StartContainer) for _, action in sim.actions)


def test_what_runs_ends_with_its_grace_period_and_nothing_is_started() -> None:
    sim = simulate("sleep 1000", terminationGracePeriodSeconds=20)
    sim.send(model.NodeHalted())
    sim.run(19)
    assert sim.processes
    sim.run(2)
    assert not sim.processes
    sim.run(1000)
    assert starts(sim) == 1
    assert core.next_wakeup(sim.state) is None
    assert sim.container("c").state.terminated.exit_code == 137
    assert sim.state.status.phase == "Running"  # restartPolicy Always: it will be


def test_no_container_gets_more_than_the_nodes_grace_period() -> None:
    sim = simulate("sleep 1000", terminationGracePeriodSeconds=300)
    sim.send(model.NodeHalted(grace_s=10))
    sim.run(11)
    assert not sim.processes


def test_a_longer_stop_that_is_under_way_is_cut() -> None:
    sim = simulate("sleep 1000", terminationGracePeriodSeconds=300)
    sim.send(model.NodeHalted())
    sim.run(5)
    sim.send(model.NodeHalted(grace_s=10))
    sim.run(11)
    assert not sim.processes


def test_it_runs_again_where_the_node_lets_it() -> None:
    sim = simulate()
    sim.send(model.NodeHalted())
    sim.run(5)
    sim.send(model.NodeHalted(halted=False))
    sim.run(5)
    assert sim.container("c").state.running
    assert sim.container("c").restart_count == 1


@pytest.mark.parametrize(("halted", "running"), [(True, 0), (False, 1)])
def test_the_next_agent_knows_whether_the_node_lets_it_run(halted: bool, running: int) -> None:
    sim = simulate()
    sim.send(model.NodeHalted())
    sim.run(5)
    sim.send(model.AgentStarted(sandbox_id=sim.state.sandbox.id, sandbox_ready=not halted, halted=halted))
    sim.run(60)
    assert len(sim.processes) == running


def test_a_halt_in_the_middle_is_continued_by_the_next_agent() -> None:
    sim = simulate("sleep 1000", terminationGracePeriodSeconds=20)
    run = sim.state.containers["c"].run
    assert run is not None
    sim.send(model.NodeHalted())
    sim.run(1)
    sim.send(model.AgentStarted(sandbox_id=sim.state.sandbox.id, sandbox_ready=True, halted=True, runs={"c": run}))
    sim.run(22)
    assert not sim.processes
    assert starts(sim) == 1


@pytest.mark.parametrize(("exit_code", "phase"), [(0, "Succeeded"), (3, "Failed")])
def test_a_pod_that_is_never_restarted_has_its_result(exit_code: int, phase: str) -> None:
    sim = simulate(f"trap 'exit {exit_code}' TERM; while true; sleep 1", restartPolicy="Never")
    sim.send(model.NodeHalted())
    sim.run(5)
    assert sim.state.status.phase == phase
    assert sim.container("c").state.terminated.exit_code == exit_code


def test_a_pod_that_is_being_started_ends_as_well() -> None:
    sim = Simulator(make_pod({"containers": [{"name": "c", "command": ["sh", "-c", GRACEFUL]}]})).start()
    sim.send(model.NodeHalted())
    sim.run(60)
    assert not sim.processes
    sim.send(model.NodeHalted(halted=False))
    sim.run(5)
    assert len(sim.processes) == 1


def test_a_prestop_hook_runs_and_a_deletion_goes_on() -> None:
    container = {
        "name": "c",
        "command": ["sh", "-c", GRACEFUL],
        "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
    }
    sim = Simulator(make_pod({"containers": [container]})).start()
    sim.run(5)
    sim.send(model.NodeHalted())
    sim.run(5)
    assert any(isinstance(action, model.RunHook) for _, action in sim.actions)
    assert not sim.processes
    sim.send(model.DeleteRequested())
    sim.run(5)
    assert sim.state.stage == "gone"
