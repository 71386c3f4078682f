"""Switches forwarding on between the bridges and the rest of the host, and restores it afterwards (layer 2).

Forwarding is switched on interface by interface, and for interfaces to come, never by net.ipv4.ip_forward: that switch
resets other values, and other users of it (another container engine) find and set it as if minipod were not
there. IPv6 has such a switch per interface from Linux 6.17 on (force_forwarding); before, its global one is used, with
accept_ra raised to 2 where it was 1, because a forwarding host would forget the routes that its routers advertised
(Documentation/networking/ip-sysctl.rst).
"""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec

from minipod.kernel import sysctl
from minipod.kernel.host_lock import host_lock
from minipod.plan.operation import HostOperation


class _Record(msgspec.Struct, kw_only=True):
    """What forwarding changed in one network namespace, and for which instances. In /run: a reboot removes it."""

    holders: list[str] = []
    former: dict[str, str] = {}


class EnableForwarding(HostOperation, frozen=True, kw_only=True):
    """Shared by all instances on the host: the last one restores the former values."""

    instance: str
    ipv6: bool

    def describe(self) -> str:
        families = "IPv4 and IPv6" if self.ipv6 else "IPv4"
        return f"sysctl: forward {families} on every interface, the former values kept for the last pod's end"

    def execute(self) -> None:
        with host_lock() as netns:
            path = _record_path(netns)
            record = _load(path)
            if self.instance not in record.holders:
                record.holders.append(self.instance)
            wanted = self._wanted()
            changed = {name: value for name, value in wanted.items() if _read(name) not in (value, None)}
            # never the value that an earlier call wrote, and nothing of the bridges, which go away themselves
            for name in [*_follows(changed), *changed]:
                if not is_bridge(self.instance, name.split("/")[3]):
                    record.former.setdefault(name, _read(name) or "")
            _save(path, record)
            for name in changed:
                sysctl.write({name: wanted[name]})

    def undo(self) -> None:
        with host_lock() as netns:
            path = _record_path(netns)
            record = _load(path)
            record.holders = [name for name in record.holders if name != self.instance and _alive(name)]
            if record.holders:
                _save(path, record)
                return
            _restore(record.former)
            with suppress(FileNotFoundError):
                os.unlink(path)

    def _wanted(self) -> dict[str, str]:
        """Sysctl -> value, in the order in which they are to be written."""
        wanted = {f"net/ipv4/conf/{name}/forwarding": "1" for name in _interfaces("ipv4")}
        if not self.ipv6:
            return wanted
        interfaces = _interfaces("ipv6")
        if _read("net/ipv6/conf/default/force_forwarding") is not None:
            return wanted | {f"net/ipv6/conf/{name}/force_forwarding": "1" for name in interfaces}
        if _read("net/ipv6/conf/all/forwarding") == "0":
            for name in interfaces:
                if _read(f"net/ipv6/conf/{name}/accept_ra") == "1":
                    wanted[f"net/ipv6/conf/{name}/accept_ra"] = "2"
        return wanted | {"net/ipv6/conf/all/forwarding": "1"}


def _follows(changed: dict[str, str]) -> list[str]:
    """What IPv6's global switch overwrites without being asked, and has to be restored after it."""
    if "net/ipv6/conf/all/forwarding" not in changed:
        return []
    names = (f"net/ipv6/conf/{name}/forwarding" for name in _interfaces("ipv6"))
    return [name for name in names if _read(name) == "1"]


def _read(name: str) -> str | None:
    try:
        with open(f"{sysctl.SYSCTLS}/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def _interfaces(family: str) -> list[str]:
    """Every interface of the host but lo, and `default`, for those to come."""
    return [name for name in os.listdir(f"{sysctl.SYSCTLS}/net/{family}/conf") if name not in ("all", "lo")]


def _restore(former: dict[str, str]) -> None:
    """Restores the former values, last written first. Values that another process has changed since stay."""
    if _read("net/ipv4/ip_forward") == "1":
        former = {name: value for name, value in former.items() if not name.startswith("net/ipv4/")}
    for name, value in reversed(former.items()):
        if _read(name) not in (value, None):
            with suppress(FileNotFoundError):
                sysctl.write({name: value})


def _alive(instance: str) -> bool:
    """Whether another instance's bridges still stand; one that was wiped away holds nothing."""
    return any(is_bridge(instance, name) for name in _interfaces("ipv4"))


def is_bridge(instance: str, interface: str) -> bool:
    """Whether an interface of this name is a bridge of the instance's pods."""
    return interface.startswith(instance) and interface[len(instance) :].isdecimal() and len(interface) < 15


def _record_path(netns: int) -> str:
    return f"/run/minipod-forwarding-{netns}.json"


def _load(path: str) -> _Record:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=_Record)
    except (FileNotFoundError, msgspec.DecodeError):
        return _Record()


def _save(path: str, record: _Record) -> None:
    temporary = f"{path}.new"
    with open(temporary, "wb") as file:
        file.write(msgspec.json.encode(record))
    os.rename(temporary, path)
