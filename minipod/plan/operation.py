"""What the kernel is asked to do, as values (layer 2): describe() says it, execute() does it.

An operation is a small frozen struct of strings, numbers and lists, so that a plan can be printed, sent to
the spawner and saved. It holds no descriptor and no policy: whoever built it decided.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Operation(msgspec.Struct, frozen=True, tag_field="op", tag=True):
    """One kernel operation. Subclasses are named by what they do: `MountTmpfs`, `JoinCgroup`."""

    def describe(self) -> str:
        """One line in the kernel's words, without root and without effects."""
        raise NotImplementedError


class HostOperation(Operation, frozen=True):
    """Runs in the agent and leaves something on the host, which `undo` takes away."""

    def execute(self) -> None:
        """Do it. Raises OSError or a MinipodError. What already stands as wanted is left as it is."""
        raise NotImplementedError

    def undo(self) -> None:
        """Take it away again. Idempotent: what is not there is not an error, after a crash neither."""


class ChildContext:
    """What one child process hands from operation to operation: descriptors and found facts, by name."""

    __slots__ = ("facts", "fds")

    def __init__(self, fds: dict[str, int] | None = None) -> None:
        self.fds: dict[str, int] = fds or {}
        self.facts: dict[str, object] = {}


class ChildOperation(Operation, frozen=True):
    """Runs in the spawner's child between clone and exec; dies with it, so there is nothing to undo."""

    #: operations of the same phase are described together: namespaces, cgroup, root, mounts, security, process
    phase: ClassVar[str] = "process"

    def execute(self, ctx: ChildContext) -> None:
        raise NotImplementedError
