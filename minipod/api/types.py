"""The Kubernetes v1 objects as frozen structs (layer 1, pure); written by scripts/generate-types.

Attributes are the wire names in snake_case (`podIPs` is `pod_ips`); the names on the wire are Kubernetes' verbatim.
A field that Go declares without a pointer has Go's zero value when it is absent (`""`, `0`, `False`, an empty
struct), so presence can be seen only where Kubernetes sees it: there the type is `T | None`. Lists are tuples and
maps are dicts; absent and empty are the same to Kubernetes, and here. `field(default_factory=…)` marks what is
written even when it is empty.

A `Quantity` is text, canonical once it went through `api.load` (see `api.quantity`); a `Time` is RFC 3339 text.
These structs check nothing: `api.load` builds them from text, `api.defaults` and `api.validation` do the rest.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Quantity = Annotated[str, Meta(title="Quantity")]
Time = Annotated[str, Meta(title="Time")]
IntOrString = int | str
Raw = dict[str, Any]

null = type(None)  # as a default factory: a time that is written as null


def _quantity() -> str:
    return "0"


def _nothing() -> tuple[()]:
    return ()


class Object(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """Base of everything in this module."""


class AWSElasticBlockStoreVolumeSource(Object, frozen=True, kw_only=True):
    fs_type: str = ""
    partition: Int32 = 0
    read_only: bool = False
    volume_id: str = field(default_factory=str, name="volumeID")


class Affinity(Object, frozen=True, kw_only=True):
    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAntiAffinity | None = None


class AppArmorProfile(Object, frozen=True, kw_only=True):
    localhost_profile: str | None = None
    type: str = field(default_factory=str)


class AttachedVolume(Object, frozen=True, kw_only=True):
    device_path: str = field(default_factory=str)
    name: str = field(default_factory=str)


class AzureDiskVolumeSource(Object, frozen=True, kw_only=True):
    caching_mode: str | None = None
    disk_name: str = field(default_factory=str)
    disk_uri: str = field(default_factory=str, name="diskURI")
    fs_type: str | None = None
    kind: str | None = None
    read_only: bool | None = None


class AzureFilePersistentVolumeSource(Object, frozen=True, kw_only=True):
    read_only: bool = False
    secret_name: str = field(default_factory=str)
    secret_namespace: str | None = None
    share_name: str = field(default_factory=str)


class AzureFileVolumeSource(Object, frozen=True, kw_only=True):
    read_only: bool = False
    secret_name: str = field(default_factory=str)
    share_name: str = field(default_factory=str)


class Binding(Object, frozen=True, kw_only=True):
    api_version: str = field(default_factory=lambda: "v1")
    kind: str = field(default_factory=lambda: "Binding")
    metadata: ObjectMeta = field(default_factory=lambda: ObjectMeta())
    target: ObjectReference = field(default_factory=lambda: ObjectReference())


class CSIPersistentVolumeSource(Object, frozen=True, kw_only=True):
    controller_expand_secret_ref: SecretReference | None = None
    controller_publish_secret_ref: SecretReference | None = None
    driver: str = field(default_factory=str)
    fs_type: str = ""
    node_expand_secret_ref: SecretReference | None = None
    node_publish_secret_ref: SecretReference | None = None
    node_stage_secret_ref: SecretReference | None = None
    read_only: bool = False
    volume_attributes: dict[str, str] = {}
    volume_handle: str = field(default_factory=str)


class CSIVolumeSource(Object, frozen=True, kw_only=True):
    driver: str = field(default_factory=str)
    fs_type: str | None = None
    node_publish_secret_ref: LocalObjectReference | None = None
    read_only: bool | None = None
    volume_attributes: dict[str, str] = {}


class Capabilities(Object, frozen=True, kw_only=True):
    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class CephFSPersistentVolumeSource(Object, frozen=True, kw_only=True):
    monitors: tuple[str, ...] = field(default_factory=_nothing)
    path: str = ""
    read_only: bool = False
    secret_file: str = ""
    secret_ref: SecretReference | None = None
    user: str = ""


class CephFSVolumeSource(Object, frozen=True, kw_only=True):
    monitors: tuple[str, ...] = field(default_factory=_nothing)
    path: str = ""
    read_only: bool = False
    secret_file: str = ""
    secret_ref: LocalObjectReference | None = None
    user: str = ""


class CinderPersistentVolumeSource(Object, frozen=True, kw_only=True):
    fs_type: str = ""
    read_only: bool = False
    secret_ref: SecretReference | None = None
    volume_id: str = field(default_factory=str, name="volumeID")


class CinderVolumeSource(Object, frozen=True, kw_only=True):
    fs_type: str = ""
    read_only: bool = False
    secret_ref: LocalObjectReference | None = None
    volume_id: str = field(default_factory=str, name="volumeID")


class ClusterTrustBundleProjection(Object, frozen=True, kw_only=True):
    label_selector: LabelSelector | None = None
    name: str | None = None
    optional: bool | None = None
    path: str = field(default_factory=str)
    signer_name: str | None = None


class ConfigMap(Object, frozen=True, kw_only=True):
    """Named texts for volumes and environment variables."""

    api_version: str = field(default_factory=lambda: "v1")
    binary_data: dict[str, bytes] = {}
    data: dict[str, str] = {}
    immutable: bool | None = None
    kind: str = field(default_factory=lambda: "ConfigMap")
    metadata: ObjectMeta = field(default_factory=lambda: ObjectMeta())


class ConfigMapEnvSource(Object, frozen=True, kw_only=True):
    name: str = ""
    optional: bool | None = None


class ConfigMapKeySelector(Object, frozen=True, kw_only=True):
    key: str = field(default_factory=str)
    name: str = ""
    optional: bool | None = None


class ConfigMapNodeConfigSource(Object, frozen=True, kw_only=True):
    kubelet_config_key: str = field(default_factory=str)
    name: str = field(default_factory=str)
    namespace: str = field(default_factory=str)
    resource_version: str = ""
    uid: str = ""


class ConfigMapProjection(Object, frozen=True, kw_only=True):
    items: tuple[KeyToPath, ...] = ()
    name: str = ""
    optional: bool | None = None


class ConfigMapVolumeSource(Object, frozen=True, kw_only=True):
    default_mode: Int32 | None = None
    items: tuple[KeyToPath, ...] = ()
    name: str = ""
    optional: bool | None = None


class Container(Object, frozen=True, kw_only=True):
    """One process tree with an image of its own; also an init container."""

    args: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFromSource, ...] = ()
    image: str = ""
    image_pull_policy: str = ""
    lifecycle: Lifecycle | None = None
    liveness_probe: Probe | None = None
    name: str = field(default_factory=str)
    ports: tuple[ContainerPort, ...] = ()
    readiness_probe: Probe | None = None
    resize_policy: tuple[ContainerResizePolicy, ...] = ()
    resources: ResourceRequirements = field(default_factory=lambda: ResourceRequirements())
    restart_policy: str | None = None
    restart_policy_rules: tuple[ContainerRestartRule, ...] = ()
    security_context: SecurityContext | None = None
    startup_probe: Probe | None = None
    stdin: bool = False
    stdin_once: bool = False
    termination_message_path: str = ""
    termination_message_policy: str = ""
    tty: bool = False
    volume_devices: tuple[VolumeDevice, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    working_dir: str = ""


class ContainerExtendedResourceRequest(Object, frozen=True, kw_only=True):
    container_name: str = field(default_factory=str)
    request_name: str = field(default_factory=str)
    resource_name: str = field(default_factory=str)


class ContainerImage(Object, frozen=True, kw_only=True):
    names: tuple[str, ...] = field(default_factory=_nothing)
    size_bytes: Int64 = 0


class ContainerPort(Object, frozen=True, kw_only=True):
    container_port: Int32 = field(default_factory=int)
    host_ip: str = field(default="", name="hostIP")
    host_port: Int32 = 0
    name: str = ""
    protocol: str = ""


class ContainerResizePolicy(Object, frozen=True, kw_only=True):
    resource_name: str = field(default_factory=str)
    restart_policy: str = field(default_factory=str)


class ContainerRestartRule(Object, frozen=True, kw_only=True):
    action: str = ""
    exit_codes: ContainerRestartRuleOnExitCodes | None = None


class ContainerRestartRuleOnExitCodes(Object, frozen=True, kw_only=True):
    operator: str = ""
    values: tuple[Int32, ...] = ()


class ContainerState(Object, frozen=True, kw_only=True):
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None
    waiting: ContainerStateWaiting | None = None


class ContainerStateRunning(Object, frozen=True, kw_only=True):
    started_at: Time | None = field(default_factory=null)


class ContainerStateTerminated(Object, frozen=True, kw_only=True):
    container_id: str = field(default="", name="containerID")
    exit_code: Int32 = field(default_factory=int)
    finished_at: Time | None = field(default_factory=null)
    message: str = ""
    reason: str = ""
    signal: Int32 = 0
    started_at: Time | None = field(default_factory=null)


class ContainerStateWaiting(Object, frozen=True, kw_only=True):
    message: str = ""
    reason: str = ""


class ContainerStatus(Object, frozen=True, kw_only=True):
    allocated_resources: dict[str, Quantity] = {}
    allocated_resources_status: tuple[ResourceStatus, ...] = ()
    container_id: str = field(default="", name="containerID")
    image: str = field(default_factory=str)
    image_id: str = field(default_factory=str, name="imageID")
    last_state: ContainerState = field(default_factory=lambda: ContainerState())
    name: str = field(default_factory=str)
    ready: bool = field(default_factory=bool)
    resources: ResourceRequirements | None = None
    restart_count: Int32 = field(default_factory=int)
    started: bool | None = None
    state: ContainerState = field(default_factory=lambda: ContainerState())
    stop_signal: str | None = None
    user: ContainerUser | None = None
    volume_mounts: tuple[VolumeMountStatus, ...] = ()


class ContainerUser(Object, frozen=True, kw_only=True):
    linux: LinuxContainerUser | None = None


class DaemonEndpoint(Object, frozen=True, kw_only=True):
    port: Int32 = field(default_factory=int, name="Port")


class DownwardAPIProjection(Object, frozen=True, kw_only=True):
    items: tuple[DownwardAPIVolumeFile, ...] = ()


class DownwardAPIVolumeFile(Object, frozen=True, kw_only=True):
    field_ref: ObjectFieldSelector | None = None
    mode: Int32 | None = None
    path: str = field(default_factory=str)
    resource_field_ref: ResourceFieldSelector | None = None


class DownwardAPIVolumeSource(Object, frozen=True, kw_only=True):
    default_mode: Int32 | None = None
    items: tuple[DownwardAPIVolumeFile, ...] = ()


class EmptyDirVolumeSource(Object, frozen=True, kw_only=True):
    """A directory that lives as long as its pod."""

    medium: str = ""
    size_limit: Quantity | None = None


class EnvFromSource(Object, frozen=True, kw_only=True):
    config_map_ref: ConfigMapEnvSource | None = None
    prefix: str = ""
    secret_ref: SecretEnvSource | None = None


class EnvVar(Object, frozen=True, kw_only=True):
    name: str = field(default_factory=str)
    value: str = ""
    value_from: EnvVarSource | None = None


class EnvVarSource(Object, frozen=True, kw_only=True):
    config_map_key_ref: ConfigMapKeySelector | None = None
    field_ref: ObjectFieldSelector | None = None
    file_key_ref: FileKeySelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    secret_key_ref: SecretKeySelector | None = None


class EphemeralContainer(Object, frozen=True, kw_only=True):
    """A container added to a running pod for debugging."""

    args: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFromSource, ...] = ()
    image: str = ""
    image_pull_policy: str = ""
    lifecycle: Lifecycle | None = None
    liveness_probe: Probe | None = None
    name: str = field(default_factory=str)
    ports: tuple[ContainerPort, ...] = ()
    readiness_probe: Probe | None = None
    resize_policy: tuple[ContainerResizePolicy, ...] = ()
    resources: ResourceRequirements = field(default_factory=lambda: ResourceRequirements())
    restart_policy: str | None = None
    restart_policy_rules: tuple[ContainerRestartRule, ...] = ()
    security_context: SecurityContext | None = None
    startup_probe: Probe | None = None
    stdin: bool = False
    stdin_once: bool = False
    target_container_name: str = ""
    termination_message_path: str = ""
    termination_message_policy: str = ""
    tty: bool = False
    volume_devices: tuple[VolumeDevice, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    working_dir: str = ""


class EphemeralVolumeSource(Object, frozen=True, kw_only=True):
    volume_claim_template: PersistentVolumeClaimTemplate | None = None


class Event(Object, frozen=True, kw_only=True):
    action: str = ""
    api_version: str = field(default_factory=lambda: "v1")
    count: Int32 = 0
    event_time: Time | None = field(default_factory=null)
    first_timestamp: Time | None = field(default_factory=null)
    involved_object: ObjectReference = field(default_factory=lambda: ObjectReference())
    kind: str = field(default_factory=lambda: "Event")
    last_timestamp: Time | None = field(default_factory=null)
    message: str = ""
    metadata: ObjectMeta = field(default_factory=lambda: ObjectMeta())
    reason: str = ""
    related: ObjectReference | None = None
    reporting_component: str = field(default_factory=str)
    reporting_instance: str = field(default_factory=str)
    series: EventSeries | None = None
    source: EventSource = field(default_factory=lambda: EventSource())
    type: str = ""


class EventSeries(Object, frozen=True, kw_only=True):
    count: Int32 = 0
    last_observed_time: Time | None = field(default_factory=null)


class EventSource(Object, frozen=True, kw_only=True):
    component: str = ""
    host: str = ""


class ExecAction(Object, frozen=True, kw_only=True):
    command: tuple[str, ...] = ()


class FCVolumeSource(Object, frozen=True, kw_only=True):
    fs_type: str = ""
    lun: Int32 | None = None
    read_only: bool = False
    target_wwns: tuple[str, ...] = field(default=(), name="targetWWNs")
    wwids: tuple[str, ...] = ()


class FileKeySelector(Object, frozen=True, kw_only=True):
    key: str = field(default_factory=str)
    optional: bool | None = None
    path: str = field(default_factory=str)
    volume_name: str = field(default_factory=str)


class FlexPersistentVolumeSource(Object, frozen=True, kw_only=True):
    driver: str = field(default_factory=str)
    fs_type: str = ""
    options: dict[str, str] = {}
    read_only: bool = False
    secret_ref: SecretReference | None = None


class FlexVolumeSource(Object, frozen=True, kw_only=True):
    driver: str = field(default_factory=str)
    fs_type: str = ""
    options: dict[str, str] = {}
    read_only: bool = False
    secret_ref: LocalObjectReference | None = None


class FlockerVolumeSource(Object, frozen=True, kw_only=True):
    dataset_name: str = ""
    dataset_uuid: str = field(default="", name="datasetUUID")


class GCEPersistentDiskVolumeSource(Object, frozen=True, kw_only=True):
    fs_type: str = ""
    partition: Int32 = 0
    pd_name: str = field(default_factory=str)
    read_only: bool = False


class GRPCAction(Object, frozen=True, kw_only=True):
    port: Int32 = field(default_factory=int)
    service: str | None = None


class GitRepoVolumeSource(Object, frozen=True, kw_only=True):
    directory: str = ""
    repository: str = field(default_factory=str)
    revision: str = ""


class GlusterfsPersistentVolumeSource(Object, frozen=True, kw_only=True):
    endpoints: str = field(default_factory=str)
    endpoints_namespace: str | None = None
    path: str = field(default_factory=str)
    read_only: bool = False


class GlusterfsVolumeSource(Object, frozen=True, kw_only=True):
    endpoints: str = field(default_factory=str)
    path: str = field(default_factory=str)
    read_only: bool = False


class HTTPGetAction(Object, frozen=True, kw_only=True):
    host: str = ""
    http_headers: tuple[HTTPHeader, ...] = ()
    path: str = ""
    port: IntOrString = field(default_factory=int)
    scheme: str = ""


class HTTPHeader(Object, frozen=True, kw_only=True):
    name: str = field(default_factory=str)
    value: str = field(default_factory=str)


class HostAlias(Object, frozen=True, kw_only=True):
    hostnames: tuple[str, ...] = ()
    ip: str = field(default_factory=str)


class HostIP(Object, frozen=True, kw_only=True):
    ip: str = field(default_factory=str)


class HostPathVolumeSource(Object, frozen=True, kw_only=True):
    """A file or directory of the host."""

    path: str = field(default_factory=str)
    type: str | None = None


class ISCSIPersistentVolumeSource(Object, frozen=True, kw_only=True):
    chap_auth_discovery: bool = False
    chap_auth_session: bool = False
    fs_type: str = ""
    initiator_name: str | None = None
    iqn: str = field(default_factory=str)
    iscsi_interface: str = ""
    lun: Int32 = field(default_factory=int)
    portals: tuple[str, ...] = ()
    read_only: bool = False
    secret_ref: SecretReference | None = None
    target_portal: str = field(default_factory=str)


class ISCSIVolumeSource(Object, frozen=True, kw_only=True):
    chap_auth_discovery: bool = False
    chap_auth_session: bool = False
    fs_type: str = ""
    initiator_name: str | None = None
    iqn: str = field(default_factory=str)
    iscsi_interface: str = ""
    lun: Int32 = field(default_factory=int)
    portals: tuple[str, ...] = ()
    read_only: bool = False
    secret_ref: LocalObjectReference | None = None
    target_portal: str = field(default_factory=str)


class ImageVolumeSource(Object, frozen=True, kw_only=True):
    pull_policy: str = ""
    reference: str = ""


class ImageVolumeStatus(Object, frozen=True, kw_only=True):
    image_ref: str = ""


class KeyToPath(Object, frozen=True, kw_only=True):
    key: str = field(default_factory=str)
    mode: Int32 | None = None
    path: str = field(default_factory=str)


class Lifecycle(Object, frozen=True, kw_only=True):
    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None


class LifecycleHandler(Object, frozen=True, kw_only=True):
    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    sleep: SleepAction | None = None
    tcp_socket: TCPSocketAction | None = None


class LinuxContainerUser(Object, frozen=True, kw_only=True):
    gid: Int64 = field(default_factory=int)
    supplemental_groups: tuple[Int64, ...] = ()
    uid: Int64 = field(default_factory=int)


class LocalObjectReference(Object, frozen=True, kw_only=True):
    name: str = ""


class LocalVolumeSource(Object, frozen=True, kw_only=True):
    fs_type: str | None = None
    path: str = field(default_factory=str)


class ModifyVolumeStatus(Object, frozen=True, kw_only=True):
    status: str = field(default_factory=str)
    target_volume_attributes_class_name: str = ""


class NFSVolumeSource(Object, frozen=True, kw_only=True):
    path: str = field(default_factory=str)
    read_only: bool = False
    server: str = field(default_factory=str)


class Namespace(Object, frozen=True, kw_only=True):
    api_version: str = field(default_factory=lambda: "v1")
    kind: str = field(default_factory=lambda: "Namespace")
    metadata: ObjectMeta = field(default_factory=lambda: ObjectMeta())
    spec: NamespaceSpec = field(default_factory=lambda: NamespaceSpec())
    status: NamespaceStatus = field(default_factory=lambda: NamespaceStatus())


class NamespaceCondition(Object, frozen=True, kw_only=True):
    last_transition_time: Time | None = field(default_factory=null)
    message: str = ""
    reason: str = ""
    status: str = field(default_factory=str)
    type: str = field(default_factory=str)


class NamespaceSpec(Object, frozen=True, kw_only=True):
    finalizers: tuple[str, ...] = ()


class NamespaceStatus(Object, frozen=True, kw_only=True):
    conditions: tuple[NamespaceCondition, ...] = ()
    phase: str = ""


class Node(Object, frozen=True, kw_only=True):
    api_version: str = field(default_factory=lambda: "v1")
    kind: str = field(default_factory=lambda: "Node")
    metadata: ObjectMeta = field(default_factory=lambda: ObjectMeta())
    spec: NodeSpec = field(default_factory=lambda: NodeSpec())
    status: NodeStatus = field(default_factory=lambda: NodeStatus())


class NodeAddress(Object, frozen=True, kw_only=True):
    address: str = field(default_factory=str)
    type: str = field(default_factory=str)


class NodeAffinity(Object, frozen=True, kw_only=True):
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredSchedulingTerm, ...] = ()
    required_during_scheduling_ignored_during_execution: NodeSelector | None = None


class NodeAllocatableResourceClaimStatus(Object, frozen=True, kw_only=True):
    containers: tuple[str, ...] = ()
    resource_claim_name: str = field(default_factory=str)
    resources: dict[str, Quantity] = {}


class NodeCondition(Object, frozen=True, kw_only=True):
    last_heartbeat_time: Time | None = field(default_factory=null)
    last_transition_time: Time | None = field(default_factory=null)
    message: str = ""
    reason: str = ""
    status: str = field(default_factory=str)
    type: str = field(default_factory=str)


class NodeConfigSource(Object, frozen=True, kw_only=True):
    config_map: ConfigMapNodeConfigSource | None = None


class NodeConfigStatus(Object, frozen=True, kw_only=True):
    active: NodeConfigSource | None = None
    assigned: NodeConfigSource | None = None
    error: str = ""
    last_known_good: NodeConfigSource | None = None


class NodeDaemonEndpoints(Object, frozen=True, kw_only=True):
    kubelet_endpoint: DaemonEndpoint = field(default_factory=lambda: DaemonEndpoint())


class NodeFeatures(Object, frozen=True, kw_only=True):
    supplemental_groups_policy: bool | None = None


class NodeRuntimeHandler(Object, frozen=True, kw_only=True):
    features: NodeRuntimeHandlerFeatures | None = None
    name: str = field(default_factory=str)


class NodeRuntimeHandlerFeatures(Object, frozen=True, kw_only=True):
    recursive_read_only_mounts: bool | None = None
    user_namespaces: bool | None = None


class NodeSelector(Object, frozen=True, kw_only=True):
    node_selector_terms: tuple[NodeSelectorTerm, ...] = field(default_factory=_nothing)


class NodeSelectorRequirement(Object, frozen=True, kw_only=True):
    key: str = field(default_factory=str)
    operator: str = field(default_factory=str)
    values: tuple[str, ...] = ()


class NodeSelectorTerm(Object, frozen=True, kw_only=True):
    match_expressions: tuple[NodeSelectorRequirement, ...] = ()
    match_fields: tuple[NodeSelectorRequirement, ...] = ()


class NodeSpec(Object, frozen=True, kw_only=True):
    config_source: NodeConfigSource | None = None
    external_id: str = field(default="", name="externalID")
    pod_cidr: str = field(default="", name="podCIDR")
    pod_cidrs: tuple[str, ...] = field(default=(), name="podCIDRs")
    provider_id: str = field(default="", name="providerID")
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False


class NodeStatus(Object, frozen=True, kw_only=True):
    addresses: tuple[NodeAddress, ...] = ()
    allocatable: dict[str, Quantity] = {}
    capacity: dict[str, Quantity] = {}
    conditions: tuple[NodeCondition, ...] = ()
    config: NodeConfigStatus | None = None
    daemon_endpoints: NodeDaemonEndpoints = field(default_factory=lambda: NodeDaemonEndpoints())
    declared_features: tuple[str, ...] = ()
    features: NodeFeatures | None = None
    images: tuple[ContainerImage, ...] = ()
    node_info: NodeSystemInfo = field(default_factory=lambda: NodeSystemInfo())
    phase: str = ""
    runtime_handlers: tuple[NodeRuntimeHandler, ...] = ()
    volumes_attached: tuple[AttachedVolume, ...] = ()
    volumes_in_use: tuple[str, ...] = ()


class NodeSwapStatus(Object, frozen=True, kw_only=True):
    capacity: Int64 | None = None


class NodeSystemInfo(Object, frozen=True, kw_only=True):
    architecture: str = field(default_factory=str)
    boot_id: str = field(default_factory=str, name="bootID")
    container_runtime_version: str = field(default_factory=str)
    kernel_version: str = field(default_factory=str)
    kube_proxy_version: str = field(default_factory=str)
    kubelet_version: str = field(default_factory=str)
    machine_id: str = field(default_factory=str, name="machineID")
    operating_system: str = field(default_factory=str)
    os_image: str = field(default_factory=str)
    swap: NodeSwapStatus | None = None
    system_uuid: str = field(default_factory=str, name="systemUUID")


class ObjectFieldSelector(Object, frozen=True, kw_only=True):
    api_version: str = ""
    field_path: str = field(default_factory=str)


class ObjectReference(Object, frozen=True, kw_only=True):
    api_version: str = ""
    field_path: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    uid: str = ""


class PersistentVolume(Object, frozen=True, kw_only=True):
    api_version: str = field(default_factory=lambda: "v1")
    kind: str = field(default_factory=lambda: "PersistentVolume")
    metadata: ObjectMeta = field(default_factory=lambda: ObjectMeta())
    spec: PersistentVolumeSpec = field(default_factory=lambda: PersistentVolumeSpec())
    status: PersistentVolumeStatus = field(default_factory=lambda: PersistentVolumeStatus())


class PersistentVolumeClaim(Object, frozen=True, kw_only=True):
    api_version: str = field(default_factory=lambda: "v1")
    kind: str = field(default_factory=lambda: "PersistentVolumeClaim")
    metadata: ObjectMeta = field(default_factory=lambda: ObjectMeta())
    spec: PersistentVolumeClaimSpec = field(default_factory=lambda: PersistentVolumeClaimSpec())
    status: PersistentVolumeClaimStatus = field(default_factory=lambda: PersistentVolumeClaimStatus())


class PersistentVolumeClaimCondition(Object, frozen=True, kw_only=True):
    last_probe_time: Time | None = field(default_factory=null)
    last_transition_time: Time | None = field(default_factory=null)
    message: str = ""
    reason: str = ""
    status: str = field(default_factory=str)
    type: str = field(default_factory=str)


class PersistentVolumeClaimSpec(Object, frozen=True, kw_only=True):
    access_modes: tuple[str, ...] = ()
    data_source: TypedLocalObjectReference | None = None
    data_source_ref: TypedObjectReference | None = None
    resources: VolumeResourceRequirements = field(default_factory=lambda: VolumeResourceRequirements())
    selector: LabelSelector | None = None
    storage_class_name: str | None = None
    volume_attributes_class_name: str | None = None
    volume_mode: str | None = None
    volume_name: str = ""


class PersistentVolumeClaimStatus(Object, frozen=True, kw_only=True):
    access_modes: tuple[str, ...] = ()
    allocated_resource_statuses: dict[str, str] = {}
    allocated_resources: dict[str, Quantity] = {}
    capacity: dict[str, Quantity] = {}
    conditions: tuple[PersistentVolumeClaimCondition, ...] = ()
    current_volume_attributes_class_name: str | None = None
    modify_volume_status: ModifyVolumeStatus | None = None
    phase: str = ""


class PersistentVolumeClaimTemplate(Object, frozen=True, kw_only=True):
    metadata: ObjectMeta = field(default_factory=lambda: ObjectMeta())
    spec: PersistentVolumeClaimSpec = field(default_factory=lambda: PersistentVolumeClaimSpec())


class PersistentVolumeClaimVolumeSource(Object, frozen=True, kw_only=True):
    claim_name: str = field(default_factory=str)
    read_only: bool = False


class PersistentVolumeSpec(Object, frozen=True, kw_only=True):
    access_modes: tuple[str, ...] = ()
    aws_elastic_block_store: AWSElasticBlockStoreVolumeSource | None = None
    azure_disk: AzureDiskVolumeSource | None = None
    azure_file: AzureFilePersistentVolumeSource | None = None
    capacity: dict[str, Quantity] = {}
    cephfs: CephFSPersistentVolumeSource | None = None
    cinder: CinderPersistentVolumeSource | None = None
    claim_ref: ObjectReference | None = None
    csi: CSIPersistentVolumeSource | None = None
    fc: FCVolumeSource | None = None
    flex_volume: FlexPersistentVolumeSource | None = None
    flocker: FlockerVolumeSource | None = None
    gce_persistent_disk: GCEPersistentDiskVolumeSource | None = None
    glusterfs: GlusterfsPersistentVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None
    iscsi: ISCSIPersistentVolumeSource | None = None
    local: LocalVolumeSource | None = None
    mount_options: tuple[str, ...] = ()
    nfs: NFSVolumeSource | None = None
    node_affinity: VolumeNodeAffinity | None = None
    persistent_volume_reclaim_policy: str = ""
    photon_persistent_disk: PhotonPersistentDiskVolumeSource | None = None
    portworx_volume: PortworxVolumeSource | None = None
    quobyte: QuobyteVolumeSource | None = None
    rbd: RBDPersistentVolumeSource | None = None
    scale_io: ScaleIOPersistentVolumeSource | None = field(default=None, name="scaleIO")
    storage_class_name: str = ""
    storageos: StorageOSPersistentVolumeSource | None = None
    volume_attributes_class_name: str | None = None
    volume_mode: str | None = None
    vsphere_volume: VsphereVirtualDiskVolumeSource | None = None


class PersistentVolumeStatus(Object, frozen=True, kw_only=True):
    last_phase_transition_time: Time | None = None
    message: str = ""
    phase: str = ""
    reason: str = ""


class PhotonPersistentDiskVolumeSource(Object, frozen=True, kw_only=True):
    fs_type: str = ""
    pd_id: str = field(default_factory=str, name="pdID")


class Pod(Object, frozen=True, kw_only=True):
    """Containers that share a network, volumes and a lifetime."""

    api_version: str = field(default_factory=lambda: "v1")
    kind: str = field(default_factory=lambda: "Pod")
    metadata: ObjectMeta = field(default_factory=lambda: ObjectMeta())
    spec: PodSpec = field(default_factory=lambda: PodSpec())
    status: PodStatus = field(default_factory=lambda: PodStatus())


class PodAffinity(Object, frozen=True, kw_only=True):
    preferred_during_scheduling_ignored_during_execution: tuple[WeightedPodAffinityTerm, ...] = ()
    required_during_scheduling_ignored_during_execution: tuple[PodAffinityTerm, ...] = ()


class PodAffinityTerm(Object, frozen=True, kw_only=True):
    label_selector: LabelSelector | None = None
    match_label_keys: tuple[str, ...] = ()
    mismatch_label_keys: tuple[str, ...] = ()
    namespace_selector: LabelSelector | None = None
    namespaces: tuple[str, ...] = ()
    topology_key: str = field(default_factory=str)


class PodAntiAffinity(Object, frozen=True, kw_only=True):
    preferred_during_scheduling_ignored_during_execution: tuple[WeightedPodAffinityTerm, ...] = ()
    required_during_scheduling_ignored_during_execution: tuple[PodAffinityTerm, ...] = ()


class PodCertificateProjection(Object, frozen=True, kw_only=True):
    certificate_chain_path: str = ""
    credential_bundle_path: str = ""
    key_path: str = ""
    key_type: str = ""
    max_expiration_seconds: Int32 | None = None
    signer_name: str = ""
    user_annotations: dict[str, str] = {}


class PodCondition(Object, frozen=True, kw_only=True):
    last_probe_time: Time | None = field(default_factory=null)
    last_transition_time: Time | None = field(default_factory=null)
    message: str = ""
    observed_generation: Int64 = 0
    reason: str = ""
    status: str = field(default_factory=str)
    type: str = field(default_factory=str)


class PodDNSConfig(Object, frozen=True, kw_only=True):
    nameservers: tuple[str, ...] = ()
    options: tuple[PodDNSConfigOption, ...] = ()
    searches: tuple[str, ...] = ()


class PodDNSConfigOption(Object, frozen=True, kw_only=True):
    name: str = ""
    value: str | None = None


class PodExtendedResourceClaimStatus(Object, frozen=True, kw_only=True):
    request_mappings: tuple[ContainerExtendedResourceRequest, ...] = field(default_factory=_nothing)
    resource_claim_name: str = field(default_factory=str)


class PodIP(Object, frozen=True, kw_only=True):
    ip: str = field(default_factory=str)


class PodList(Object, frozen=True, kw_only=True):
    api_version: str = field(default_factory=lambda: "v1")
    items: tuple[Pod, ...] = field(default_factory=_nothing)
    kind: str = field(default_factory=lambda: "PodList")
    metadata: ListMeta = field(default_factory=lambda: ListMeta())


class PodOS(Object, frozen=True, kw_only=True):
    name: str = field(default_factory=str)


class PodReadinessGate(Object, frozen=True, kw_only=True):
    condition_type: str = field(default_factory=str)


class PodResourceClaim(Object, frozen=True, kw_only=True):
    name: str = field(default_factory=str)
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None


class PodResourceClaimStatus(Object, frozen=True, kw_only=True):
    name: str = field(default_factory=str)
    resource_claim_name: str | None = None


class PodSchedulingGate(Object, frozen=True, kw_only=True):
    name: str = field(default_factory=str)


class PodSchedulingGroup(Object, frozen=True, kw_only=True):
    pod_group_name: str | None = None


class PodSecurityContext(Object, frozen=True, kw_only=True):
    app_armor_profile: AppArmorProfile | None = None
    fs_group: Int64 | None = None
    fs_group_change_policy: str | None = None
    run_as_group: Int64 | None = None
    run_as_non_root: bool | None = None
    run_as_user: Int64 | None = None
    se_linux_change_policy: str | None = None
    se_linux_options: SELinuxOptions | None = None
    seccomp_profile: SeccompProfile | None = None
    supplemental_groups: tuple[Int64, ...] = ()
    supplemental_groups_policy: str | None = None
    sysctls: tuple[Sysctl, ...] = ()
    windows_options: WindowsSecurityContextOptions | None = None


class PodSpec(Object, frozen=True, kw_only=True):
    """The desired state."""

    active_deadline_seconds: Int64 | None = None
    affinity: Affinity | None = None
    automount_service_account_token: bool | None = None
    containers: tuple[Container, ...] = field(default_factory=_nothing)
    dns_config: PodDNSConfig | None = None
    dns_policy: str = ""
    enable_service_links: bool | None = None
    ephemeral_containers: tuple[EphemeralContainer, ...] = ()
    host_aliases: tuple[HostAlias, ...] = ()
    host_ipc: bool = field(default=False, name="hostIPC")
    host_network: bool = False
    host_pid: bool = field(default=False, name="hostPID")
    host_users: bool | None = None
    hostname: str = ""
    hostname_override: str | None = None
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    init_containers: tuple[Container, ...] = ()
    node_name: str = ""
    node_selector: dict[str, str] = {}
    os: PodOS | None = None
    overhead: dict[str, Quantity] = {}
    preemption_policy: str | None = None
    priority: Int32 | None = None
    priority_class_name: str = ""
    readiness_gates: tuple[PodReadinessGate, ...] = ()
    resource_claims: tuple[PodResourceClaim, ...] = ()
    resources: ResourceRequirements | None = None
    restart_policy: str = ""
    runtime_class_name: str | None = None
    scheduler_name: str = ""
    scheduling_gates: tuple[PodSchedulingGate, ...] = ()
    scheduling_group: PodSchedulingGroup | None = None
    security_context: PodSecurityContext | None = None
    service_account: str = ""
    service_account_name: str = ""
    set_hostname_as_fqdn: bool | None = field(default=None, name="setHostnameAsFQDN")
    share_process_namespace: bool | None = None
    subdomain: str = ""
    termination_grace_period_seconds: Int64 | None = None
    tolerations: tuple[Toleration, ...] = ()
    topology_spread_constraints: tuple[TopologySpreadConstraint, ...] = ()
    volumes: tuple[Volume, ...] = ()


class PodStatus(Object, frozen=True, kw_only=True):
    """The observed state."""

    allocated_resources: dict[str, Quantity] = {}
    conditions: tuple[PodCondition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    ephemeral_container_statuses: tuple[ContainerStatus, ...] = ()
    extended_resource_claim_status: PodExtendedResourceClaimStatus | None = None
    host_ip: str = field(default="", name="hostIP")
    host_ips: tuple[HostIP, ...] = field(default=(), name="hostIPs")
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    message: str = ""
    node_allocatable_resource_claim_statuses: tuple[NodeAllocatableResourceClaimStatus, ...] = ()
    nominated_node_name: str = ""
    observed_generation: Int64 = 0
    phase: str = ""
    pod_ip: str = field(default="", name="podIP")
    pod_ips: tuple[PodIP, ...] = field(default=(), name="podIPs")
    qos_class: str = ""
    reason: str = ""
    resize: str = ""
    resource_claim_statuses: tuple[PodResourceClaimStatus, ...] = ()
    resources: ResourceRequirements | None = None
    start_time: Time | None = None


class PortworxVolumeSource(Object, frozen=True, kw_only=True):
    fs_type: str = ""
    read_only: bool = False
    volume_id: str = field(default_factory=str, name="volumeID")


class PreferredSchedulingTerm(Object, frozen=True, kw_only=True):
    preference: NodeSelectorTerm = field(default_factory=lambda: NodeSelectorTerm())
    weight: Int32 = field(default_factory=int)


class Probe(Object, frozen=True, kw_only=True):
    """A periodic question to a container."""

    exec: ExecAction | None = None
    failure_threshold: Int32 = 0
    grpc: GRPCAction | None = None
    http_get: HTTPGetAction | None = None
    initial_delay_seconds: Int32 = 0
    period_seconds: Int32 = 0
    success_threshold: Int32 = 0
    tcp_socket: TCPSocketAction | None = None
    termination_grace_period_seconds: Int64 | None = None
    timeout_seconds: Int32 = 0


class ProjectedVolumeSource(Object, frozen=True, kw_only=True):
    default_mode: Int32 | None = None
    sources: tuple[VolumeProjection, ...] | None = field(default_factory=null)


class QuobyteVolumeSource(Object, frozen=True, kw_only=True):
    group: str = ""
    read_only: bool = False
    registry: str = field(default_factory=str)
    tenant: str = ""
    user: str = ""
    volume: str = field(default_factory=str)


class RBDPersistentVolumeSource(Object, frozen=True, kw_only=True):
    fs_type: str = ""
    image: str = field(default_factory=str)
    keyring: str = ""
    monitors: tuple[str, ...] = field(default_factory=_nothing)
    pool: str = ""
    read_only: bool = False
    secret_ref: SecretReference | None = None
    user: str = ""


class RBDVolumeSource(Object, frozen=True, kw_only=True):
    fs_type: str = ""
    image: str = field(default_factory=str)
    keyring: str = ""
    monitors: tuple[str, ...] = field(default_factory=_nothing)
    pool: str = ""
    read_only: bool = False
    secret_ref: LocalObjectReference | None = None
    user: str = ""


class ResourceClaim(Object, frozen=True, kw_only=True):
    name: str = field(default_factory=str)
    request: str = ""


class ResourceFieldSelector(Object, frozen=True, kw_only=True):
    container_name: str = ""
    divisor: Quantity = field(default_factory=_quantity)
    resource: str = field(default_factory=str)


class ResourceHealth(Object, frozen=True, kw_only=True):
    health: str = ""
    message: str | None = None
    resource_id: str = field(default_factory=str, name="resourceID")


class ResourceRequirements(Object, frozen=True, kw_only=True):
    claims: tuple[ResourceClaim, ...] = ()
    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}


class ResourceStatus(Object, frozen=True, kw_only=True):
    name: str = field(default_factory=str)
    resources: tuple[ResourceHealth, ...] = ()


class SELinuxOptions(Object, frozen=True, kw_only=True):
    level: str = ""
    role: str = ""
    type: str = ""
    user: str = ""


class ScaleIOPersistentVolumeSource(Object, frozen=True, kw_only=True):
    fs_type: str = ""
    gateway: str = field(default_factory=str)
    protection_domain: str = ""
    read_only: bool = False
    secret_ref: SecretReference | None = None
    ssl_enabled: bool = False
    storage_mode: str = ""
    storage_pool: str = ""
    system: str = field(default_factory=str)
    volume_name: str = ""


class ScaleIOVolumeSource(Object, frozen=True, kw_only=True):
    fs_type: str = ""
    gateway: str = field(default_factory=str)
    protection_domain: str = ""
    read_only: bool = False
    secret_ref: LocalObjectReference | None = None
    ssl_enabled: bool = False
    storage_mode: str = ""
    storage_pool: str = ""
    system: str = field(default_factory=str)
    volume_name: str = ""


class SeccompProfile(Object, frozen=True, kw_only=True):
    localhost_profile: str | None = None
    type: str = field(default_factory=str)


class Secret(Object, frozen=True, kw_only=True):
    """Named bytes for volumes and environment variables."""

    api_version: str = field(default_factory=lambda: "v1")
    data: dict[str, bytes] = {}
    immutable: bool | None = None
    kind: str = field(default_factory=lambda: "Secret")
    metadata: ObjectMeta = field(default_factory=lambda: ObjectMeta())
    string_data: dict[str, str] = {}
    type: str = ""


class SecretEnvSource(Object, frozen=True, kw_only=True):
    name: str = ""
    optional: bool | None = None


class SecretKeySelector(Object, frozen=True, kw_only=True):
    key: str = field(default_factory=str)
    name: str = ""
    optional: bool | None = None


class SecretProjection(Object, frozen=True, kw_only=True):
    items: tuple[KeyToPath, ...] = ()
    name: str = ""
    optional: bool | None = None


class SecretReference(Object, frozen=True, kw_only=True):
    name: str = ""
    namespace: str = ""


class SecretVolumeSource(Object, frozen=True, kw_only=True):
    default_mode: Int32 | None = None
    items: tuple[KeyToPath, ...] = ()
    optional: bool | None = None
    secret_name: str = ""


class SecurityContext(Object, frozen=True, kw_only=True):
    allow_privilege_escalation: bool | None = None
    app_armor_profile: AppArmorProfile | None = None
    capabilities: Capabilities | None = None
    privileged: bool | None = None
    proc_mount: str | None = None
    read_only_root_filesystem: bool | None = None
    run_as_group: Int64 | None = None
    run_as_non_root: bool | None = None
    run_as_user: Int64 | None = None
    se_linux_options: SELinuxOptions | None = None
    seccomp_profile: SeccompProfile | None = None
    windows_options: WindowsSecurityContextOptions | None = None


class ServiceAccountTokenProjection(Object, frozen=True, kw_only=True):
    audience: str = ""
    expiration_seconds: Int64 | None = None
    path: str = field(default_factory=str)


class SleepAction(Object, frozen=True, kw_only=True):
    seconds: Int64 = field(default_factory=int)


class StorageOSPersistentVolumeSource(Object, frozen=True, kw_only=True):
    fs_type: str = ""
    read_only: bool = False
    secret_ref: ObjectReference | None = None
    volume_name: str = ""
    volume_namespace: str = ""


class StorageOSVolumeSource(Object, frozen=True, kw_only=True):
    fs_type: str = ""
    read_only: bool = False
    secret_ref: LocalObjectReference | None = None
    volume_name: str = ""
    volume_namespace: str = ""


class Sysctl(Object, frozen=True, kw_only=True):
    name: str = field(default_factory=str)
    value: str = field(default_factory=str)


class TCPSocketAction(Object, frozen=True, kw_only=True):
    host: str = ""
    port: IntOrString = field(default_factory=int)


class Taint(Object, frozen=True, kw_only=True):
    effect: str = field(default_factory=str)
    key: str = field(default_factory=str)
    time_added: Time | None = None
    value: str = ""


class Toleration(Object, frozen=True, kw_only=True):
    effect: str = ""
    key: str = ""
    operator: str = ""
    toleration_seconds: Int64 | None = None
    value: str = ""


class TopologySpreadConstraint(Object, frozen=True, kw_only=True):
    label_selector: LabelSelector | None = None
    match_label_keys: tuple[str, ...] = ()
    max_skew: Int32 = field(default_factory=int)
    min_domains: Int32 | None = None
    node_affinity_policy: str | None = None
    node_taints_policy: str | None = None
    topology_key: str = field(default_factory=str)
    when_unsatisfiable: str = field(default_factory=str)


class TypedLocalObjectReference(Object, frozen=True, kw_only=True):
    api_group: str | None = None
    kind: str = field(default_factory=str)
    name: str = field(default_factory=str)


class TypedObjectReference(Object, frozen=True, kw_only=True):
    api_group: str | None = None
    kind: str = field(default_factory=str)
    name: str = field(default_factory=str)
    namespace: str | None = None


class Volume(Object, frozen=True, kw_only=True):
    """A named volume with exactly one source; without any, an emptyDir."""

    aws_elastic_block_store: AWSElasticBlockStoreVolumeSource | None = None
    azure_disk: AzureDiskVolumeSource | None = None
    azure_file: AzureFileVolumeSource | None = None
    cephfs: CephFSVolumeSource | None = None
    cinder: CinderVolumeSource | None = None
    config_map: ConfigMapVolumeSource | None = None
    csi: CSIVolumeSource | None = None
    downward_api: DownwardAPIVolumeSource | None = field(default=None, name="downwardAPI")
    empty_dir: EmptyDirVolumeSource | None = None
    ephemeral: EphemeralVolumeSource | None = None
    fc: FCVolumeSource | None = None
    flex_volume: FlexVolumeSource | None = None
    flocker: FlockerVolumeSource | None = None
    gce_persistent_disk: GCEPersistentDiskVolumeSource | None = None
    git_repo: GitRepoVolumeSource | None = None
    glusterfs: GlusterfsVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None
    image: ImageVolumeSource | None = None
    iscsi: ISCSIVolumeSource | None = None
    name: str = field(default_factory=str)
    nfs: NFSVolumeSource | None = None
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
    photon_persistent_disk: PhotonPersistentDiskVolumeSource | None = None
    portworx_volume: PortworxVolumeSource | None = None
    projected: ProjectedVolumeSource | None = None
    quobyte: QuobyteVolumeSource | None = None
    rbd: RBDVolumeSource | None = None
    scale_io: ScaleIOVolumeSource | None = field(default=None, name="scaleIO")
    secret: SecretVolumeSource | None = None
    storageos: StorageOSVolumeSource | None = None
    vsphere_volume: VsphereVirtualDiskVolumeSource | None = None


class VolumeDevice(Object, frozen=True, kw_only=True):
    device_path: str = field(default_factory=str)
    name: str = field(default_factory=str)


class VolumeMount(Object, frozen=True, kw_only=True):
    """Where a volume appears in a container."""

    mount_path: str = field(default_factory=str)
    mount_propagation: str | None = None
    name: str = field(default_factory=str)
    read_only: bool = False
    recursive_read_only: str | None = None
    sub_path: str = ""
    sub_path_expr: str = ""


class VolumeMountStatus(Object, frozen=True, kw_only=True):
    mount_path: str = field(default_factory=str)
    name: str = field(default_factory=str)
    read_only: bool = False
    recursive_read_only: str | None = None
    volume_status: VolumeStatus | None = None


class VolumeNodeAffinity(Object, frozen=True, kw_only=True):
    required: NodeSelector | None = None


class VolumeProjection(Object, frozen=True, kw_only=True):
    cluster_trust_bundle: ClusterTrustBundleProjection | None = None
    config_map: ConfigMapProjection | None = None
    downward_api: DownwardAPIProjection | None = field(default=None, name="downwardAPI")
    pod_certificate: PodCertificateProjection | None = None
    secret: SecretProjection | None = None
    service_account_token: ServiceAccountTokenProjection | None = None


class VolumeResourceRequirements(Object, frozen=True, kw_only=True):
    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}


class VolumeStatus(Object, frozen=True, kw_only=True):
    image: ImageVolumeStatus | None = None


class VsphereVirtualDiskVolumeSource(Object, frozen=True, kw_only=True):
    fs_type: str = ""
    storage_policy_id: str = field(default="", name="storagePolicyID")
    storage_policy_name: str = ""
    volume_path: str = field(default_factory=str)


class WeightedPodAffinityTerm(Object, frozen=True, kw_only=True):
    pod_affinity_term: PodAffinityTerm = field(default_factory=lambda: PodAffinityTerm())
    weight: Int32 = field(default_factory=int)


class WindowsSecurityContextOptions(Object, frozen=True, kw_only=True):
    gmsa_credential_spec: str | None = None
    gmsa_credential_spec_name: str | None = None
    host_process: bool | None = None
    run_as_user_name: str | None = None


class LabelSelector(Object, frozen=True, kw_only=True):
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()
    match_labels: dict[str, str] = {}


class LabelSelectorRequirement(Object, frozen=True, kw_only=True):
    key: str = field(default_factory=str)
    operator: str = field(default_factory=str)
    values: tuple[str, ...] = ()


class ListMeta(Object, frozen=True, kw_only=True):
    continue_: str = ""
    remaining_item_count: Int64 | None = None
    resource_version: str = ""
    self_link: str = ""
    shard_info: ShardInfo | None = None


class ManagedFieldsEntry(Object, frozen=True, kw_only=True):
    api_version: str = ""
    fields_type: str = ""
    fields_v1: Raw | None = None
    manager: str = ""
    operation: str = ""
    subresource: str = ""
    time: Time | None = None


class ObjectMeta(Object, frozen=True, kw_only=True):
    """What every object carries: name, namespace, labels, uid …"""

    annotations: dict[str, str] = {}
    creation_timestamp: Time | None = None
    deletion_grace_period_seconds: Int64 | None = None
    deletion_timestamp: Time | None = None
    finalizers: tuple[str, ...] = ()
    generate_name: str = ""
    generation: Int64 = 0
    labels: dict[str, str] = {}
    managed_fields: tuple[ManagedFieldsEntry, ...] = ()
    name: str = ""
    namespace: str = ""
    owner_references: tuple[OwnerReference, ...] = ()
    resource_version: str = ""
    self_link: str = ""
    uid: str = ""


class OwnerReference(Object, frozen=True, kw_only=True):
    api_version: str = field(default_factory=str)
    block_owner_deletion: bool | None = None
    controller: bool | None = None
    kind: str = field(default_factory=str)
    name: str = field(default_factory=str)
    uid: str = field(default_factory=str)


class ShardInfo(Object, frozen=True, kw_only=True):
    selector: str = field(default_factory=str)


class List(Object, frozen=True, kw_only=True):
    """A v1 List: objects of any kind, as plain data (`api.load` returns one document per item)."""

    api_version: str = field(default_factory=lambda: "v1")
    items: tuple[Raw, ...] = field(default_factory=_nothing)
    kind: str = field(default_factory=lambda: "List")
    metadata: ListMeta = field(default_factory=lambda: ListMeta())
