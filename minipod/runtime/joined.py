"""Finds the process whose PID namespace a container joins (layer 3): the pod's, or that of a target container."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from minipod.errors import ContainerError
from minipod.plan.configs import ContainerConfig
from minipod.runtime.container import Container
from minipod.runtime.index import Index
from minipod.runtime.sandboxes import Sandboxes
from minipod.runtime.status import ContainerState


@contextlib.contextmanager
def joined_process(
    config: ContainerConfig, sandbox_id: str, sandboxes: Sandboxes, containers: Index[Container]
) -> Iterator[dict[str, int]]:
    """Its pidfd, as the named descriptor of the spawner's request; empty where none is joined.

    Raises ContainerError (RunContainerError) if the process does not run.
    """
    namespaces = config.security.namespaces
    if namespaces.pid == "pod":
        with sandboxes.pause_pidfd(sandbox_id) as pidfd:
            yield {"target": pidfd}
    elif namespaces.pid == "target":
        target = containers.get(namespaces.target_id)
        if target is None or target.status.state != ContainerState.RUNNING or target.pidfd < 0:
            raise ContainerError(f'unable to find target container "{namespaces.target_id[:12]}"', "RunContainerError")
        yield {"target": target.pidfd}
    else:
        yield {}
