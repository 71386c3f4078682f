"""What the worker reports about a container: image, creation, start, hooks, end (layer 4, pure).

The events of kuberuntime_container.go startContainer and of images/image_manager.go are recorded here, with the
kubelet's reasons and messages.
"""

from __future__ import annotations

import re

from minipod.api.timestamps import go_duration
from minipod.lifecycle import backoff, kill
from minipod.lifecycle.allocation import allocated_pod, allocation
from minipod.lifecycle.model import (
    ContainerCreated,
    ContainerCreateFailed,
    ContainerExited,
    ContainerStarted,
    ContainerStartFailed,
    HookDone,
    ImageFailed,
    ImagePulling,
    ImageReady,
    RemoveContainer,
    Run,
    RunHook,
)
from minipod.lifecycle.passes import start_failed, start_succeeded
from minipod.lifecycle.spec import find_container, image_of
from minipod.lifecycle.values import FailedPull, Waiting
from minipod.lifecycle.work import Work

PULL_BACK_OFF = "ImagePullBackOff"


def on_image(work: Work, event: ImagePulling | ImageReady | ImageFailed) -> None:
    name, image = event.name, event.reference or image_of(work.state.pod, event.name)
    about = "" if event.reference else name  # an image volume is the pod's
    if work.state.starting != name:
        return
    if isinstance(event, ImagePulling):
        work.record("Normal", "Pulling", f'Pulling image "{image}"', about)
    elif isinstance(event, ImageFailed):
        _image_failed(work, event, image, about)
    elif event.present:
        message = f'Container image "{image}" already present on machine and can be accessed by the pod'
        work.record("Normal", "Pulled", message, about)
    else:
        _pulled(work, image)
        took = go_duration(event.seconds)
        message = f'Successfully pulled image "{image}" in {took} ({took} including waiting).'
        message += f" Image size: {event.size_bytes} bytes."
        work.record("Normal", "Pulled", message, about)


def _image_failed(work: Work, event: ImageFailed, image: str, about: str) -> None:
    pull = work.state.pulls.get(image)
    message = event.message
    if event.reason == PULL_BACK_OFF:
        message = f'Back-off pulling image "{image}"'
        work.record("Normal", "BackOff", message, about)
        if pull is not None and pull.error:
            message += f": {pull.error}"
    elif event.reason == "ErrImageNeverPull":
        work.record("Warning", "ErrImageNeverPull", message, about)
    elif event.reason in ("InvalidImageName", "ImageInspectError"):
        work.record("Warning", "InspectFailed", message, about)
    else:
        work.record("Warning", "Failed", _pull_failed(image, message), about)
        entry = backoff.next_pull_backoff(pull.backoff if pull is not None else None, work.now)
        failed = FailedPull(backoff=entry, error=f"{event.reason}: {message}")
        work.set(pulls={**work.state.pulls, image: failed})
    work.record("Warning", "Failed", f"Error: {event.reason}", event.name)
    start_failed(work, event.name, Waiting(reason=event.reason, message=message))


def _pull_failed(image: str, message: str) -> str:
    """The kubelet's sentence; what the image store begins with is the same, and not said twice."""
    return f'Failed to pull image "{image}": ' + re.sub(r'^failed to pull image "[^"]*": ', "", message)


def _pulled(work: Work, image: str) -> None:
    """The delay is remembered for a while, so that a registry that fails now and then is not asked more often."""
    pull = work.state.pulls.get(image)
    if pull is not None:
        work.set(pulls={**work.state.pulls, image: FailedPull(backoff=pull.backoff)})


def on_container(
    work: Work, event: ContainerCreated | ContainerCreateFailed | ContainerStarted | ContainerStartFailed
) -> None:
    if work.state.starting != event.name:
        return
    if isinstance(event, ContainerCreated):
        _created(work, event)
    elif isinstance(event, ContainerCreateFailed):
        work.record("Warning", "Failed", f"Error: {event.message}", event.name)
        start_failed(work, event.name, Waiting(reason=event.reason, message=event.message))
    elif isinstance(event, ContainerStarted):
        _started(work, event)
    else:
        _start_error(work, event)


def _created(work: Work, event: ContainerCreated) -> None:
    """A new instance takes the old one's place; the old one's end is remembered here, the rest of it can go."""
    work.record("Normal", "Created", "Container created", event.name)
    known = work.container(event.name)
    old = known.run
    if old is not None and old.active:
        work.act(RemoveContainer(name=event.name, container_id=old.id))
    run = Run(
        id=event.container_id,
        attempt=known.attempts,
        spec_image=image_of(work.state.pod, event.name),
        image=event.image,
        image_id=event.image_id,
        created_at=work.wall,
        resources=allocation(allocated_pod(work.state)).get(event.name),
    )
    previous = old if old is not None and old.state == "exited" else known.previous
    work.set_container(
        event.name,
        run=run,
        previous=previous,
        attempts=known.attempts + 1,
        kill=None,
        post_start_done=True,
    )


def _started(work: Work, event: ContainerStarted) -> None:
    run = work.run_with_id(event.name, event.container_id)
    if run is None:
        return
    work.record("Normal", "Started", "Container started", event.name)
    state = "running" if run.state == "created" else run.state  # it may have ended already
    image_id = event.image_id or run.image_id
    ahead_s = work.ahead_at(event.at) if state == "running" else run.ahead_s
    work.set_run(
        event.name,
        state=state,
        pid=event.pid,
        started_at=event.at,
        ahead_s=ahead_s,
        user=event.user,
        image_id=image_id,
    )
    container = find_container(work.state.pod, event.name)
    deleted = work.state.pod.metadata.deletion_timestamp is not None
    if container is None or container.lifecycle is None or container.lifecycle.post_start is None or deleted:
        start_succeeded(work, event.name)
        return
    work.set_container(event.name, post_start_done=False)
    work.act(RunHook(name=event.name, container_id=event.container_id, hook="postStart"))


def _start_error(work: Work, event: ContainerStartFailed) -> None:
    if work.run_with_id(event.name, event.container_id) is None:
        return
    work.record("Warning", "Failed", f"Error: {event.message}", event.name)
    work.set_run(
        event.name,
        state="exited",
        finished_at=event.at,
        ahead_s=work.ahead_at(event.at),
        exit_code=event.exit_code,
        reason=event.reason,
        message=event.message,
    )
    work.set_pass(killed=True)
    start_failed(work, event.name, Waiting(reason="RunContainerError", message=event.message))


def on_hook(work: Work, event: HookDone) -> None:
    if work.run_with_id(event.name, event.container_id) is None:
        return
    if event.hook == "preStop":
        if not event.ok and not _is_sleep(work, event.name):  # a sleep is cut short, it cannot fail
            work.record("Warning", "FailedPreStopHook", "PreStopHook failed", event.name)
        kill.hook_done(work, event.name)
        return
    known = work.container(event.name)
    if known.post_start_done or work.state.starting != event.name:
        return
    if event.ok:
        work.set_container(event.name, post_start_done=True)
        start_succeeded(work, event.name)
        return
    work.record("Warning", "FailedPostStartHook", "PostStartHook failed", event.name)
    work.set_pass(killed=True)
    work.set_container(event.name, post_start_error=event.message)
    if known.run is not None and known.run.state == "exited":  # the kubelet ends it all the same, with an event
        work.record("Normal", "Killing", "FailedPostStartHook", event.name)
    kill.start_kill(work, event.name, reason="postStart", message="FailedPostStartHook")
    _post_start_over(work, event.name)


def _is_sleep(work: Work, name: str) -> bool:
    container = find_container(work.state.pod, name)
    hook = container.lifecycle.pre_stop if container is not None and container.lifecycle is not None else None
    return hook is not None and hook.sleep is not None


def _post_start_over(work: Work, name: str) -> None:
    """A failed postStart hook: once the container has ended, its start has failed."""
    known = work.container(name)
    if known.post_start_error is None or known.run is None or known.run.state == "running":
        return
    work.set_container(name, post_start_done=True, post_start_error=None)
    if work.state.starting == name:
        start_failed(work, name, Waiting(reason="PostStartHookError", message=known.post_start_error))


def on_exited(work: Work, event: ContainerExited) -> None:
    """The first report of an end counts: an end that is known already (a start error) stays as it is."""
    run = work.run_with_id(event.name, event.container_id)
    if run is None or run.state == "exited":
        return
    work.end_run(event.name, event)
    work.set_container(event.name, kill=None)
    work.set(changed=True)
    _post_start_over(work, event.name)
