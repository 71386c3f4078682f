"""The pod's way from its first pass to its end (layer 4, pure): the kubelet's syncPod and what follows it.

A pass publishes the status, decides (`compute`), ends containers, makes the sandbox and starts containers one after the
other. It lasts over many events; while it does, what happens only marks the state as changed, and another pass follows.
That is why a watcher never sees a container that was ended in order to be restarted as terminated.
"""

from __future__ import annotations

from minipod.api.status import TERMINAL_PHASES, is_sidecar
from minipod.api.timestamps import go_duration
from minipod.lifecycle import backoff, compute, kill, resize
from minipod.lifecycle.model import (
    CreateSandbox,
    Pass,
    PodState,
    RemoveContainer,
    Sandbox,
    SetUpVolumes,
    StartContainer,
    StopSandbox,
    TearDown,
)
from minipod.lifecycle.publish import has_initialized, publish
from minipod.lifecycle.spec import image_of, is_regular_init, kind_of, pod_words, volume_images
from minipod.lifecycle.values import Waiting
from minipod.lifecycle.work import Work

RELIST_S = 1.0  # the kubelet learns within about a second what it has done itself
SECOND_LOOK_S = 12.0  # … and looks at a pod in a longer back-off after 10 to 15 s: only then it publishes that
RETRY_S = 12.5  # a failed pass is repeated after 10 to 15 s
DEADLINE_EXCEEDED = "DeadlineExceeded"
_DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"


def advance(work: Work) -> None:
    """Do everything that can be done now."""
    kill.advance_kills(work)
    while True:
        stage = work.state.stage
        if not (_sync(work) if stage == "syncing" else stage == "terminating" and _terminating(work)):
            return


def deadline(state: PodState) -> float | None:
    """When activeDeadlineSeconds are over."""
    seconds = state.pod.spec.active_deadline_seconds
    if seconds is None or state.start_time is None:
        return None
    return state.start_time + seconds


def _due(at: float | None, now: float) -> bool:
    return at is not None and now >= at


# -- passes ------------------------------------------------------------


def _waits_for_runtime(state: PodState) -> bool:
    """Something is under way that cannot be left alone: its answer is needed first."""
    if state.volumes == "setting-up" or state.resizing.under_way or state.sandbox.state in ("creating", "stopping"):
        return True
    return bool(state.starting) and _known_start(state)


def at_rest(state: PodState) -> bool:
    """Nothing of a pass is under way."""
    return not (_waits_for_runtime(state) or state.current_pass is not None or kill.killing(state))


def publishes_alone(work: Work) -> bool:
    """Whether no pass is under way: then this step's status is published before anything follows from it."""
    if work.state.stage != "syncing" or not at_rest(work.state):
        return False
    work.pass_within(0)
    work.alone = True
    return True


def in_post_start(state: PodState) -> bool:
    """A postStart hook is all that is waited for."""
    return bool(state.starting) and not _waits_for_runtime(state)


def _known_start(state: PodState) -> bool:
    """The starting container is not yet in its postStart hook."""
    known = state.containers.get(state.starting)
    return known is None or known.post_start_done


def _sync(work: Work) -> bool:
    """One round of the pod's passes. Whether something was done, so that another round may do more."""
    state = work.state
    if _waits_for_runtime(state):
        return False
    if state.pod.metadata.deletion_timestamp is not None:
        return begin_termination(work)
    if is_halted(state):
        return _halt(work)
    if state.starting or kill.killing(state):
        return False
    if state.current_pass is not None:
        return _continue(work, state.current_pass)
    if not state.evicted_reason and _due(deadline(state), work.now):
        work.set(evicted_reason=DEADLINE_EXCEEDED, evicted_message=_DEADLINE_MESSAGE, changed=True)
        return True
    if state.changed or _due(state.pass_at, work.now):
        return _begin(work)
    if _due(state.publish_at, work.now):
        publish(work)
    return False


def is_halted(state: PodState) -> bool:
    """The node has stopped the pod: no time brings it on. A deletion goes on."""
    return state.halted and state.pod.metadata.deletion_timestamp is None


def is_alive(state: PodState) -> bool:
    """Whether a container runs, or something is being started."""
    return bool(kill.running(state)) or (state.stage == "syncing" and _waits_for_runtime(state))


def _halt(work: Work) -> bool:
    """The node stops its pods: containers end in their order and nothing is started until it lets them run again."""
    work.set(current_pass=None, pass_at=None, publish_at=None)
    own, most = kill.pod_grace_s(work.state), work.state.halt_grace_s
    grace = own if most is None else min(own, most)
    for name in kill.running(work.state):
        kill.shorten(work, name, grace)
        kill.start_kill(work, name, grace_s=grace, ordered=_has_sidecars(work.state))
    if kill.killing(work.state) or not work.state.changed:
        return False
    work.set(changed=False)
    publish(work)
    return work.state.phase in TERMINAL_PHASES and begin_termination(work)


def _begin(work: Work) -> bool:
    known = work.state.restart_all
    restart_all = known or compute.wants_restart_of_all(work.state)
    work.set(changed=False, pass_at=None, restart_all=restart_all)
    resize.complete(work)
    publish(work)
    work.set(removed_all=False)
    if work.state.phase in TERMINAL_PHASES:
        return begin_termination(work)
    if restart_all and not known:
        work.pass_within(0)  # first it is published that it begins
        return False
    if work.state.volumes != "ready":
        work.set(volumes="setting-up")
        work.act(SetUpVolumes())
        return False
    todo = compute.compute(work.state)
    begun = Pass(
        kill_pod=todo.kill_pod,
        create_sandbox=todo.create_sandbox,
        queue=todo.start,
        restarted=tuple(wanted.name for wanted in todo.kill),
        killed=todo.restart_all or bool(todo.kill),
    )
    work.set(current_pass=begun)
    if todo.create_sandbox and work.state.sandbox.id:
        work.record("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
    _end_containers(work, todo)
    resize.begin(work)
    return True


def _end_containers(work: Work, todo: compute.PodActions) -> None:
    if todo.restart_all:
        for name in _all_names(work.state):
            kill.start_kill(work, name, message="killing", grace_s=0)
    elif todo.kill_pod:
        for name in kill.running(work.state):
            kill.start_kill(work, name, ordered=_has_sidecars(work.state))
    for wanted in todo.kill:
        kill.start_kill(work, wanted.name, reason=wanted.reason, message=wanted.message)


def _has_sidecars(state: PodState) -> bool:
    return any(is_sidecar(container) for container in state.pod.spec.init_containers)


def _all_names(state: PodState) -> list[str]:
    return [c.name for c in (*state.pod.spec.containers, *state.pod.spec.init_containers)]


def _continue(work: Work, current: Pass) -> bool:
    """The next thing of the pass; nothing of it is under way."""
    state = work.state
    if state.restart_all:
        _remove_all(work)
        return False
    if current.kill_pod:
        if state.sandbox.state == "ready":
            _stop_sandbox(work)
            return False
        work.set_pass(kill_pod=False)
        return True
    if current.create_sandbox:
        _create_sandbox(work)
        return False
    if current.queue:
        _start_next(work, current)
        return True
    return _end(work, current)


def _stop_sandbox(work: Work) -> None:
    sandbox = work.state.sandbox
    work.set(sandbox=Sandbox(state="stopping", id=sandbox.id, attempt=sandbox.attempt, ips=sandbox.ips))
    work.act(StopSandbox(id=sandbox.id))


def _create_sandbox(work: Work) -> None:
    """Init containers of an older sandbox do not count any more; main containers keep their last end."""
    attempt = compute.next_attempt(work.state)
    for name, known in work.state.containers.items():
        if known.run is None:
            continue
        if kind_of(work.state.pod, name) == "init":
            work.set_container(name, run=None, previous=known.run)
        else:
            work.set_run(name, active=False)
    work.set(sandbox=Sandbox(state="creating", attempt=attempt))
    work.set_pass(create_sandbox=False)
    work.act(CreateSandbox(attempt=attempt))


def _remove_all(work: Work) -> None:
    """RestartAllContainers: those that caused it are removed last, then the pod starts again in its sandbox."""
    pod = work.state.pod
    ordered = (*pod.spec.containers, *pod.spec.init_containers)
    known = {c.name: work.container(c.name).run for c in ordered}
    causes = [c.name for c in ordered if compute.caused_restart_of_all(c, known[c.name])]
    for name in [c.name for c in ordered if c.name not in causes] + causes:
        run = known[name]
        if run is not None:
            work.act(RemoveContainer(name=name, container_id=run.id))
            work.set_container(name, run=None, previous=None, waiting=None)
    work.set(restart_all=False, removed_all=True, current_pass=None)
    work.pass_within(0)


def _start_next(work: Work, current: Pass) -> None:
    state = work.state
    name, queue = current.queue[0], current.queue[1:]
    known = work.container(name)
    # A pass sees the containers as they were when it began: for one that it ended itself, the end before that counts.
    run = known.previous if name in current.restarted else known.run
    if run is not None and run.state == "exited":
        if backoff.in_restart_backoff(known.backoff, run.ended, work.now):
            work.set_pass(queue=queue)
            _back_off(work, name, run.ended)
            return
        entry = backoff.next_restart_backoff(known.backoff, run.ended, work.now, state.max_backoff_s)
        work.set_container(name, backoff=entry)
    work.set_pass(queue=queue, starting=name)
    work.act(
        StartContainer(
            name=name,
            kind=kind_of(state.pod, name),
            attempt=known.attempts,
            pull_allowed=not _waits_to_pull(work, image_of(state.pod, name)),
            no_pull=tuple(image for image in volume_images(state.pod, name) if _waits_to_pull(work, image)),
        )
    )


def _waits_to_pull(work: Work, image: str) -> bool:
    """The pod's last fetch of the image failed not long ago, for any container."""
    pull = work.state.pulls.get(image)
    return pull is not None and backoff.in_pull_backoff(pull.backoff, work.now)


def _back_off(work: Work, name: str, ended: float) -> None:
    entry = work.container(name).backoff
    assert entry is not None
    pod = pod_words(work.state.pod)
    work.record("Warning", "BackOff", f"Back-off restarting failed container {name} in pod {pod}", name)
    wait = go_duration(entry.delay_s)
    waiting = Waiting(
        reason="CrashLoopBackOff", message=f"back-off {wait} restarting failed container={name} pod={pod}"
    )
    until = ended + entry.delay_s
    current = work.state.current_pass
    if current is not None and current.backoff_until is not None:
        until = min(until, current.backoff_until)
    work.set_pass(backoff_until=until)
    start_failed(work, name, waiting)


def start_failed(work: Work, name: str, waiting: Waiting) -> None:
    """A start failed. After a failed init container nothing else is tried in this pass."""
    work.set_container(name, waiting=waiting)
    if is_regular_init(work.state.pod, name):
        work.set_pass(failed=True, starting="", queue=())
    else:
        work.set_pass(failed=True, starting="")


def start_succeeded(work: Work, name: str) -> None:
    work.set_container(name, waiting=None)
    work.set_pass(starting="")
    work.set(changed=True)


def sandbox_failed(work: Work) -> None:
    """Nothing can be started without it: the pass is over."""
    work.set_pass(failed=True, queue=())


def _end(work: Work, ended: Pass) -> bool:
    state = work.state
    work.set(current_pass=None)
    if not ended.failed:
        work.set(failures=0)
        return state.changed
    work.set(failures=state.failures + 1)
    if state.changed or ended.killed or ended.made_sandbox:
        publish(work)
        if work.state.phase in TERMINAL_PHASES:
            return begin_termination(work)
        work.set(changed=False, pass_at=work.now + RELIST_S)
        return False
    again = ended.backoff_until
    publish_at: float | None = work.now + RELIST_S
    if again is None or _other_failures(state):
        again = min(again or work.now + RETRY_S, work.now + RETRY_S)
    elif state.failures == 0 and again > work.now + SECOND_LOOK_S:
        again, publish_at = work.now + SECOND_LOOK_S, None
    work.set(pass_at=again, publish_at=publish_at)
    return False


def _other_failures(state: PodState) -> bool:
    """Something failed that waiting for a back-off does not cure."""
    reasons = (known.waiting.reason for known in state.containers.values() if known.waiting is not None)
    return any(reason != "CrashLoopBackOff" for reason in reasons)


# -- the end ------------------------------------------------------------


def begin_termination(work: Work) -> bool:
    """All containers are to be ended: the pod is deleted, or its phase is terminal. Whether to continue at once.

    Where there is nothing to wait for, the status of this moment is published before the final one.
    """
    work.set(
        initialized=has_initialized(work.state.pod, work.state.status),
        stage="terminating",
        current_pass=None,
        changed=False,
        restart_all=False,
        removed_all=False,
        pass_at=None,
        retry_at=None,
    )
    publish(work)
    for name in kill.running(work.state):
        kill.shorten(work, name, kill.pod_grace_s(work.state))
        kill.start_kill(work, name, grace_s=kill.pod_grace_s(work.state), ordered=_has_sidecars(work.state))
    if kill.running(work.state) or work.state.sandbox.state == "ready":
        return True
    work.set(retry_at=work.now)
    return False


def _terminating(work: Work) -> bool:
    state = work.state
    if kill.running(state) or kill.killing(state) or state.sandbox.state in ("creating", "stopping"):
        return False
    if state.sandbox.state == "ready":
        _stop_sandbox(work)
        return False
    publish(work, terminal=True)
    work.set(stage="terminated", retry_at=None)
    publish(work, terminal=True, held=False)
    work.act(TearDown())
    return False
