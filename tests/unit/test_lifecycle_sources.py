"""What brings a pod on that waits for an object, and how one ends that takes too much."""

from __future__ import annotations

from typing import Any

import msgspec

from minipod.lifecycle import core, model
from minipod.lifecycle.model import PodState
from tests.unit.agent_fakes import make_pod

T0 = 1_800_000_000.0


def begun() -> PodState:
    pod = make_pod("web")
    pod = msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, uid="U"))
    return fed(core.new_state(pod, T0), T0, model.PodAdded())[0]


def fed(state: PodState, now: float, *events: model.Event) -> tuple[PodState, list[Any]]:
    actions: list[Any] = []
    for event in events:
        state, more = core.step(state, event, now)
        actions += more
    return state, actions


def kinds(actions: list[Any]) -> list[str]:
    return [type(action).__name__ for action in actions if not isinstance(action, model.RecordEvent)]


def running() -> PodState:
    state, _ = fed(begun(), T0, model.VolumesReady(), model.SandboxReady(id="S", ips=("10.0.0.2",)))
    state, _ = fed(
        state,
        T0,
        model.ImageReady(name="main"),
        model.ContainerCreated(name="main", container_id="C", image="b", image_id="i"),
        model.ContainerStarted(name="main", container_id="C", pid=1, at=T0, user=None, image_id="i"),
    )
    return state


def test_volumes_that_failed_are_tried_at_once_when_their_source_appears() -> None:
    state, _ = fed(begun(), T0, *[model.VolumesFailed(message='configmap "c" not found')])
    for _ in range(6):
        state, _ = fed(state, (core.next_wakeup(state) or 0) + 0.01, model.Tick())
        state, _ = fed(state, T0 + 200, model.VolumesFailed(message="again"))
    wait = (core.next_wakeup(state) or 0) - (T0 + 200)
    assert wait > 10
    state, actions = fed(state, T0 + 201, model.SourcesChanged())
    assert kinds(actions) == ["SetUpVolumes"]


def test_a_container_that_lacks_a_key_is_tried_at_once_when_it_appears() -> None:
    state, _ = fed(begun(), T0, model.VolumesReady(), model.SandboxReady(id="S", ips=()))
    failed = model.ContainerCreateFailed(name="main", reason="CreateContainerConfigError", message="no key")
    state, _ = fed(state, T0, model.ImageReady(name="main"), failed)
    state, _ = fed(state, T0 + 2, model.Tick())
    state, _ = fed(state, T0 + 2, model.ImageReady(name="main"), failed)
    state, actions = fed(state, T0 + 3, model.SourcesChanged())
    assert kinds(actions) == ["StartContainer"]


def test_a_change_does_nothing_to_a_pod_that_runs() -> None:
    assert kinds(fed(running(), T0 + 5, model.SourcesChanged())[1]) == []


def test_an_evicted_pod_fails_with_its_reason_and_a_second_of_grace() -> None:
    state, actions = fed(running(), T0 + 5, model.Tick(), model.Evict(message="too much"))
    (kill,) = [action for action in actions if isinstance(action, model.KillContainer)]
    assert kill.grace_s <= 2  # the least that a container is given
    (event,) = [action for action in actions if isinstance(action, model.RecordEvent) and action.reason == "Evicted"]
    assert (event.type, event.message) == ("Warning", "too much")
    exited = model.ContainerExited(
        name="main", container_id="C", exit_code=137, signal=9, reason="Error", message="", started_at=T0,
        finished_at=T0 + 6,
    )  # fmt: skip
    state, _ = fed(state, T0 + 6, exited)
    state, _ = fed(state, T0 + 6, model.SandboxStopped(id="S"), model.TornDown())
    assert (state.status.phase, state.status.reason, state.status.message) == ("Failed", "Evicted", "too much")
