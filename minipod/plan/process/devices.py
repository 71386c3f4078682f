"""Which devices a container may use (layer 2): the default list, and the operation that limits its group to it.

A container keeps CAP_MKNOD by default, so without this it could make and read a node of the host's disk. The list is
runc's (libcontainer/specconv AllowedDevices): making any node, using the harmless ones.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

import msgspec

from minipod.kernel import cgroup
from minipod.kernel.bpf import DeviceRule, attach_device_program, device_program
from minipod.plan.cgroup import clone_directory
from minipod.plan.configs import Device, HostFacts
from minipod.plan.operation import HostOperation

DEFAULT_RULES = (
    DeviceRule("c", None, None, "m"),
    DeviceRule("b", None, None, "m"),
    DeviceRule("c", 1, 3, "rwm"),  # null
    DeviceRule("c", 1, 5, "rwm"),  # zero
    DeviceRule("c", 1, 7, "rwm"),  # full
    DeviceRule("c", 1, 8, "rwm"),  # random
    DeviceRule("c", 1, 9, "rwm"),  # urandom
    DeviceRule("c", 5, 0, "rwm"),  # tty
    DeviceRule("c", 5, 2, "rwm"),  # ptmx
    DeviceRule("c", 136, None, "rwm"),  # pts
)


class HostDevice(msgspec.Struct, frozen=True):
    """An additional device of the host for a container: its numbers are looked up when the rule is set."""

    path: str
    access: str = "rwm"


class LimitDevices(HostOperation, frozen=True):
    """Limit a container's group to the default devices and `devices`. Ends with the group, so nothing to undo.

    `v1`: the group's directory in the devices hierarchy; else `unified`, its cgroup2 directory, gets a BPF program.
    """

    path: str
    v1: str = ""
    unified: str = ""
    devices: tuple[HostDevice, ...] = ()

    def describe(self) -> str:
        how = "devices.allow" if self.v1 else "BPF_CGROUP_DEVICE"
        more = "".join(f", {device.path} {device.access}" for device in self.devices)
        return f"devices of cgroup {self.path}: {how} null zero full random urandom tty ptmx pts, mknod of any{more}"

    def execute(self) -> None:
        rules = (*DEFAULT_RULES, *map(_rule_of, self.devices))
        if self.v1:
            cgroup.write(self.v1, "devices.deny", "a")
            cgroup.write(self.v1, "devices.allow", *map(str, rules))
        else:
            attach_device_program(self.unified, device_program(rules))


def _rule_of(device: HostDevice) -> DeviceRule:
    found = os.stat(device.path)
    kind = "b" if stat.S_ISBLK(found.st_mode) else "c" if stat.S_ISCHR(found.st_mode) else ""
    if not kind:
        raise OSError(errno.ENODEV, "is not a device", device.path)
    return DeviceRule(kind, os.major(found.st_rdev), os.minor(found.st_rdev), device.access)


def limit_devices(path: str, facts: HostFacts, devices: Sequence[Device] = ()) -> LimitDevices | None:
    """For a container that is not privileged; `path` is its group. None where the host has no hierarchy for it."""
    wanted = tuple(HostDevice(device.host_path, device.permissions) for device in devices)
    if facts.cgroup_version == 1 and "devices" in facts.cgroup_mounts:
        return LimitDevices(path, v1=facts.cgroup_mounts["devices"] + path, devices=wanted)
    unified = clone_directory(path, facts)
    return LimitDevices(path, unified=unified, devices=wanted) if unified else None
