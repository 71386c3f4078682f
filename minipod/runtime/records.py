"""The runtime's records of sandboxes and containers on disk (layer 3): files that are replaced by rename. No policy."""

from __future__ import annotations

import contextlib
import functools
import operator
import os
from typing import Any

import msgspec

from minipod.kernel.rename import replace
from minipod.paths import Paths
from minipod.plan.configs import SandboxConfig
from minipod.plan.operation import HostOperation
from minipod.runtime.spawner.client import ChildExit
from minipod.runtime.status import ContainerStatus, SandboxStatus


def operation_kinds(base: type[HostOperation] = HostOperation) -> list[type[HostOperation]]:
    """Every kind whose module is imported: those that are executed and saved here are."""
    found = []
    for sub in base.__subclasses__():
        found += [sub, *operation_kinds(sub)]
    return found


@functools.cache
def _operations_decoder() -> msgspec.json.Decoder[Any]:
    union: Any = functools.reduce(operator.or_, operation_kinds())
    return msgspec.json.Decoder(tuple[union, ...])


def encode_operations(operations: tuple[HostOperation, ...]) -> bytes:
    return msgspec.json.encode(operations)


def decode_operations(data: bytes) -> tuple[HostOperation, ...]:
    found: tuple[HostOperation, ...] = _operations_decoder().decode(data)
    return found


class SandboxRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`operations`: those executed on the host, in order; empty once undone. `pause_pid`: 0 without a pause process."""

    status: SandboxStatus
    operations: msgspec.Raw = msgspec.Raw(b"[]")
    pause_pid: int = 0


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`environment`, `home`, `cwd` and `root` (device, inode) are what an exec in it starts from.
    `pipes`: the inodes of stdout's and stderr's, by name, for when no process of ours holds them any more.
    """

    status: ContainerStatus
    sandbox: SandboxConfig
    operations: msgspec.Raw = msgspec.Raw(b"[]")
    environment: tuple[str, ...] = ()
    cwd: str = "/"
    home: str = "/"
    root: tuple[int, int] = (0, 0)
    stop_signal: str = ""
    pipes: dict[str, int] = {}


def save(path: str, record: msgspec.Struct) -> None:
    """Replace the file by rename: a reader gets the old record or the new one. Raises OSError."""
    temporary = f"{path}.new"
    try:
        # a container's variables may come from a Secret
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(record))
        replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise OSError(error.errno, error.strerror, path) from None  # a write that fails names no file


def load_all(folder: str, name: str, kind: type[Any]) -> dict[str, Any]:
    """Entry -> record for every `<folder>/<entry>/<name>` that can be read; a half-made entry has none."""
    found = {}
    try:
        entries = os.listdir(folder)
    except FileNotFoundError:
        return {}
    for entry in entries:
        try:
            with open(f"{folder}/{entry}/{name}", "rb") as file:
                found[entry] = msgspec.json.decode(file.read(), type=kind)
        except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
            continue
    return found


def recorded_exits(paths: Paths) -> frozenset[str]:
    """The keys of all children whose ends a spawner has recorded and no agent has saved."""
    try:
        return frozenset(os.listdir(f"{paths.root}/exits"))
    except FileNotFoundError:
        return frozenset()


def recorded_exit(paths: Paths, key: str) -> ChildExit | None:
    try:
        with open(f"{paths.root}/exits/{key}", "rb") as file:
            return msgspec.json.decode(file.read(), type=ChildExit)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
