"""A new agent takes a pod over (layer 4, pure): what was under way is lost, what the runtime has is the truth.

What is remembered continues where it was: back-offs, restart counts, probe counts, deadlines, grace periods. After a
reboot only the wall clock knows how long that took; what would lie in the future then counts from now.
"""

from __future__ import annotations

from msgspec.structs import replace

from minipod.lifecycle import kill, starting
from minipod.lifecycle.model import AgentStarted, ContainerStarted, Pass, Run, RunHook, Sandbox, TearDown
from minipod.lifecycle.publish import UNKNOWN
from minipod.lifecycle.spec import find_container
from minipod.lifecycle.values import BackOff
from minipod.lifecycle.work import Work

_LOST = "The container could not be located when the agent took the pod over. It used to be Running"


def recover(work: Work, event: AgentStarted) -> None:
    _bound(work)
    work.set(
        max_backoff_s=event.max_backoff_s,
        halted=event.halted,
        current_pass=None,
        pass_at=None,
        publish_at=None,
        resizing=replace(work.state.resizing, under_way=False),
    )
    _sandbox(work, event)
    for name in {*work.state.containers, *event.runs}:
        if find_container(work.state.pod, name) is not None:
            _container(work, name, event.runs.get(name))
    stage = work.state.stage
    if stage == "syncing":
        for name in work.state.containers:
            work.set_container(name, kill=None)  # decided again from what is known of the probes
        _resume_post_start(work)
        work.set(changed=True)
    elif stage == "terminating":
        kill.resume(work)
    elif stage == "terminated":
        work.act(TearDown())


def _bound(work: Work) -> None:
    """No remembered time is later than now, so that nothing waits for longer than its whole interval."""
    state, now = work.state, work.now
    start_time = None if state.start_time is None else min(state.start_time, now)
    work.set(added_at=min(state.added_at, now), start_time=start_time)
    pulls = {image: replace(pull, backoff=_not_after(pull.backoff, now)) for image, pull in state.pulls.items()}
    if pulls != state.pulls:
        work.set(pulls=pulls)
    for name, known in state.containers.items():
        run = known.run
        if run is not None and max(run.began, run.ended) > now:
            run = replace(run, ahead_s=max(run.started_at, run.finished_at) - now)
        backoff = None if known.backoff is None else _not_after(known.backoff, now)
        kill_ = None if known.kill is None else replace(known.kill, since=min(known.kill.since, now))
        if (run, backoff, kill_) != (known.run, known.backoff, known.kill):
            work.set_container(name, run=run, backoff=backoff, kill=kill_)


def _not_after(entry: BackOff, now: float) -> BackOff:
    return entry if entry.updated_at <= now else replace(entry, updated_at=now)


def _resume_post_start(work: Work) -> None:
    """A postStart hook that was under way is run again: it may have run in part, or not at all. One that failed has its
    container ended.
    """
    for name, known in work.state.containers.items():
        if known.post_start_done or known.run is None or work.state.starting:
            continue
        work.set(current_pass=Pass(starting=name))
        if known.post_start_error is None:
            work.act(RunHook(name=name, container_id=known.run.id, hook="postStart"))
        else:
            work.set_pass(killed=True)
            kill.start_kill(work, name, reason="postStart", message="FailedPostStartHook")


def _sandbox(work: Work, event: AgentStarted) -> None:
    old = work.state.sandbox
    if event.sandbox_ready and event.sandbox_id in (old.id, "") and old.id:
        sandbox = replace(old, state="ready")
    elif event.sandbox_ready and old.state == "creating":
        sandbox = Sandbox(state="ready", id=event.sandbox_id, attempt=old.attempt, ips=event.ips)
    else:
        sandbox = replace(old, state="stopped" if old.id else "none")
    volumes = work.state.volumes if event.sandbox_ready and work.state.volumes == "ready" else "none"
    if work.state.stage == "syncing":
        work.set(volumes=volumes)
    work.set(sandbox=sandbox)


def _container(work: Work, name: str, found: Run | None) -> None:
    known = work.container(name)
    run = known.run
    if not (run is not None and found is not None and found.id == run.id and found.state == "running"):
        work.set_container(name, post_start_done=True, post_start_error=None)
    if run is not None and run.state == "created" and (found is None or found.id != run.id):
        work.set_container(name, attempts=run.attempt)  # it was never started: the next instance has its number
    if found is not None and (run is None or found.id != run.id):
        _unseen_instance(work, name, found)
    elif run is None or run.state == "exited" or (run.state == "created" and found is None):
        return
    elif found is None:
        work.set_run(name, state="exited", exit_code=137, reason=UNKNOWN, message=_LOST, pid=0)
        work.set_run(name, finished_at=work.wall, ahead_s=work.ahead_s)
    elif found.state == "exited":
        work.end_run(name, found)
    elif run.state == "created" and found.state == "running":
        _report_start(work, name, found)
    else:
        work.set_run(name, state=found.state, pid=found.pid)
        if found.started_at and found.started_at != run.started_at:
            work.set_run(name, started_at=found.started_at, ahead_s=work.ahead_at(found.started_at))


def _unseen_instance(work: Work, name: str, found: Run) -> None:
    """An instance that the old agent did not see any more. Instances older than the known one are ignored."""
    known = work.container(name)
    if found.attempt < known.attempts:
        return
    container = find_container(work.state.pod, name)
    assert container is not None
    previous = known.run if known.run is not None and known.run.state == "exited" else known.previous
    ahead_s = work.ahead_at(max(found.started_at, found.finished_at))
    state = "created" if found.state == "running" else found.state
    run = replace(found, state=state, spec_image=container.image, active=True, ahead_s=ahead_s)
    work.set_container(name, run=run, previous=previous, attempts=found.attempt + 1, waiting=None)
    if found.state == "running":
        _report_start(work, name, found)


def _report_start(work: Work, name: str, found: Run) -> None:
    """The old agent did not see it start any more: its pass continues there, with the postStart hook."""
    if work.state.stage != "syncing":
        work.set_run(name, state="running", pid=found.pid, user=found.user, started_at=found.started_at)
        return
    work.set(current_pass=Pass(starting=name))
    started = ContainerStarted(
        name=name,
        container_id=found.id,
        pid=found.pid,
        at=found.started_at,
        user=found.user,
        image_id=found.image_id,
    )
    starting.on_container(work, started)
