"""Localhost seccomp profiles from their JSON (layer 2), as OCI runtimes and Docker read them. Pure; opens no file."""

from __future__ import annotations

from typing import Annotated, NoReturn

import msgspec

from minipod.errors import ContainerError
from minipod.plan.process.seccomp_profile import (
    ACTIONS,
    COMPARISONS,
    CONFIG_ERROR,
    EPERM,
    Argument,
    Profile,
    Rule,
    names_of,
)

_Errno = Annotated[int, msgspec.Meta(ge=0, le=4095)]


class _Argument(msgspec.Struct, rename="camel"):
    index: Annotated[int, msgspec.Meta(ge=0, le=5)]
    op: str
    value: int = 0
    value_two: int = 0


class _Condition(msgspec.Struct):
    caps: list[str] | None = None
    arches: list[str] | None = None


class _Entry(msgspec.Struct, rename="camel"):
    action: str
    names: list[str] | None = None
    name: str = ""
    errno_ret: _Errno | None = None
    args: list[_Argument] | None = None
    includes: _Condition | None = None
    excludes: _Condition | None = None


class _ArchitectureEntry(msgspec.Struct, rename="camel"):
    architecture: str
    sub_architectures: list[str] | None = None


class _Json(msgspec.Struct, rename="camel"):
    default_action: str
    default_errno_ret: _Errno | None = None
    architectures: list[str] | None = None
    arch_map: list[_ArchitectureEntry] | None = None
    flags: list[str] | None = None
    listener_path: str = ""
    syscalls: list[_Entry] | None = None


def parse(text: bytes, where: str, machine: str, capabilities: frozenset[str]) -> Profile:
    """A Localhost profile: the OCI runtime-spec's JSON, or Docker's with archMap, includes and excludes.

    Raises ContainerError that names `where`, the field and what is wrong with it.
    """
    try:
        data = msgspec.json.decode(text, type=_Json)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _fail(where, str(error))
    except RecursionError:
        _fail(where, "is nested too deeply")
    return _Reader(where, machine, capabilities).profile(data)


def _fail(where: str, what: str) -> NoReturn:
    raise ContainerError(f"seccomp profile {where}: {what}", CONFIG_ERROR)


class _Reader:
    """Reads one profile; every error begins with its file."""

    def __init__(self, where: str, machine: str, capabilities: frozenset[str]) -> None:
        self._where = where
        self._name, self._architectures = names_of(machine)
        self._capabilities = capabilities

    def profile(self, data: _Json) -> Profile:
        if data.listener_path:
            self._fail("listenerPath", "is not supported: no program is notified")
        for flag in data.flags or ():
            # the filter is loaded by one thread, so TSYNC changes nothing
            if flag != "SECCOMP_FILTER_FLAG_TSYNC":
                self._fail("flags", f"{flag} is not supported")
        entries = enumerate(data.syscalls or ())
        rules = tuple(self._rule(f"syscalls[{number}]", entry) for number, entry in entries if self._applies(entry))
        return Profile(
            architectures=self._chosen(data),
            default_action=self._action("defaultAction", data.default_action),
            default_code=_code(data.default_errno_ret),
            rules=rules,
            new_is_enosys=False,
        )

    def _chosen(self, data: _Json) -> tuple[str, ...]:
        """The native architecture, and those the profile names of the ones that run on it too."""
        native, *others = self._architectures
        named = set(data.architectures or ())
        for entry in data.arch_map or ():
            if entry.architecture == f"SCMP_ARCH_{native}":
                named |= set(entry.sub_architectures or ())
        return (native, *(name for name in others if f"SCMP_ARCH_{name}" in named))

    def _rule(self, field: str, entry: _Entry) -> Rule:
        names = entry.names or [entry.name]
        if not all(names) or not all(name.isascii() and name.isprintable() for name in names):
            self._fail(f"{field}.names", "has to be a list of system calls")
        return Rule(
            names=tuple(names),
            action=self._action(f"{field}.action", entry.action),
            code=_code(entry.errno_ret),
            arguments=tuple(
                self._argument(f"{field}.args[{number}]", argument) for number, argument in enumerate(entry.args or ())
            ),
        )

    def _applies(self, entry: _Entry) -> bool:
        """Docker's conditions: every one of `includes` holds, none of `excludes`."""
        includes, excludes = entry.includes or _Condition(), entry.excludes or _Condition()
        included = {name.removeprefix("CAP_") for name in includes.caps or ()}
        excluded = {name.removeprefix("CAP_") for name in excludes.caps or ()}
        return (
            included <= self._capabilities
            and not excluded & self._capabilities
            and self._name in (includes.arches or [self._name])
            and self._name not in (excludes.arches or ())
        )

    def _argument(self, field: str, argument: _Argument) -> Argument:
        op = argument.op.removeprefix("SCMP_CMP_")
        if op not in COMPARISONS:
            self._fail(f"{field}.op", f"{argument.op} is not known")
        for value in (argument.value, argument.value_two):
            if not 0 <= value < 1 << 64:
                self._fail(field, f"{value} is no unsigned number of 64 bits")
        return Argument(argument.index, op, argument.value, argument.value_two)

    def _action(self, field: str, value: str) -> str:
        action = value.removeprefix("SCMP_ACT_")
        if action == "NOTIFY":
            self._fail(field, "SCMP_ACT_NOTIFY is not supported: no program is notified")
        if action not in ACTIONS:
            self._fail(field, f"{value!r} is not known")
        return action

    def _fail(self, field: str, what: str) -> NoReturn:
        _fail(self._where, f"{field}: {what}")


def _code(value: int | None) -> int:
    return EPERM if value is None else value
