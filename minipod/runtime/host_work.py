"""Executes host operations in threads (layer 3): in their order, with a deadline where the host's files are looked at.

A mount whose server is gone (NFS, FUSE) answers no stat: such an operation fails, and holds up nothing but its pod.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import ParamSpec, TypeVar

from minipod.errors import ContainerError, ImageError, MinipodError, VolumeError
from minipod.plan.operation import HostOperation
from minipod.plan.volumes.host_paths import CheckHostPath
from minipod.plan.volumes.mounted import BindFolder, GiveToGroup, LinkDevice
from minipod.plan.volumes.nfs import MountNfs
from minipod.plan.volumes.sub_path import MakeSubPath
from minipod.runtime.images.store import DIRECTORY_PREFIX
from minipod.runtime.offload import ANSWER_S, off_loop, slowly_off_loop, within

P = ParamSpec("P")
T = TypeVar("T")

_SLOW = (GiveToGroup, MountNfs)  # a great many files, a server that is asked several times


async def execute(operations: Sequence[HostOperation]) -> None:
    """Raises what the first operation that fails raises; TimeoutErrors are VolumeErrors or ContainerErrors."""
    for outside, group in groupby(operations, lambda operation: isinstance(operation, _SLOW) or bool(place(operation))):
        if not outside:
            await off_loop(_execute, list(group))
            continue
        for operation in group:
            if isinstance(operation, _SLOW):
                await slowly_off_loop(operation.execute)
            else:
                await _look(operation)


async def look_at_image(reference: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(…)` in a thread, which reads of the image. A `dir:` image may be on a mount that never answers; then it
    raises ImageError.
    """
    if not reference.startswith(DIRECTORY_PREFIX):
        return await off_loop(work, *args, **kwargs)
    try:
        return await within(ANSWER_S, reference.removeprefix(DIRECTORY_PREFIX), work, *args, **kwargs)
    except TimeoutError as error:
        raise ImageError(f'failed to pull image "{reference}": {error}', "ErrImagePull") from None


def place(operation: HostOperation) -> str:
    """The path that it looks at and that may be on another's mount; empty for none."""
    match operation:
        case CheckHostPath(path=path) | BindFolder(source=path) | LinkDevice(device=path) | MakeSubPath(source=path):
            return path
    return ""


async def _look(operation: HostOperation) -> None:
    try:
        await within(ANSWER_S, place(operation), operation.execute)
    except TimeoutError as error:
        raise _failure(operation, str(error)) from None


def _failure(operation: HostOperation, why: str) -> MinipodError:
    if isinstance(operation, MakeSubPath):
        message = f'failed to prepare subPath for volumeMount "{operation.volume}" of container "{operation.container}"'
        return ContainerError(f"{message}: the volume does not answer", "CreateContainerConfigError")
    name = getattr(operation, "volume", "")
    remedy = "unmount what is mounted there, or see to its server"
    return VolumeError(f'MountVolume.SetUp failed for volume "{name}" : {why}: {remedy}')


def _execute(operations: Sequence[HostOperation]) -> None:
    for operation in operations:
        operation.execute()
