"""Executes host operations in threads (layer 3): in order, with a deadline for those that access the host's files.

On a mount whose server is gone (NFS, FUSE) a stat never returns: such an operation fails and blocks only its pod.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import ParamSpec, TypeVar

from minipod.errors import ContainerError, ImageError, MinipodError, RuntimeFailure, VolumeError
from minipod.failpoint import reached
from minipod.kernel.error_text import limit_of, text_of
from minipod.plan.operation import HostOperation
from minipod.plan.volumes.host_paths import CheckHostPath
from minipod.plan.volumes.mounted import BindFolder, GiveToGroup, LinkDevice
from minipod.plan.volumes.nfs import MountNfs
from minipod.plan.volumes.sub_path import MakeSubPath
from minipod.runtime.images.store import DIRECTORY_PREFIX
from minipod.runtime.offload import ANSWER_S, off_loop, slowly_off_loop, within

P = ParamSpec("P")
T = TypeVar("T")

_SLOW = (GiveToGroup, MountNfs)  # very many files; several requests to a server


async def execute(operations: Sequence[HostOperation]) -> None:
    """Executes them. Raises the first operation's failure; a TimeoutError as VolumeError or ContainerError."""
    for outside, group in groupby(operations, lambda operation: isinstance(operation, _SLOW) or bool(place(operation))):
        if not outside:
            await off_loop(_execute, list(group))
            continue
        for operation in group:
            if isinstance(operation, _SLOW):
                await slowly_off_loop(operation.execute)
                reached("executed", operation)
            else:
                await _look(operation)


async def look_at_image(reference: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs `work(…)`, which reads the image, in a thread. A `dir:` image may be on a mount that never answers: then
    raises ImageError.
    """
    if not reference.startswith(DIRECTORY_PREFIX):
        return await off_loop(work, *args, **kwargs)
    try:
        return await within(ANSWER_S, reference.removeprefix(DIRECTORY_PREFIX), work, *args, **kwargs)
    except TimeoutError as error:
        raise ImageError(f'failed to pull image "{reference}": {error}', "ErrImagePull") from None


def place(operation: HostOperation) -> str:
    """The path that the operation accesses and that may be on a foreign mount; `""` for none."""
    match operation:
        case CheckHostPath(path=path) | BindFolder(source=path) | LinkDevice(device=path) | MakeSubPath(source=path):
            return path
    return ""


async def _look(operation: HostOperation) -> None:
    try:
        await within(ANSWER_S, place(operation), operation.execute)
        reached("executed", operation)
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
        try:
            operation.execute()
        except (OSError, RuntimeError) as error:
            name = type(operation).__name__
            if not limit_of(error, name):
                raise
            raise RuntimeFailure(text_of(error, name)) from error
        reached("executed", operation)
