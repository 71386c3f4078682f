"""From a Pod to what a runtime is asked for (layer 2, pure): the kubelet's SandboxConfig and ContainerConfig.

Takes a Pod after defaulting and validation. Makes nothing. Rules: pkg/kubelet/kuberuntime (kuberuntime_sandbox.go,
kuberuntime_container.go, security_context.go, labels.go), pkg/securitycontext/util.go, pkg/kubelet/sysctl.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from minipod.api.types import Capabilities, Container, Pod, PodSecurityContext, SeccompProfile
from minipod.api.types import SecurityContext as ApiSecurityContext
from minipod.config import Config
from minipod.errors import ContainerError, SandboxError
from minipod.paths import Paths
from minipod.plan import resources
from minipod.plan.configs import (
    ContainerConfig,
    HostAlias,
    HostFacts,
    Mount,
    NamespaceOptions,
    PortMapping,
    SandboxConfig,
    SecurityContext,
)
from minipod.plan.env import CONFIG_ERROR, Sources, environment, expand_all, pod_facts
from minipod.plan.files import PlanWarning, pod_dns, pod_hostname
from minipod.plan.process.passwd import MAX_ID, shown
from minipod.plan.sandbox import files_directory
from minipod.plan.volumes.sources import devices_for, fs_group, mounts_for, pod_directory

DEFAULT_TERMINATION_MESSAGE_PATH = "/dev/termination-log"

#: pkg/kubelet/sysctl/safe_sysctls.go: of the pod alone, without effect on any other
SYSCTL_FORBIDDEN = "SysctlForbidden"
SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    }
)

#: a kernel's parser may accept more lines or bytes, but that is no value of the manifest's one sysctl
_SYSCTL_VALUE = re.compile(r"[ -~\t]*\n?")

#: what containerd 2 sets in every network namespace of a pod: no root needed for low ports and ping
_NETWORK_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}


# ---- sandbox


def sandbox_config(
    pod: Pod, paths: Paths, config: Config, facts: HostFacts, *, sandbox_id: str, attempt: int = 0
) -> SandboxConfig:
    """What `run_pod_sandbox` is asked for. `sandbox_id`: 64 hex digits. Raises SandboxError."""
    metadata, spec = pod.metadata, pod.spec
    hostname = pod_hostname(pod, config, facts)
    return SandboxConfig(
        id=sandbox_id,
        name=metadata.name,
        namespace=metadata.namespace,
        uid=metadata.uid,
        attempt=attempt,
        hostname=hostname.hostname,
        domain=hostname.domain,
        kernel_hostname=hostname.kernel if hostname.kernel != hostname.hostname else "",
        log_directory=log_directory(pod, paths),
        dns=pod_dns(pod, config, facts)[0],
        host_aliases=tuple(HostAlias(ip=alias.ip, hostnames=alias.hostnames) for alias in spec.host_aliases),
        port_mappings=_port_mappings(pod),
        namespaces=namespaces(pod),
        sysctls=_sysctls(pod),
        cgroup_parent=resources.pod_cgroup_parent(pod, paths),
        cgroup_resources=resources.pod_cgroup_resources(pod, config),
        cpu_request_millicores=resources.cpu_request_millicores(pod),
        labels={**metadata.labels, **_pod_labels(pod)},
        annotations=dict(metadata.annotations),
        privileged=any(
            c.security_context is not None and bool(c.security_context.privileged)
            for c in (*spec.init_containers, *spec.containers)
        ),
    )


def pod_warnings(pod: Pod, config: Config, facts: HostFacts) -> tuple[PlanWarning, ...]:
    """What the user has to know of a pod that runs all the same; for events, once per pod."""
    return (*pod_dns(pod, config, facts)[1], *_not_enforced(pod))


def _not_enforced(pod: Pod) -> list[PlanWarning]:
    """What a kubelet enforces by controllers that no group is made for."""
    found: list[str] = []
    for kind, containers in (("initContainers", pod.spec.init_containers), ("containers", pod.spec.containers)):
        for index, container in enumerate(containers):
            names = sorted(set(container.resources.limits) - {"cpu", "memory", "ephemeral-storage"})
            found += [f"spec.{kind}[{index}].resources.limits[{name}]: is not enforced" for name in names]
    return [PlanWarning("NotEnforced", message) for message in found]


def log_directory(pod: Pod, paths: Paths) -> str:
    metadata = pod.metadata
    return paths.pod_log_directory(metadata.namespace, metadata.name, metadata.uid)


def namespaces(pod: Pod) -> NamespaceOptions:
    """NamespacesForPod."""
    spec = pod.spec
    return NamespaceOptions(
        network="node" if spec.host_network else "pod",
        pid="node" if spec.host_pid else "pod" if spec.share_process_namespace else "container",
        ipc="node" if spec.host_ipc else "pod",
    )


def _port_mappings(pod: Pod) -> tuple[PortMapping, ...]:
    if pod.spec.host_network:
        return ()
    return tuple(
        PortMapping(
            protocol=port.protocol or "TCP",
            container_port=port.container_port,
            host_port=port.host_port,
            host_ip=port.host_ip,
        )
        for container in pod.spec.containers
        for port in container.ports
        if port.host_port
    )


def _sysctls(pod: Pod) -> dict[str, str]:
    """The pod's sysctls over the runtime's own. Raises SandboxError (SysctlForbidden) for one that is not safe."""
    refusal = sysctl_refusal(pod)
    if refusal:
        raise SandboxError(refusal, SYSCTL_FORBIDDEN)
    result = {} if pod.spec.host_network else dict(_NETWORK_SYSCTLS)
    context = pod.spec.security_context
    for sysctl in context.sysctls if context is not None else ():
        name = sysctl.name.replace("/", ".")
        if not _SYSCTL_VALUE.fullmatch(sysctl.value):
            raise SandboxError(
                f"sysctl {name}={sysctl.value!r}: invalid argument: a value is printable ASCII on one line, "
                "and only this sysctl's"
            )
        result[name] = sysctl.value
    return result


def sysctl_refusal(pod: Pod) -> str:
    """Why a node rejects the pod (pkg/kubelet/sysctl/allowlist.go); empty where it admits it."""
    context = pod.spec.security_context
    for sysctl in context.sysctls if context is not None else ():
        name = sysctl.name.replace("/", ".")
        if name not in SAFE_SYSCTLS:
            return f'forbidden sysctl: "{name}" not allowlisted'
        if name.startswith("net.") and pod.spec.host_network:
            return f'forbidden sysctl: "{name}" not allowed with host Net enabled'
        if name.startswith("kernel.") and pod.spec.host_ipc:
            return f'forbidden sysctl: "{name}" not allowed with host IPC enabled'
    return ""


# ---- container


def container_config(
    pod: Pod,
    container: Container,
    paths: Paths,
    config: Config,
    facts: HostFacts,
    *,
    pod_ips: Sequence[str],
    sandbox_id: str,
    container_id: str,
    attempt: int = 0,
    image_user: str | None = None,
    sources: Sources | None = None,
) -> ContainerConfig:
    """What `create_container` is asked for. `pod_ips`: the sandbox's, without prefix length, IPv4 first.

    `image_user` is the image's User, held against runAsNonRoot; None while no image is known (`minipod plan`).
    Raises ContainerError with reason CreateContainerConfigError.
    """
    refusal = verify_run_as_non_root(pod, container, image_user) if image_user is not None else None
    if refusal is not None:
        raise ContainerError(refusal, CONFIG_ERROR)
    ips = facts.node_ips if pod.spec.host_network else pod_ips
    env = environment(pod, container, pod_facts(facts, ips), sources)
    security = security_context(pod, container, config, paths, image_user)
    kernel_hostname = pod_hostname(pod, config, facts).kernel
    directory = f"{pod_directory(pod, paths)}/containers/{container.name}/{attempt}"
    mounts = mounts_for(pod, container, paths, facts, env)
    files = files_directory(sandbox_id, paths)
    return ContainerConfig(
        id=container_id,
        name=container.name,
        attempt=attempt,
        image=container.image,
        command=expand_all(container.command, env),
        args=expand_all(container.args, env),
        working_dir=container.working_dir,
        envs=tuple({"HOSTNAME": kernel_hostname, **env}.items()),
        mounts=(*mounts, *_sandbox_mounts(files, mounts, security.readonly_rootfs)),
        devices=devices_for(pod, container, paths),
        log_path=f"{container.name}/{attempt}.log",
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        tty=container.tty,
        stop_signal=(container.lifecycle.stop_signal or "") if container.lifecycle is not None else "",
        resources=resources.container_resources(pod, container),
        oom_score_adj=resources.oom_score_adj(pod, container, facts.memory_bytes),
        security=security,
        labels={**_pod_labels(pod), "io.kubernetes.container.name": container.name},
        annotations=_container_annotations(pod, container, attempt),
        directory=directory,
        termination_message_path=container.termination_message_path or DEFAULT_TERMINATION_MESSAGE_PATH,
        termination_message_host_path=f"{files}/termination-log.{container.name}.{attempt}",
    )


def _sandbox_mounts(directory: str, mounts: Sequence[Mount], readonly: bool) -> list[Mount]:
    """The pod's own files, each unless the container mounts something there itself (kubelet for hosts, containerd)."""
    taken = {mount.container_path for mount in mounts}
    wanted = (("/etc/hosts", "hosts", False), ("/etc/hostname", "hostname", readonly))
    return [
        Mount(container_path=place, host_path=f"{directory}/{name}", readonly=ro)
        for place, name, ro in (*wanted, ("/etc/resolv.conf", "resolv.conf", readonly))
        if place not in taken
    ]


def _pod_labels(pod: Pod) -> dict[str, str]:
    return {
        "io.kubernetes.pod.name": pod.metadata.name,
        "io.kubernetes.pod.namespace": pod.metadata.namespace,
        "io.kubernetes.pod.uid": pod.metadata.uid,
    }


def _container_annotations(pod: Pod, container: Container, attempt: int) -> dict[str, str]:
    annotations = {
        "io.kubernetes.container.restartCount": str(attempt),
        "io.kubernetes.container.terminationMessagePath": container.termination_message_path,
        "io.kubernetes.container.terminationMessagePolicy": container.termination_message_policy,
    }
    if pod.spec.termination_grace_period_seconds is not None:
        annotations["io.kubernetes.pod.terminationGracePeriod"] = str(pod.spec.termination_grace_period_seconds)
    return annotations


# ---- security


def security_context(
    pod: Pod, container: Container, config: Config, paths: Paths, image_user: str | None = None
) -> SecurityContext:
    """The container's own security context over the pod's (determineEffectiveSecurityContext), in CRI's words."""
    of_pod = pod.spec.security_context or PodSecurityContext()
    own = container.security_context or ApiSecurityContext()
    capabilities = own.capabilities or Capabilities()
    privileged = bool(own.privileged)
    seccomp, profile = _seccomp(own.seccomp_profile or of_pod.seccomp_profile, privileged, config, paths)
    group = fs_group(pod)
    user, name = own.run_as_user if own.run_as_user is not None else of_pod.run_as_user, ""
    if user is None and image_user is not None:
        user, name = image_identity(image_user)
    return SecurityContext(
        privileged=privileged,
        run_as_user=user,
        run_as_username=name,
        run_as_non_root=_run_as_non_root(pod, container),
        run_as_group=own.run_as_group if own.run_as_group is not None else of_pod.run_as_group,
        supplemental_groups=(*(() if group is None else (group,)), *of_pod.supplemental_groups),
        supplemental_groups_policy=of_pod.supplemental_groups_policy or "Merge",
        readonly_rootfs=bool(own.read_only_root_filesystem),
        no_new_privs=own.allow_privilege_escalation is False,
        add_capabilities=capabilities.add,
        drop_capabilities=capabilities.drop,
        seccomp=seccomp,
        seccomp_localhost=profile,
        proc_mount=own.proc_mount or "Default",
        namespaces=namespaces(pod),
    )


def _seccomp(profile: SeccompProfile | None, privileged: bool, config: Config, paths: Paths) -> tuple[str, str]:
    """(type, absolute path of a Localhost profile). A privileged container is never confined (containerd)."""
    if privileged:
        return "Unconfined", ""
    if profile is None:
        return ("RuntimeDefault" if config.seccomp_default else "Unconfined"), ""
    if profile.type == "Localhost":
        if not profile.localhost_profile:
            raise ContainerError("seccompProfile.localhostProfile: required for type Localhost", CONFIG_ERROR)
        return "Localhost", f"{paths.state}/seccomp/{profile.localhost_profile}"
    return ("RuntimeDefault" if profile.type == "RuntimeDefault" else "Unconfined"), ""


def image_identity(image_user: str) -> tuple[int | None, str]:
    """(uid, name) of an image's User: what a CRI runtime reports of it and the kubelet passes on, without the group.

    containerd's getUserFromImage, the kubelet's getImageUser: a number as Go reads it, otherwise a name, nothing: root.
    """
    name = image_user.partition(":")[0]
    if not name:
        return 0, ""
    if _GO_INTEGER.fullmatch(name) and len(name) <= 19:
        return int(name), ""
    return None, name


#: 19 characters are always an int64
_GO_INTEGER = re.compile("[+-]?[0-9]+", re.ASCII)


def verify_run_as_non_root(pod: Pod, container: Container, image_user: str) -> str | None:
    """Why a container with runAsNonRoot must not start, for CreateContainerConfigError; None when it may.

    `image_user` is the image's User (`""`, `name`, `1000`, `1000:1000`). Only a number proves that it is not root.
    """
    if not _run_as_non_root(pod, container):
        return None
    of_pod = pod.spec.security_context or PodSecurityContext()
    own = container.security_context or ApiSecurityContext()
    user = own.run_as_user if own.run_as_user is not None else of_pod.run_as_user
    where = f'(pod: "{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})", container: {container.name})'
    if user is not None:
        return f"container's runAsUser breaks non-root policy {where}" if user == 0 else None
    uid, name = image_identity(image_user)
    if uid is None:
        reason = f"image has non-numeric user ({shown(name)}), cannot verify user is non-root"
        return f"container has runAsNonRoot and {reason} {where}"
    if uid == 0:
        return f"container has runAsNonRoot and image will run as root {where}"
    if not 0 < uid <= MAX_ID:
        rule = f"(Must be 1-({MAX_ID})): must be between 0 and {MAX_ID}, inclusive"
        return f"container has runAsNonRoot and image has an invalid user id ({uid}). {rule} {where}"
    return None


def _run_as_non_root(pod: Pod, container: Container) -> bool:
    of_pod = pod.spec.security_context or PodSecurityContext()
    own = container.security_context or ApiSecurityContext()
    return bool(own.run_as_non_root if own.run_as_non_root is not None else of_pod.run_as_non_root)
