"""What a runtime is asked for, in CRI's words (layer 2): the values between a Pod and its operations.

The names and meanings are those of cri-api's api.proto (PodSandboxConfig, ContainerConfig), so that a kubelet's
requests need no second path. Pure values; built by `plan.pod` from a Pod or by `cri/` from a request.
"""

from __future__ import annotations

import msgspec

from minipod.kernel.inherit import OPEN_FILES


class _Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    pass


class NamespaceOptions(_Value, frozen=True, kw_only=True):
    """`pod`: shared by the pod, `container`: its own, `node`: the host's, `target`: that of `target_id`."""

    network: str = "pod"  # pod | node
    pid: str = "container"  # pod | container | node | target
    ipc: str = "pod"  # pod | node
    target_id: str = ""


class PortMapping(_Value, frozen=True, kw_only=True):
    protocol: str = "TCP"
    container_port: int
    host_port: int
    host_ip: str = ""


class DNSConfig(_Value, frozen=True, kw_only=True):
    """Already resolved: exactly what the pod's resolv.conf will hold.

    With `answerer` the address of the node's answerer comes first; it is known once the network is leased.
    """

    answerer: bool = False
    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class HostAlias(_Value, frozen=True, kw_only=True):
    ip: str
    hostnames: tuple[str, ...]


class CgroupResources(_Value, frozen=True, kw_only=True):
    """The kubelet's numbers before they become files of cgroup v1 or v2. None: nothing is written."""

    cpu_shares: int | None = None
    cpu_quota_us: int | None = None  # -1: no quota
    cpu_period_us: int = 100_000
    memory_limit_bytes: int | None = None  # None or 0: no limit
    pids_max: int | None = None
    oom_group: bool = True  # memory.oom.group on v2 (singleProcessOOMKill=false)
    swap_max_bytes: int | None = 0  # v2 memory.swap.max; NoSwap


class SandboxConfig(_Value, frozen=True, kw_only=True):
    """CRI PodSandboxConfig, with what the kubelet would do itself: /etc/hosts, the pod's cgroup."""

    id: str  # 64 hex digits, made by the caller
    name: str
    namespace: str
    uid: str
    attempt: int = 0
    hostname: str
    domain: str = ""  # <hostname>.<domain> is the FQDN, where the pod has a subdomain
    kernel_hostname: str = ""  # of the UTS namespace and /etc/hostname; empty: hostname (setHostnameAsFQDN)
    log_directory: str
    dns: DNSConfig = DNSConfig()
    host_aliases: tuple[HostAlias, ...] = ()
    port_mappings: tuple[PortMapping, ...] = ()
    namespaces: NamespaceOptions = NamespaceOptions()
    sysctls: dict[str, str] = {}
    cgroup_parent: str  # of the pod: /minipod/kubepods/burstable/pod<uid>
    cgroup_resources: CgroupResources = CgroupResources()
    cpu_request_millicores: int = 0  # for the shares of its QoS class
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    privileged: bool = False


class Mount(_Value, frozen=True, kw_only=True):
    """CRI Mount: a bind of `host_path` at `container_path`. `volume`: its name, for messages."""

    container_path: str
    host_path: str
    host_path_type: str = ""  # of a hostPath volume: looked at again when it is mounted
    readonly: bool = False
    propagation: str = "private"  # private | host-to-container | bidirectional
    recursive_read_only: bool = False
    sub_path: str = ""  # below host_path, resolved without leaving it, made where it is missing
    image_sub_path: str = ""  # the same in an image's files, where nothing can be made
    volume: str = ""

    @property
    def below(self) -> str:
        return self.sub_path or self.image_sub_path


class Device(_Value, frozen=True, kw_only=True):
    container_path: str
    host_path: str
    permissions: str = "rwm"


class SecurityContext(_Value, frozen=True, kw_only=True):
    """CRI LinuxContainerSecurityContext. `run_as_user` None and `run_as_username` empty: the image's user.

    `run_as_non_root` is not CRI's: the kubelet's word, held against the uid that the process gets.
    """

    privileged: bool = False
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_username: str = ""  # the name in the image's User
    run_as_non_root: bool = False
    supplemental_groups: tuple[int, ...] = ()
    supplemental_groups_policy: str = "Merge"  # Merge | Strict
    readonly_rootfs: bool = False
    no_new_privs: bool = False
    add_capabilities: tuple[str, ...] = ()  # without CAP_; ALL
    drop_capabilities: tuple[str, ...] = ()
    seccomp: str = "RuntimeDefault"  # RuntimeDefault | Unconfined | Localhost
    seccomp_localhost: str = ""  # the profile's absolute path
    proc_mount: str = "Default"  # Default | Unmasked
    namespaces: NamespaceOptions = NamespaceOptions()


class ContainerConfig(_Value, frozen=True, kw_only=True):
    """CRI ContainerConfig. `command` and `args` are final: $(VAR) expanded, the image not yet consulted."""

    id: str  # 64 hex digits, made by the caller
    name: str
    attempt: int = 0
    image: str  # as the user wrote it; found in the store by the runtime
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    envs: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    log_path: str = ""  # relative to the sandbox's log_directory
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    stop_signal: str = ""  # empty: the image's, else SIGTERM
    resources: CgroupResources = CgroupResources()
    oom_score_adj: int = 0
    security: SecurityContext = SecurityContext()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    directory: str  # <data-dir>/pods/<uid>/containers/<name>/<attempt>: upper, work, rootfs
    termination_message_path: str = "/dev/termination-log"
    termination_message_host_path: str = ""


class ImageConfig(_Value, frozen=True, kw_only=True):
    """An image's configuration of its containers (OCI image-spec config, the part a runtime honours)."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()  # NAME=value
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()  # 80/tcp: shown only; as in Kubernetes, nothing is opened by it


class Image(_Value, frozen=True, kw_only=True):
    """An image as the store holds it. `layers`: unpacked directories, lowest first, ready for overlayfs."""

    id: str  # sha256:… of the config; dir:/path for a root directory
    reference: str  # normalized: docker.io/library/busybox:latest
    digest: str = ""  # sha256:… of the manifest, or of the index that led to it
    repo_digest: str = ""  # name@sha256:…, where it came from a registry: status.imageID
    layers: tuple[str, ...]
    config: ImageConfig = ImageConfig()
    size_bytes: int = 0


class HostFacts(_Value, frozen=True, kw_only=True):
    """What the plan has to know about this host; found once by `runtime.facts`, guessed by `plan` without root."""

    node_name: str
    node_ips: tuple[str, ...] = ()
    cpus: int
    memory_bytes: int
    cgroup_version: int  # 1 (also hybrid) or 2
    cgroup_controllers: tuple[str, ...] = ()
    cgroup_mounts: dict[str, str] = {}  # v1: controller -> mount point; v2: {"": mount point}
    storage_bytes: int = 0  # of the file system that holds the state
    huge_pages: dict[str, int] = {}  # bytes set aside, by the size of a page: 2Mi, 1Gi
    kernel: str = ""
    resolv_conf: str = ""  # the text of the host's (never 127.0.0.53)
    etc_hosts: str = ""
    mtu: int = 1500
    open_files: int = OPEN_FILES  # the hard limit that a container gets


class NetworkFacts(_Value, frozen=True, kw_only=True):
    """What is leased for one pod. Addresses in CIDR form with the prefix of the bridge, gateways without."""

    subnets: tuple[str, ...] = ()  # of all pods, CIDR: those of the bridges are parts of them
    ipv4: str = ""
    ipv4_gateway: str = ""
    ipv6: str = ""
    ipv6_gateway: str = ""
    bridge: str = ""
    table: str = ""  # the nftables table, family inet
    host_interface: str = ""  # the outer veth end
    mtu: int = 1500
    names: str = ""  # the address at which pods ask for names, without prefix length
