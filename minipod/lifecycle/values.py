"""What the lifecycle remembers of users, probes, kills, failed starts, delays, a resize (layer 4). Decides nothing."""

from __future__ import annotations

import msgspec

from minipod.api.types import ResourceRequirements


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of what is saved with a pod's state."""


class Resizing(Value, frozen=True, kw_only=True):
    """An in-place resize. `reason` (Infeasible | Deferred): there is no room, `allocated` and `pod_level` stay valid.

    `applied`: the runtime has set the new resources. `in_progress`: something still has the old ones. Each of the two
    conditions is about a generation of the spec, since a time.
    """

    reason: str = ""
    message: str = ""
    generation: int = 0
    since: float = 0.0
    allocated: dict[str, ResourceRequirements] = {}
    pod_level: ResourceRequirements | None = None
    in_progress: bool = False
    progress_generation: int = 0
    progress_since: float = 0.0
    under_way: bool = False  # ResizePod is to be answered
    applied: bool = msgspec.field(default=False, name="told")  # as it is stored
    error: str = ""


class BackOff(Value, frozen=True, kw_only=True):
    """client-go's flowcontrol entry: the current delay, and when it last changed."""

    delay_s: float
    updated_at: float


class FailedPull(Value, frozen=True, kw_only=True):
    """ImagePullBackOff of one image, for all containers of the pod. `error`: of the last fetch, if it failed."""

    backoff: BackOff
    error: str = ""


class User(Value, frozen=True, kw_only=True):
    """v1 LinuxContainerUser: what the first process really runs as."""

    uid: int
    gid: int
    supplemental_groups: tuple[int, ...] = ()


class Waiting(Value, frozen=True, kw_only=True):
    """Why the last try to start a container failed (the kubelet's reason cache)."""

    reason: str
    message: str = ""


class SetCondition(Value, frozen=True, kw_only=True):
    """One condition that is not the kubelet's, such as a readiness gate's. `status`: True | False | Unknown."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class ProbeState(Value, frozen=True, kw_only=True):
    """One probe of one running container. `result`: success | failure | unknown, past its threshold."""

    container_id: str
    result: str = "unknown"
    last: str = ""  # the last single result: success | failure
    run: int = 0  # how many times in a row
    on_hold: bool = False  # until the container is another one


class Kill(Value, frozen=True, kw_only=True):
    """A container that is being ended. `stage`: hook (preStop runs) | turn (waits for others) | stop (it was sent)."""

    container_id: str
    stage: str
    ordered: bool = False  # sidecars wait for their turn
    grace_s: float  # what is left of it at `since`
    since: float  # when the stage began
    retry_at: float | None = None  # the runtime failed to kill it: try again then
