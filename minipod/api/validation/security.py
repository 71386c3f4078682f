"""Rules for security contexts, of pods and of containers (layer 1, pure). Privileged containers are allowed."""

from __future__ import annotations

from minipod.api.types import (
    AppArmorProfile,
    PodSecurityContext,
    PodSpec,
    SeccompProfile,
    SecurityContext,
)
from minipod.api.validation.check import Check, Path
from minipod.api.validation.formats import WHITESPACE, descending_path, dns_subdomain, sysctl_name
from minipod.api.validation.visit import every_container
from minipod.api.validation.windows import windows_options

LARGEST_ID = 2**31 - 1
PROFILE_TYPES = ("Localhost", "RuntimeDefault", "Unconfined")
PROC_MOUNTS = ("Default", "Unmasked")
FS_GROUP_CHANGE_POLICIES = ("Always", "OnRootMismatch")
SUPPLEMENTAL_GROUPS_POLICIES = ("Merge", "Strict")
SE_LINUX_CHANGE_POLICIES = ("Recursive",)  # MountOption needs the SELinuxMount feature, which is off in 1.36
APP_ARMOR_NAME_LIMIT_BYTES = 4095

_IPC_SYSCTLS = frozenset(
    (
        "kernel.msg",
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shm",
        "kernel.shm_rmid_forced",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
    )
)
_SWAP_SEPARATORS = str.maketrans("./", "/.")


def container_security(check: Check, context: SecurityContext | None, host_users: bool, path: Path) -> None:
    if context is None:
        return
    user_or_group(check, context.run_as_user, path, "runAsUser")
    user_or_group(check, context.run_as_group, path, "runAsGroup")
    if context.proc_mount is not None:
        check.one_of(context.proc_mount, PROC_MOUNTS, path, "procMount")
        if context.proc_mount == "Unmasked" and host_users:
            check.invalid(path, "procMount", value="Unmasked", why="needs hostUsers: false")
    seccomp_profile(check, context.seccomp_profile, (path, "seccompProfile"))
    if context.allow_privilege_escalation is False:
        if context.privileged:
            check.invalid(path, value=context, why="allowPrivilegeEscalation: false contradicts privileged: true")
        if context.capabilities is not None and "CAP_SYS_ADMIN" in context.capabilities.add:
            check.invalid(path, value=context, why="allowPrivilegeEscalation: false contradicts CAP_SYS_ADMIN")
    windows_options(check, context.windows_options, (path, "windowsOptions"))
    app_armor_profile(check, context.app_armor_profile, (path, "appArmorProfile"))


def pod_security(check: Check, spec: PodSpec, path: Path) -> None:
    context = spec.security_context
    if context is None:
        return
    user_or_group(check, context.fs_group, path, "fsGroup")
    user_or_group(check, context.run_as_user, path, "runAsUser")
    user_or_group(check, context.run_as_group, path, "runAsGroup")
    for index, group in enumerate(context.supplemental_groups):
        user_or_group(check, group, path, "supplementalGroups", index)
    if spec.share_process_namespace and spec.host_pid:
        why = "cannot be combined with hostPID"
        check.invalid(path, "shareProcessNamespace", value=True, why=why)
    sysctls(check, spec, context, (path, "sysctls"))
    if context.fs_group_change_policy is not None:
        check.one_of(context.fs_group_change_policy, FS_GROUP_CHANGE_POLICIES, path, "fsGroupChangePolicy")
    seccomp_profile(check, context.seccomp_profile, (path, "seccompProfile"))
    windows_options(check, context.windows_options, (path, "windowsOptions"))
    app_armor_profile(check, context.app_armor_profile, (path, "appArmorProfile"))
    if context.supplemental_groups_policy is not None:
        check.one_of(context.supplemental_groups_policy, SUPPLEMENTAL_GROUPS_POLICIES, path, "supplementalGroupsPolicy")
    if context.se_linux_change_policy is not None:
        check.one_of(context.se_linux_change_policy, SE_LINUX_CHANGE_POLICIES, path, "seLinuxChangePolicy")


def user_or_group(check: Check, number: int | None, *path: object) -> None:
    if number is not None:
        check.in_range(number, 0, LARGEST_ID, *path)


def seccomp_profile(check: Check, profile: SeccompProfile | None, path: Path) -> None:
    if profile is None:
        return
    check.choice(profile.type, PROFILE_TYPES, path, "type")
    name = profile.localhost_profile
    if profile.type != "Localhost":
        if name is not None:
            check.invalid(path, "localhostProfile", value=name, why="can only be set with type Localhost")
    elif name is None:
        check.missing(path, "localhostProfile", why="type Localhost needs one")
    else:
        check.format(name, descending_path, path, "localhostProfile")


def app_armor_profile(check: Check, profile: AppArmorProfile | None, path: Path) -> None:
    if profile is None or not check.choice(profile.type, PROFILE_TYPES, path, "type"):
        return
    name = profile.localhost_profile
    if profile.type != "Localhost":
        if name is not None:
            check.invalid(path, "localhostProfile", value=name, why="can only be set with type Localhost")
    elif not name:
        check.missing(path, "localhostProfile", why="type Localhost needs one")
    else:
        if name.strip(WHITESPACE) != name:
            check.invalid(path, "localhostProfile", value=name, why="must not begin or end with white space")
        check.short_enough(name, APP_ARMOR_NAME_LIMIT_BYTES, path, "localhostProfile")


def sysctls(check: Check, spec: PodSpec, context: PodSecurityContext, path: Path) -> None:
    names: set[str] = set()
    for index, sysctl in enumerate(context.sysctls):
        if check.named(sysctl.name, sysctl_name, path, index, "name"):
            check.unique(sysctl.name, names, path, index, "name")
        namespace = sysctl_namespace(sysctl.name)
        if spec.host_network and namespace == "net":
            check.invalid(path, index, "name", value=sysctl.name, why="cannot be set when hostNetwork is true")
        elif spec.host_ipc and namespace == "ipc":
            check.invalid(path, index, "name", value=sysctl.name, why="cannot be set when hostIPC is true")


def sysctl_namespace(name: str) -> str:
    """`net`, `ipc`, or empty where the sysctl belongs to no namespace. `net/ipv4/…` is read as sysctl(8) does."""
    first = min((name.find(separator) for separator in "./" if separator in name), default=-1)
    if first >= 0 and name[first] == "/":
        name = name.translate(_SWAP_SEPARATORS)
    name = name.partition("*")[0]
    if name.startswith("net."):
        return "net"
    return "ipc" if name in _IPC_SYSCTLS or name.startswith("fs.mqueue.") else ""


def host_users(check: Check, spec: PodSpec, path: Path) -> None:
    """A user namespace of its own excludes the host's other namespaces and block devices."""
    if spec.host_users is not False:
        return
    why = "cannot be combined with hostUsers: false"
    if spec.host_network:
        check.forbidden(path, "hostNetwork", why=why)
    if spec.host_pid:
        check.forbidden(path, "HostPID", why=why)  # spelt so by the server, as the next
    if spec.host_ipc:
        check.forbidden(path, "HostIPC", why=why)
    for container, at in every_container(spec, path):
        if container.volume_devices:
            check.forbidden(at, "volumeDevices", why=why)


def host_name_override(check: Check, spec: PodSpec, path: Path) -> None:
    name = spec.hostname_override
    if name is None:
        return
    if spec.set_hostname_as_fqdn:
        check.forbidden(path, "hostnameOverride", why="cannot be combined with setHostnameAsFQDN: true")
    if spec.host_network:
        check.forbidden(path, "hostnameOverride", why="cannot be combined with hostNetwork: true")
    check.short_enough(name, 64, path, "hostnameOverride")
    check.format(name, dns_subdomain, path, "hostnameOverride")
