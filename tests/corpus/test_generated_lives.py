"""Whatever happens in whatever order: the core never fails, never spins, never forgets what must hold."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest

from minipod.lifecycle import model
from tests.unit.lifecycle_simulator import Simulator, make_pod

Spec = dict[str, Any]
PROBE = {"exec": {"command": ["true"]}, "periodSeconds": 1, "failureThreshold": 2}
HOOKS = {"preStop": {"exec": {"command": ["x"]}}, "postStart": {"exec": {"command": ["x"]}}}


def make_spec(dice: random.Random) -> Spec:
    def container(name: str, **more: object) -> Spec:
        spec: Spec = {
            "name": name,
            "command": ["sh", "-c", dice.choice(["exit 0", "exit 1", "sleep 3; exit 1", "sleep 1000"])],
        }
        if dice.random() < 0.3:
            spec["lifecycle"] = HOOKS
        if dice.random() < 0.2:
            spec["restartPolicy"] = dice.choice(["Always", "OnFailure", "Never"])
            action = dice.choice(["Restart", "RestartAllContainers"])
            spec["restartPolicyRules"] = [{"action": action, "exitCodes": {"operator": "In", "values": [1]}}]
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if dice.random() < 0.3:
                spec[kind] = PROBE
        return {**spec, **more}

    inits = []
    for index in range(dice.randrange(3)):
        sidecar = {"restartPolicy": "Always"} if dice.random() < 0.5 else {"restartPolicy": None}
        script = {} if dice.random() < 0.5 else {"command": ["sh", "-c", "sleep 1"]}
        inits.append(container(f"i{index}", **sidecar, **script))
    return {
        "containers": [container(f"c{index}") for index in range(dice.randrange(1, 4))],
        "initContainers": inits,
        "restartPolicy": dice.choice(["Always", "OnFailure", "Never"]),
        "terminationGracePeriodSeconds": dice.choice([0, 2, 10]),
        "activeDeadlineSeconds": dice.choice([None, None, 20]),
    }


def trouble(sim: Simulator, dice: random.Random) -> None:
    """One thing that may happen to a pod."""
    names = [*sim.state.containers] or ["c0"]
    name = dice.choice(names)
    kind = dice.randrange(11)
    if kind == 0:
        sim.end(name, dice.choice([0, 1, 137]))
    elif kind == 1:
        sim.probe = lambda probe: dice.choice(["success", "failure", "warning"])
    elif kind == 2:
        sim.fail[name] = model.ImageFailed(name=name, reason="ErrImagePull", message="m")
    elif kind == 3:
        sim.fail[name] = model.ContainerCreateFailed(name=name, reason="CreateContainerError", message="m")
    elif kind == 4:
        sim.fail.clear()
    elif kind == 5:
        sim.hook = lambda container, hook: (dice.choice([0.0, 1.0, 30.0]), dice.random() < 0.7)
    elif kind == 6:
        sim.send(model.ContainerExited(name=name, container_id="older", exit_code=0, finished_at=sim.now))
        sim.send(model.HookDone(name=name, container_id="older", hook="postStart", ok=False))
        sim.send(model.Tick())
    elif kind == 7:
        runs = {n: known.run for n, known in sim.state.containers.items() if known.run is not None}
        sim._queue.clear()
        sim._probing.clear()
        ready = sim.state.sandbox.state in ("ready", "stopping")
        if not ready:
            sim.processes.clear()
            runs = {}
        sim.send(model.AgentStarted(sandbox_id=sim.state.sandbox.id, sandbox_ready=ready, runs=runs))
        for process in sim.processes.values():
            if process.ends_after is not None:
                sim.at(1.0, partial(sim._end, process, process.exit_code))
    elif kind == 8:
        sim.sandbox_errors = 1
    elif kind == 9:
        sim.send(model.SandboxStopped(id=sim.state.sandbox.id))
        for process in list(sim.processes.values()):
            sim._end(process, 137)
    else:
        sim.probe = None


def check(before: model.PodState, after: model.PodState) -> None:
    if before.status.phase in ("Succeeded", "Failed"):
        assert after.status.phase == before.status.phase
    counts = {s.name: s.restart_count for s in before.status.container_statuses}
    for status in after.status.container_statuses:
        assert status.restart_count >= counts.get(status.name, 0)
        assert not (status.ready and status.state.running is None)
    assert after.published >= before.published


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_a_deleted_pod_is_gone_in_the_end(seed: int) -> None:
    dice = random.Random(seed)
    spec = make_spec(dice)
    sim = Simulator(make_pod({key: value for key, value in spec.items() if value is not None}), save=seed % 10 == 0)
    sim.start()
    for _ in range(dice.randrange(12)):
        before = sim.state
        sim.run(dice.choice([0.0, 0.01, 0.06, 0.5, 3.0, 15.0]))
        trouble(sim, dice)
        check(before, sim.state)
    sim.hook = lambda container, hook: (0.5, True)
    sim.send(model.DeleteRequested(grace_period_s=dice.choice([None, 0, 3])))
    sim.run(120)
    assert sim.state.stage == "gone"
    assert not sim.processes
    if sim.state.pod.metadata.deletion_grace_period_seconds != 0:  # otherwise nothing more is reported
        assert sim.state.status.phase in ("Succeeded", "Failed")
