"""The status of sandboxes and containers, with CRI's fields (layer 3). Values only."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from minipod.plan.configs import ContainerConfig, NetworkFacts, SandboxConfig


class SandboxState(StrEnum):
    """CRI PodSandboxState. The values are in records on disk."""

    READY = "SANDBOX_READY"
    NOT_READY = "SANDBOX_NOTREADY"


class ContainerState(StrEnum):
    """CRI ContainerState. The values are in records on disk."""

    CREATED = "CONTAINER_CREATED"
    RUNNING = "CONTAINER_RUNNING"
    EXITED = "CONTAINER_EXITED"
    UNKNOWN = "CONTAINER_UNKNOWN"


class SandboxStatus(msgspec.Struct, frozen=True, kw_only=True):
    """CRI PodSandboxStatus."""

    id: str
    config: SandboxConfig
    state: SandboxState
    created_at_ns: int
    network: NetworkFacts = NetworkFacts()
    ips: tuple[str, ...] = ()  # without prefix length, IPv4 first; empty with the host's network
    netns_path: str = ""  # /run/netns/<name>; empty with the host's network


class ContainerUser(msgspec.Struct, frozen=True):
    """The user that the process really started with (v1 ContainerUser.linux)."""

    uid: int
    gid: int
    supplemental_groups: tuple[int, ...] = ()


class ContainerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """CRI ContainerStatus.

    Times are nanoseconds since the epoch, 0 where there is none. `exit_code` is 128+n for an end by signal n,
    137 where it can no longer be known (`reason` ContainerStatusUnknown). `reason`: Completed | Error | OOMKilled |
    StartError | ContainerStatusUnknown.
    """

    id: str
    sandbox_id: str
    config: ContainerConfig
    state: ContainerState
    image_id: str = ""
    image_ref: str = ""
    created_at_ns: int
    started_at_ns: int = 0
    finished_at_ns: int = 0
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    pid: int = 0
    log_path: str = ""  # absolute
    user: ContainerUser | None = None


class ExecResult(msgspec.Struct, frozen=True):
    """CRI ExecSyncResponse."""

    exit_code: int
    stdout: bytes
    stderr: bytes
