"""What the kernel is asked to do, as values (layer 2): describe() prints it, execute() does it.

An operation is a small frozen struct of strings, numbers and lists, so that a plan can be printed, sent to
the spawner and saved. It holds no descriptor and no policy: the code that built it decided.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import msgspec


class Operation(msgspec.Struct, frozen=True, tag_field="op", tag=True):
    """One kernel operation. Subclasses are named by what they do: `MountTmpfs`, `JoinCgroup`."""

    def describe(self) -> str:
        """One line in the kernel's words, without root and without effects."""
        raise NotImplementedError


class HostOperation(Operation, frozen=True):
    """Runs in the agent and makes something on the host, which `undo` removes."""

    def execute(self) -> None:
        """Do it. Raises OSError or a MinipodError. What already stands as wanted is left as it is."""
        raise NotImplementedError

    def undo(self) -> None:
        """Take it away again. Idempotent: what is not there is not an error, after a crash neither."""


class ChildContext:
    """What one child process passes from operation to operation: descriptors and facts, by name."""

    __slots__ = ("facts", "fds")

    def __init__(self, fds: dict[str, int] | None = None) -> None:
        self.fds: dict[str, int] = fds or {}
        self.facts: dict[str, object] = {}


#: The one order in which a process becomes the container's. Each phase relies on those before it: a path of the
#: container is resolved when nothing of the host is open, and the process is seen in the container's PID namespace only
#: when there is nothing left to take from it (docs/security.md, "The order of a start").
PHASES = (
    "descriptors",  # nothing that the spawner holds is left open
    "cgroup",  # session, groups, limits
    "namespaces",  # all but the PID namespace, which holds for children only
    "root",  # the root file system is put together,
    "mounts",  # with what is mounted in it,
    "entry",  # entered and verified
    "user",  # groups, user; of the capabilities only those that the next two phases need
    "folder",  # the working directory
    "limits",  # the filter of system calls, the rest of the capabilities
    "pid",  # a clone in the PID namespace
    "exec",
)


class ChildOperation(Operation, frozen=True):
    """Runs in the spawner's child between clone and exec; dies with it, so there is nothing to undo."""

    phase: ClassVar[str]

    def execute(self, ctx: ChildContext) -> None:
        raise NotImplementedError


def in_order(operations: Iterable[ChildOperation]) -> tuple[ChildOperation, ...]:
    """By phase; those of the same phase stay as they are. Every process in a container is made from such a list."""
    return tuple(sorted(operations, key=lambda operation: PHASES.index(operation.phase)))
