"""What a container may do, as numbers and paths (layer 2): capabilities, masked and read-only paths. Pure."""

from __future__ import annotations

from minipod.errors import ContainerError

#: capability(7), in the kernel's order (include/uapi/linux/capability.h)
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip

#: what containerd and Docker leave a container by default
DEFAULT_CAPABILITIES = frozenset(
    {
        "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
        "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
    }
)  # fmt: skip

#: pkg/securitycontext/util.go defaultMaskedPaths; the thermal_throttle directories of each CPU come from the host
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def masked_paths(cpus: int) -> tuple[str, ...]:
    """Every path hidden from an ordinary container on a host with this many CPUs."""
    throttle = (f"/sys/devices/system/cpu/cpu{n}/thermal_throttle" for n in range(cpus))
    return (*MASKED_PATHS, *throttle)


def capability_set(add: tuple[str, ...], drop: tuple[str, ...], *, privileged: bool) -> frozenset[str]:
    """The names a container keeps: the default without `drop` and with `add`; ALL means every one.

    An addition wins over ALL dropped, a drop of the same name wins over ALL added (containerd's WithCapabilities).
    """
    if privileged:
        return frozenset(CAPABILITIES)
    added = {name.upper().removeprefix("CAP_") for name in add}
    dropped = {name.upper().removeprefix("CAP_") for name in drop}
    for name in (added | dropped) - {"ALL"} - set(CAPABILITIES):
        raise ContainerError(
            f'unknown capability "{name}": see capability(7), names without CAP_', "CreateContainerError"
        )
    kept = set(CAPABILITIES) if "ALL" in added else set(DEFAULT_CAPABILITIES)
    if "ALL" in dropped:
        kept = set()
    kept |= added - {"ALL"}
    return frozenset(kept - (dropped - {"ALL"}))


def capability_mask(names: frozenset[str]) -> int:
    """The set as the kernel's 64-bit mask."""
    return sum(1 << number for number, name in enumerate(CAPABILITIES) if name in names)
