"""In-place resize: what is allocated, actuated and told, and what restarts for it (unit, virtual clock)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minipod.api.types import Pod, ResourceRequirements
from minipod.lifecycle import model
from minipod.lifecycle.allocation import allocated_pod
from tests.unit.lifecycle_simulator import Simulator, make_pod


def resources(cpu: str, memory: str = "64Mi") -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}


def simulator(**container: object) -> Simulator:
    spec = {"containers": [{"name": "c", "command": ["sleep 1000"], "resources": resources("100m"), **container}]}
    sim = Simulator(make_pod(spec)).start()
    sim.run(5)
    assert sim.container("c").state.running is not None
    return sim


def resized(sim: Simulator, cpu: str, memory: str = "64Mi") -> Pod:
    pod = sim.state.pod
    new = msgspec.convert(resources(cpu, memory), ResourceRequirements)
    container = msgspec.structs.replace(pod.spec.containers[0], resources=new)
    metadata = msgspec.structs.replace(pod.metadata, generation=pod.metadata.generation + 1)
    return msgspec.structs.replace(
        pod, metadata=metadata, spec=msgspec.structs.replace(pod.spec, containers=(container,))
    )


def ask(sim: Simulator, pod: Pod, reason: str = "", message: str = "") -> None:
    sim.send(model.ResizeAsked(pod=pod, reason=reason, message=message))


def asked_of_the_runtime(sim: Simulator) -> int:
    return sum(isinstance(action, model.ResizePod) for _, action in sim.actions)


def condition(sim: Simulator, kind: str) -> tuple[str, str] | None:
    return next(((c.status, c.reason) for c in sim.state.status.conditions if c.type == kind), None)


def test_new_resources_are_reported_once_the_runtime_has_them() -> None:
    sim = simulator()
    ask(sim, resized(sim, "200m"))
    assert asked_of_the_runtime(sim) == 1
    assert condition(sim, "PodResizeInProgress") == ("True", "")
    status = sim.container("c")
    assert (status.resources.limits["cpu"], status.allocated_resources["cpu"]) == ("100m", "200m")
    sim.send(model.ResizeDone(resized=("c-0",)))
    status = sim.container("c")
    assert status.resources.limits["cpu"] == "200m"
    assert (status.restart_count, status.container_id) == (0, "minipod://c-0")
    assert condition(sim, "PodResizeInProgress") is None
    assert sim.reasons("ResizeStarted")
    (done,) = [event for _, event in sim.recorded if event.reason == "ResizeCompleted"]
    assert done.message.startswith('Pod resize completed: {"containers":[{"name":"c","resources":{')
    assert done.message.endswith('"generation":2}')
    sim.run(100)
    assert asked_of_the_runtime(sim) == 1


def test_a_policy_of_restart_container_restarts_it_whatever_the_pod_s_policy() -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    sim = simulator(resizePolicy=policy)
    ask(sim, resized(sim, "100m", "128Mi"))
    sim.send(model.ResizeDone(resized=("c-0",)))
    sim.run(40)
    status = sim.container("c")
    assert (status.restart_count, status.resources.limits["memory"]) == (1, "128Mi")
    assert [e.message for _, e in sim.recorded if e.reason == "Killing"] == ["Container c resize requires restart"]
    assert condition(sim, "PodResizeInProgress") is None


def test_what_the_node_has_no_room_for_stays_pending_and_the_old_allocation_holds() -> None:
    sim = simulator()
    ask(sim, resized(sim, "9"), "OutOfcpu", "no room")
    assert condition(sim, "PodResizePending") == ("True", "Deferred")
    assert sim.state.pod.spec.containers[0].resources.limits["cpu"] == "9"
    assert allocated_pod(sim.state).spec.containers[0].resources.limits["cpu"] == "100m"
    assert sim.container("c").allocated_resources["cpu"] == "100m"
    assert sim.state.status.allocated_resources["cpu"] == "100m"
    sim.end("c", 1)
    sim.run(5)
    assert sim.container("c").resources.limits["cpu"] == "100m", "also what starts meanwhile has the old ones"
    assert asked_of_the_runtime(sim) == 0
    ask(sim, sim.state.pod)
    sim.send(model.ResizeDone(resized=("c-1",)))
    assert condition(sim, "PodResizePending") is None
    assert sim.container("c").resources.limits["cpu"] == "9"
    (told,) = [event for _, event in sim.recorded if event.reason == "ResizeDeferred"]
    assert told.message.startswith('Pod resize OutOfcpu: {"containers":[{"name":"c","resources":{"limits":{"cpu":"9",')
    assert told.message.endswith('"generation":2,"error":"no room"}')


def test_what_is_taken_back_while_it_waits_was_never_a_resize() -> None:
    sim = simulator()
    ask(sim, resized(sim, "9"), "OutOfcpu", "no room")
    sim.run(5)
    ask(sim, resized(sim, "100m"))
    assert condition(sim, "PodResizePending") is None
    assert condition(sim, "PodResizeInProgress") is None
    assert not sim.reasons("ResizeStarted")


def test_the_conditions_of_a_resize_speak_of_its_generation_and_stand_before_the_others() -> None:
    sim = simulator()
    ask(sim, resized(sim, "9"), "OutOfcpu", "no room")
    pending = sim.state.status.conditions[0]
    assert (pending.type, pending.observed_generation) == ("PodResizePending", 2)
    assert pending.last_probe_time == pending.last_transition_time is not None
    sim.run(5)
    ask(sim, resized(sim, "10"), "OutOfcpu", "still no room")
    again = sim.state.status.conditions[0]
    assert (again.message, again.observed_generation) == ("still no room", 3)
    assert again.last_transition_time == pending.last_transition_time, "the reason is the same"
    assert len(sim.reasons("ResizeDeferred")) == 2


def test_a_running_container_shows_the_limits_that_it_has_from_its_pod() -> None:
    """As a real kubelet told them of such a pod: only beside limits of its own."""
    spec = {
        "resources": {"requests": {"cpu": "400m"}, "limits": {"cpu": "2", "memory": "300Mi"}},
        "containers": [
            {"name": "a", "command": ["sleep 99"], "resources": {"requests": {"cpu": "7m"}, "limits": {"cpu": "7m"}}},
            {
                "name": "b",
                "command": ["sleep 99"],
                "resources": {"limits": {"memory": "48Mi"}, "requests": {"x/y": "1"}},
            },
            {"name": "c", "command": ["sleep 99"]},
        ],
    }
    sim = Simulator(make_pod(spec)).start()
    sim.run(5)
    told = {name: sim.container(name).resources for name in "abc"}
    assert (told["a"].limits, told["a"].requests) == ({"cpu": "7m", "memory": "300Mi"}, {"cpu": "7m"})
    assert (told["b"].limits, told["b"].requests) == ({"cpu": "2", "memory": "48Mi"}, {"cpu": "2", "x/y": "1"})
    assert (told["c"].limits, told["c"].requests) == ({}, {})


def test_a_running_pod_s_resources_are_those_of_its_group() -> None:
    """A limit counts for the pod only where all of its containers have one."""
    sim = Simulator(
        make_pod(
            {
                "containers": [
                    {"name": "c", "command": ["sleep 1000"], "resources": resources("100m")},
                    {"name": "d", "command": ["sleep 1000"], "resources": {"requests": {"memory": "32Mi"}}},
                ]
            }
        )
    ).start()
    told = [state.status.resources for _, state in sim.published if state.status.resources is not None]
    assert told[0].limits == {"cpu": "100m", "memory": "64Mi"}
    sim.run(5)
    sim.end("d", 1)
    sim.run(5)
    found = sim.state.status.resources
    assert found is not None
    assert (found.requests, found.limits) == ({"cpu": "100m", "memory": "96Mi"}, {})


def test_a_resize_that_fails_is_reported_and_tried_again() -> None:
    sim = simulator()
    ask(sim, resized(sim, "100m", "32Mi"))
    sim.send(model.ResizeDone(message="below the current usage"))
    sim.run(5)
    assert condition(sim, "PodResizeInProgress") == ("True", "Error")
    assert sim.reasons("ResizeError")
    sim.run(15)
    assert asked_of_the_runtime(sim) == 2
    sim.send(model.ResizeDone(resized=("c-0",)))
    assert condition(sim, "PodResizeInProgress") is None


@pytest.mark.parametrize("answered", [True, False])
def test_a_pod_can_be_deleted_while_it_is_resized(answered: bool) -> None:
    sim = simulator()
    ask(sim, resized(sim, "200m"))
    sim.send(model.DeleteRequested())
    if answered:
        sim.send(model.ResizeDone(resized=("c-0",)))
    else:
        sim.send(model.AgentStarted(sandbox_id="sandbox-0", sandbox_ready=True, runs={}))
    sim.run(60)
    assert sim.state.stage == "gone"
