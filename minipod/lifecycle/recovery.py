"""A new agent takes a pod over (layer 4, pure): what was under way is lost, what the runtime has is the truth.

What is remembered continues where it was: back-offs, restart counts, probe counts, deadlines, grace periods.
"""

from __future__ import annotations

import msgspec

from minipod.lifecycle import kill
from minipod.lifecycle.model import AgentStarted, Run, Sandbox, TearDown
from minipod.lifecycle.publish import UNKNOWN
from minipod.lifecycle.spec import find_container
from minipod.lifecycle.work import Work

_LOST = "The container could not be located when the agent took the pod over. It used to be Running"


def recover(work: Work, event: AgentStarted) -> None:
    work.set(
        max_backoff_s=event.max_backoff_s,
        current_pass=None,
        pass_at=None,
        publish_at=None,
        resizing=msgspec.structs.replace(work.state.resizing, under_way=False),
    )
    _sandbox(work, event)
    for name in {*work.state.containers, *event.runs}:
        if find_container(work.state.pod, name) is not None:
            _container(work, name, event.runs.get(name))
    stage = work.state.stage
    if stage == "syncing":
        for name in work.state.containers:
            work.set_container(name, kill=None)  # decided again from what is known of the probes
        work.set(changed=True)
    elif stage == "terminating":
        kill.resume(work)
    elif stage == "terminated":
        work.act(TearDown())


def _sandbox(work: Work, event: AgentStarted) -> None:
    old = work.state.sandbox
    if event.sandbox_ready and event.sandbox_id in (old.id, "") and old.id:
        sandbox = msgspec.structs.replace(old, state="ready")
    elif event.sandbox_ready and old.state == "creating":
        sandbox = Sandbox(state="ready", id=event.sandbox_id, attempt=old.attempt, ips=event.ips)
    else:
        sandbox = msgspec.structs.replace(old, state="stopped" if old.id else "none")
    volumes = work.state.volumes if event.sandbox_ready and work.state.volumes == "ready" else "none"
    if work.state.stage == "syncing":
        work.set(volumes=volumes)
    work.set(sandbox=sandbox)


def _container(work: Work, name: str, found: Run | None) -> None:
    known = work.container(name)
    run = known.run
    work.set_container(name, post_start_done=True, post_start_error=None)
    if found is not None and (run is None or found.id != run.id):
        _unseen_instance(work, name, found)
    elif run is None or run.state == "exited":
        return
    elif found is None:
        work.set_run(name, state="exited", exit_code=137, reason=UNKNOWN, message=_LOST, finished_at=work.now, pid=0)
    elif found.state == "exited":
        work.end_run(name, found)
    else:
        work.set_run(name, state=found.state, pid=found.pid, started_at=found.started_at or run.started_at)


def _unseen_instance(work: Work, name: str, found: Run) -> None:
    """An instance that the old agent did not see any more. Instances older than the known one are ignored."""
    known = work.container(name)
    if found.attempt < known.attempts:
        return
    container = find_container(work.state.pod, name)
    assert container is not None
    previous = known.run if known.run is not None and known.run.state == "exited" else known.previous
    run = msgspec.structs.replace(found, spec_image=container.image, active=True)
    work.set_container(name, run=run, previous=previous, attempts=found.attempt + 1, waiting=None)
