"""What `Work` may change of the state, field by field (layer 4): for type checkers, no module imports it to run.

Each has the fields of its struct in `model`, with their types; tests/unit/test_lifecycle_work.py compares them.
"""

from __future__ import annotations

from typing import TypedDict

from minipod.api.types import Pod, PodStatus, ResourceRequirements
from minipod.lifecycle.model import ContainerState, Pass, Run, Sandbox
from minipod.lifecycle.values import BackOff, FailedPull, Kill, ProbeState, Resizing, User, Waiting


class PodChanges(TypedDict, total=False):
    pod: Pod
    status: PodStatus
    stage: str
    added_at: float
    published: int
    max_backoff_s: float
    volumes: str
    sandbox: Sandbox
    containers: dict[str, ContainerState]
    pulls: dict[str, FailedPull]
    phase: str
    current_pass: Pass | None
    changed: bool
    failures: int
    pass_at: float | None
    publish_at: float | None
    restart_all: bool
    removed_all: bool
    initialized: bool
    resizing: Resizing
    evicted_reason: str
    evicted_message: str
    start_time: float | None
    volume_failures: int
    retry_at: float | None
    halted: bool
    halt_grace_s: float | None


class PassChanges(TypedDict, total=False):
    kill_pod: bool
    create_sandbox: bool
    queue: tuple[str, ...]
    starting: str
    restarted: tuple[str, ...]
    made_sandbox: bool
    killed: bool
    failed: bool
    backoff_until: float | None


class ContainerChanges(TypedDict, total=False):
    run: Run | None
    previous: Run | None
    backoff: BackOff | None
    waiting: Waiting | None
    attempts: int
    probes: dict[str, ProbeState]
    post_start_done: bool
    post_start_error: str | None
    kill: Kill | None


class RunChanges(TypedDict, total=False):
    id: str
    attempt: int
    state: str
    active: bool
    spec_image: str
    image: str
    image_id: str
    pid: int
    user: User | None
    created_at: float
    started_at: float
    finished_at: float
    ahead_s: float
    exit_code: int
    signal: int
    reason: str
    message: str
    resources: ResourceRequirements | None
