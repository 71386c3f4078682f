"""Rules for Windows options and for the operating system of a pod (layer 1, pure).

minipod runs no Windows pod, and refuses it once the manifest is valid to the API server's rules.
"""

from __future__ import annotations

import re

from minipod.api.types import PodSecurityContext, PodSpec, SecurityContext, WindowsSecurityContextOptions
from minipod.api.validation.check import Check, Path
from minipod.api.validation.formats import dns_subdomain
from minipod.api.validation.visit import every_container

OPERATING_SYSTEMS = ("linux", "windows")

CREDENTIAL_SPEC_LIMIT_BYTES = 64 * 1024
DOMAIN_LIMIT_BYTES = 256
USER_LIMIT_BYTES = 104

_DNS_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DNS_DOMAIN = rf"{_DNS_LABEL}(?:\.{_DNS_LABEL})*"
_NETBIOS_DOMAIN = r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}'
_CONTROL_CHARACTER = r"[\x00-\x1f\x7f]"
_FORBIDDEN_CHARACTER = r'["/\\:;|=,+*?<>@\[\]]'


def windows_options(check: Check, options: WindowsSecurityContextOptions | None, path: Path) -> None:
    if options is None:
        return
    if options.gmsa_credential_spec_name is not None:
        check.format(options.gmsa_credential_spec_name, dns_subdomain, path, "gmsaCredentialSpecName")
    if options.gmsa_credential_spec is not None:
        check.format(options.gmsa_credential_spec, _credential_spec, path, "gmsaCredentialSpec")
    if options.run_as_user_name is not None:
        check.format(options.run_as_user_name, _user_name, path, "runAsUserName")


def _credential_spec(value: str) -> str:
    if not value:
        return "must not be empty"
    return "must have at most 64 KiB" if len(value.encode()) > CREDENTIAL_SPEC_LIMIT_BYTES else ""


def _user_name(value: str) -> str:
    """`USER` or `DOMAIN\\USER`."""
    domain, backslash, user = value.rpartition("\\")
    if not value or re.search(_CONTROL_CHARACTER, value) or "\\" in domain:
        return "must be USER or DOMAIN\\USER, without control characters"
    if backslash and not (re.fullmatch(_NETBIOS_DOMAIN, domain) or re.fullmatch(_DNS_DOMAIN, domain)):
        return "must have a NetBIOS or DNS name as its domain"
    if len(domain.encode()) >= DOMAIN_LIMIT_BYTES or len(user.encode()) > USER_LIMIT_BYTES:
        return f"must have less than {DOMAIN_LIMIT_BYTES} bytes of domain and at most {USER_LIMIT_BYTES} of user"
    if not user or not user.strip(". ") or re.search(_FORBIDDEN_CHARACTER, user):
        return 'must have a user that is not only dots or spaces, without any of "/\\:;|=,+*?<>@[]'
    return ""


def host_process(check: Check, spec: PodSpec, path: Path) -> None:
    """All containers run as processes of the host or none does, and then in the host's network."""
    context = spec.security_context
    of_pod = context.windows_options.host_process if context and context.windows_options else None
    count = total = 0
    for container, at in every_container(spec, path):
        total += 1
        options = container.security_context.windows_options if container.security_context else None
        own = options.host_process if options else None
        if of_pod is not None and own is not None and own != of_pod:
            why = f"must be {str(of_pod).lower()} as in the pod's securityContext"
            check.invalid(at, "securityContext", "windowsOptions", "hostProcess", value=own, why=why)
        count += bool(of_pod if own is None else own)
    if count and count != total:
        check.invalid(path, value="", why="all containers must be hostProcess containers, or none")
    if count and not spec.host_network:
        check.invalid(path, "hostNetwork", value=False, why="must be true for hostProcess containers")


def operating_system(check: Check, spec: PodSpec, path: Path) -> None:
    if spec.os is None:
        return
    if not check.required(spec.os.name, path, "os", "name"):
        return
    if check.one_of(spec.os.name, OPERATING_SYSTEMS, path, "os"):
        if spec.os.name == "linux":
            no_windows_options(check, spec, path)
        else:
            no_linux_options(check, spec, path)


def no_windows_options(check: Check, spec: PodSpec, path: Path) -> None:
    why = "cannot be set for a Linux pod"
    if spec.security_context is not None:
        check.absent(spec.security_context.windows_options, path, "securityContext", "windowsOptions", why=why)
    for container, at in every_container(spec, path):
        if container.security_context is not None:
            check.absent(container.security_context.windows_options, at, "securityContext", "windowsOptions", why=why)


def no_linux_options(check: Check, spec: PodSpec, path: Path) -> None:
    why = "cannot be set for a Windows pod"
    check.only_defaults(spec, _NO_SPEC, _LINUX_POD_FIELDS, path, why=why)
    if spec.security_context is not None:
        at = (path, "securityContext")
        check.only_defaults(spec.security_context, _NO_POD_CONTEXT, _LINUX_POD_CONTEXT_FIELDS, at, why=why)
        if spec.security_context.sysctls:
            check.forbidden(at, "sysctls", why=why)
    for container, container_path in every_container(spec, path):
        if container.security_context is not None:
            at = (container_path, "securityContext")
            check.only_defaults(container.security_context, _NO_CONTEXT, _LINUX_CONTEXT_FIELDS, at, why=why)


_NO_SPEC = PodSpec()
_NO_POD_CONTEXT = PodSecurityContext()
_NO_CONTEXT = SecurityContext()

_LINUX_POD_FIELDS = (
    ("host_users", "hostUsers"),
    ("host_pid", "hostPID"),
    ("host_ipc", "hostIPC"),
    ("share_process_namespace", "shareProcessNamespace"),
)
_LINUX_POD_CONTEXT_FIELDS = (
    ("app_armor_profile", "appArmorProfile"),
    ("se_linux_options", "seLinuxOptions"),
    ("seccomp_profile", "seccompProfile"),
    ("fs_group", "fsGroup"),
    ("fs_group_change_policy", "fsGroupChangePolicy"),
    ("run_as_user", "runAsUser"),
    ("run_as_group", "runAsGroup"),
    ("supplemental_groups", "supplementalGroups"),
    ("supplemental_groups_policy", "supplementalGroupsPolicy"),
    ("se_linux_change_policy", "seLinuxChangePolicy"),
)
_LINUX_CONTEXT_FIELDS = (
    ("app_armor_profile", "appArmorProfile"),
    ("se_linux_options", "seLinuxOptions"),
    ("seccomp_profile", "seccompProfile"),
    ("capabilities", "capabilities"),
    ("read_only_root_filesystem", "readOnlyRootFilesystem"),
    ("privileged", "privileged"),
    ("allow_privilege_escalation", "allowPrivilegeEscalation"),
    ("proc_mount", "procMount"),
    ("run_as_user", "runAsUser"),
    ("run_as_group", "runAsGroup"),
)
