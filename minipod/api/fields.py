"""What minipod does with each field of a Pod (layer 1, pure): the table, and nothing else.

One row per group of fields of a struct. A field whose own row is not SUPPORTED needs no rows for what is inside it.
`tests/unit/test_api_fields.py` fails when a field has no row or two, `docs/support.md` is written from this table
(`scripts/generate-support`). When something becomes supported, move its name to a SUPPORTED row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

SUPPORTED = "supported"
CLUSTER = "cluster-only"  # accepted with one warning, without effect on one host
UNSUPPORTED = "unsupported"  # refused by run and plan, naming the field
SERVER = "set by minipod"  # what a manifest has there on creation is ignored, as by the API server


class Row(msgspec.Struct, frozen=True):
    """`note`: for CLUSTER why it has no effect, for UNSUPPORTED why and what to do instead. `fine`: values of the
    fields that need no message. `when`: the row is about values for which it is true; all others are SUPPORTED."""

    struct: str
    level: str
    names: str
    note: str = ""
    fine: tuple[Any, ...] = ()
    when: Callable[[Any], bool] | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(self.names.split())


_LATER = "not supported yet"
_ONE_NODE = "there is one node and nothing to choose"
_NO_ACCOUNTS = "there are no service accounts here; the name can be read through the downward API"
_NO_TOKENS = "there is no API that it would be for; leave it out"
_CLOUD = "a driver of a cloud or storage cluster; mount it on the host and use hostPath"
_MOUNT_IT = f"{_LATER}; mount it on the host and use hostPath"

ROWS: tuple[Row, ...] = (
    Row("Pod", SUPPORTED, "apiVersion kind metadata spec"),
    Row("Pod", SERVER, "status"),
    Row("ObjectMeta", SUPPORTED, "name namespace labels annotations generateName"),
    Row("ObjectMeta", SERVER, "uid creationTimestamp generation resourceVersion selfLink managedFields"),
    Row("ObjectMeta", SERVER, "deletionTimestamp deletionGracePeriodSeconds"),
    Row("ObjectMeta", CLUSTER, "finalizers ownerReferences", "no controller acts on them; the pod is deleted at once"),
    # the pod
    Row("PodSpec", SUPPORTED, "containers initContainers volumes restartPolicy terminationGracePeriodSeconds"),
    Row("PodSpec", SUPPORTED, "activeDeadlineSeconds schedulingGates readinessGates securityContext resources"),
    Row("PodSpec", SUPPORTED, "hostNetwork hostPID hostIPC shareProcessNamespace overhead"),
    Row("PodSpec", SUPPORTED, "hostname subdomain setHostnameAsFQDN hostnameOverride hostAliases dnsPolicy dnsConfig"),
    Row("PodSpec", SUPPORTED, "serviceAccountName serviceAccount enableServiceLinks nodeName"),
    Row("PodSpec", UNSUPPORTED, "ephemeralContainers", "may not be set on creation; minipod debug adds them"),
    Row(
        "PodSpec",
        UNSUPPORTED,
        "hostUsers",
        f"user namespaces are {_LATER}; leave the field out",
        fine=(True,),
    ),
    Row("PodSpec", SUPPORTED, "os"),
    Row("PodSpec", SUPPORTED, "nodeSelector affinity tolerations"),
    Row("PodSpec", CLUSTER, "topologySpreadConstraints", "one node has nothing to spread over"),
    Row("PodSpec", CLUSTER, "schedulerName", _ONE_NODE, fine=("default-scheduler",)),
    Row("PodSpec", CLUSTER, "priority", "only the order of pods that wait for room follows it", fine=(0,)),
    Row("PodSpec", CLUSTER, "priorityClassName preemptionPolicy", "no pod is evicted for another here"),
    Row("PodSpec", CLUSTER, "schedulingGroup", "gang scheduling is the scheduler's; Kubernetes 1.36 has it off"),
    Row("PodSpec", CLUSTER, "automountServiceAccountToken", _NO_ACCOUNTS, fine=(False,)),
    Row("PodSpec", SUPPORTED, "imagePullSecrets"),
    Row("LocalObjectReference", SUPPORTED, "name"),
    Row("PodSpec", UNSUPPORTED, "runtimeClassName", "there is one runtime; leave the field out"),
    Row(
        "PodSpec",
        UNSUPPORTED,
        "resourceClaims",
        "dynamic resource allocation needs a cluster; use hostPath for devices",
    ),
    Row("PodOS", SUPPORTED, "name"),
    Row("Affinity", SUPPORTED, "nodeAffinity podAffinity podAntiAffinity"),
    *(
        row
        for struct in ("NodeAffinity", "PodAffinity", "PodAntiAffinity")
        for row in (
            Row(struct, SUPPORTED, "requiredDuringSchedulingIgnoredDuringExecution"),
            Row(struct, CLUSTER, "preferredDuringSchedulingIgnoredDuringExecution", _ONE_NODE),
        )
    ),
    Row("NodeSelector", SUPPORTED, "nodeSelectorTerms"),
    Row("NodeSelectorTerm", SUPPORTED, "matchExpressions matchFields"),
    Row("NodeSelectorRequirement", SUPPORTED, "key operator values"),
    Row("PodAffinityTerm", SUPPORTED, "labelSelector namespaceSelector namespaces topologyKey"),
    Row("PodAffinityTerm", SUPPORTED, "matchLabelKeys mismatchLabelKeys"),
    Row("Toleration", SUPPORTED, "key operator value effect"),
    Row("Toleration", CLUSTER, "tolerationSeconds", "no taint is added to a node while pods run on it"),
    Row("HostAlias", SUPPORTED, "ip hostnames"),
    Row("PodDNSConfig", SUPPORTED, "nameservers searches options"),
    Row("PodDNSConfigOption", SUPPORTED, "name value"),
    Row("PodSchedulingGate", SUPPORTED, "name"),
    Row("PodReadinessGate", SUPPORTED, "conditionType"),
    # containers
    Row("Container", SUPPORTED, "name image imagePullPolicy command args workingDir env envFrom ports resources"),
    Row("Container", SUPPORTED, "volumeMounts volumeDevices securityContext lifecycle stdin stdinOnce tty"),
    Row("Container", SUPPORTED, "terminationMessagePath terminationMessagePolicy restartPolicy restartPolicyRules"),
    Row("Container", SUPPORTED, "resizePolicy"),
    Row("Container", SUPPORTED, "livenessProbe readinessProbe startupProbe"),
    Row("Probe", SUPPORTED, "exec httpGet tcpSocket grpc initialDelaySeconds timeoutSeconds periodSeconds"),
    Row("Probe", SUPPORTED, "successThreshold failureThreshold terminationGracePeriodSeconds"),
    Row("TCPSocketAction", SUPPORTED, "host port"),
    Row("GRPCAction", SUPPORTED, "port service"),
    Row("VolumeDevice", SUPPORTED, "name devicePath"),
    Row("ContainerPort", SUPPORTED, "name containerPort hostPort hostIP protocol"),
    Row("ContainerResizePolicy", SUPPORTED, "resourceName restartPolicy"),
    Row("ContainerRestartRule", SUPPORTED, "action exitCodes"),
    Row("ContainerRestartRuleOnExitCodes", SUPPORTED, "operator values"),
    Row(
        "ResourceRequirements",
        CLUSTER,
        "limits requests",
        "only cpu, memory and ephemeral-storage are limited; of others the node must have as much as is requested",
        when=lambda resources: not resources.keys() <= {"cpu", "memory", "ephemeral-storage"},
    ),
    Row("ResourceRequirements", UNSUPPORTED, "claims", "dynamic resource allocation needs a cluster"),
    # environment
    Row("EnvVar", SUPPORTED, "name value valueFrom"),
    Row("EnvVarSource", SUPPORTED, "fieldRef resourceFieldRef configMapKeyRef secretKeyRef fileKeyRef"),
    Row("ConfigMapKeySelector", SUPPORTED, "name key optional"),
    Row("SecretKeySelector", SUPPORTED, "name key optional"),
    Row("FileKeySelector", SUPPORTED, "volumeName path key optional"),
    Row("ObjectFieldSelector", SUPPORTED, "apiVersion fieldPath"),
    Row("ResourceFieldSelector", SUPPORTED, "containerName resource divisor"),
    Row("EnvFromSource", SUPPORTED, "prefix configMapRef secretRef"),
    Row("ConfigMapEnvSource", SUPPORTED, "name optional"),
    Row("SecretEnvSource", SUPPORTED, "name optional"),
    # hooks
    Row("Lifecycle", SUPPORTED, "postStart preStop"),
    Row("Lifecycle", CLUSTER, "stopSignal", "Kubernetes 1.36 drops it (ContainerStopSignals is off); use the image's"),
    Row("LifecycleHandler", SUPPORTED, "exec httpGet sleep"),
    Row("LifecycleHandler", CLUSTER, "tcpSocket", "such a hook fails whenever it runs, as in Kubernetes; use exec"),
    Row("ExecAction", SUPPORTED, "command"),
    Row("HTTPGetAction", SUPPORTED, "host httpHeaders path port scheme"),
    Row("HTTPHeader", SUPPORTED, "name value"),
    Row("SleepAction", SUPPORTED, "seconds"),
    # security
    Row(
        "PodSecurityContext", SUPPORTED, "runAsUser runAsGroup runAsNonRoot supplementalGroups supplementalGroupsPolicy"
    ),
    Row("PodSecurityContext", SUPPORTED, "fsGroup fsGroupChangePolicy sysctls seccompProfile"),
    Row("SecurityContext", SUPPORTED, "runAsUser runAsGroup runAsNonRoot readOnlyRootFilesystem privileged"),
    Row("SecurityContext", SUPPORTED, "allowPrivilegeEscalation capabilities procMount seccompProfile"),
    *(
        row
        for struct in ("PodSecurityContext", "SecurityContext")
        for row in (
            Row(struct, UNSUPPORTED, "seLinuxOptions", "SELinux labels are not supported; leave the field out"),
            Row(struct, UNSUPPORTED, "windowsOptions", "only Linux containers run here"),
            Row(
                struct,
                UNSUPPORTED,
                "appArmorProfile",
                f"AppArmor profiles are {_LATER}; leave the field out or use Unconfined",
                when=lambda profile: profile.type != "Unconfined",
            ),
        )
    ),
    Row("PodSecurityContext", CLUSTER, "seLinuxChangePolicy", "SELinux labels are not supported"),
    Row("AppArmorProfile", SUPPORTED, "type localhostProfile"),
    Row("Capabilities", SUPPORTED, "add drop"),
    Row("SeccompProfile", SUPPORTED, "type localhostProfile"),
    Row("Sysctl", SUPPORTED, "name value"),
    # volumes
    Row("VolumeMount", SUPPORTED, "name mountPath readOnly recursiveReadOnly mountPropagation subPath subPathExpr"),
    Row("Volume", SUPPORTED, "name emptyDir hostPath configMap secret downwardAPI projected"),
    Row("Volume", SUPPORTED, "persistentVolumeClaim ephemeral image nfs"),
    Row("Volume", UNSUPPORTED, "iscsi fc", _MOUNT_IT),
    Row("Volume", UNSUPPORTED, "csi flexVolume", "needs a storage driver of a cluster; use hostPath"),
    Row("Volume", UNSUPPORTED, "gitRepo", "removed from Kubernetes too; clone in an init container"),
    Row(
        "Volume",
        UNSUPPORTED,
        "awsElasticBlockStore azureDisk azureFile cephfs cinder flocker gcePersistentDisk",
        _CLOUD,
    ),
    Row("Volume", UNSUPPORTED, "glusterfs photonPersistentDisk portworxVolume quobyte rbd scaleIO storageos", _CLOUD),
    Row("Volume", UNSUPPORTED, "vsphereVolume", _CLOUD),
    Row("EmptyDirVolumeSource", SUPPORTED, "medium sizeLimit"),
    Row("HostPathVolumeSource", SUPPORTED, "path type"),
    Row("ConfigMapVolumeSource", SUPPORTED, "name items defaultMode optional"),
    Row("SecretVolumeSource", SUPPORTED, "secretName items defaultMode optional"),
    Row("KeyToPath", SUPPORTED, "key path mode"),
    Row("DownwardAPIVolumeSource", SUPPORTED, "items defaultMode"),
    Row("DownwardAPIVolumeFile", SUPPORTED, "path fieldRef resourceFieldRef mode"),
    Row("ProjectedVolumeSource", SUPPORTED, "sources defaultMode"),
    Row("VolumeProjection", SUPPORTED, "configMap secret downwardAPI"),
    Row("VolumeProjection", UNSUPPORTED, "serviceAccountToken", _NO_TOKENS),
    Row("VolumeProjection", UNSUPPORTED, "clusterTrustBundle podCertificate", "there is no cluster that would sign"),
    Row("ConfigMapProjection", SUPPORTED, "name items optional"),
    Row("SecretProjection", SUPPORTED, "name items optional"),
    Row("DownwardAPIProjection", SUPPORTED, "items"),
    Row("PersistentVolumeClaimVolumeSource", SUPPORTED, "claimName readOnly"),
    Row("EphemeralVolumeSource", SUPPORTED, "volumeClaimTemplate"),
    Row("PersistentVolumeClaimTemplate", SUPPORTED, "metadata spec"),
    Row("ImageVolumeSource", SUPPORTED, "reference pullPolicy"),
    Row("NFSVolumeSource", SUPPORTED, "server path readOnly"),
    # objects other than pods
    Row("ConfigMap", SUPPORTED, "apiVersion kind metadata data binaryData immutable"),
    Row("Secret", SUPPORTED, "apiVersion kind metadata data stringData type immutable"),
    Row("Namespace", SUPPORTED, "apiVersion kind metadata spec"),
    Row("Namespace", SERVER, "status"),
    Row("NamespaceSpec", CLUSTER, "finalizers", "no controller acts on them", fine=(("kubernetes",),)),
    Row("PersistentVolumeClaim", SUPPORTED, "apiVersion kind metadata spec"),
    Row("PersistentVolumeClaim", SERVER, "status"),
    Row(
        "PersistentVolumeClaimSpec", SUPPORTED, "accessModes resources selector storageClassName volumeName volumeMode"
    ),
    Row("PersistentVolumeClaimSpec", UNSUPPORTED, "dataSource dataSourceRef", "nothing is there to copy a volume"),
    Row("PersistentVolumeClaimSpec", UNSUPPORTED, "volumeAttributesClassName", "needs a storage driver of a cluster"),
    Row("VolumeResourceRequirements", SUPPORTED, "requests"),
    Row("VolumeResourceRequirements", CLUSTER, "limits", "a directory has no limit; requests choose the volume"),
    Row("LabelSelector", SUPPORTED, "matchLabels matchExpressions"),
    Row("LabelSelectorRequirement", SUPPORTED, "key operator values"),
    Row("PersistentVolume", SUPPORTED, "apiVersion kind metadata spec"),
    Row("PersistentVolume", SERVER, "status"),
    Row("PersistentVolumeSpec", SUPPORTED, "accessModes capacity claimRef hostPath local nfs mountOptions"),
    Row("PersistentVolumeSpec", SUPPORTED, "persistentVolumeReclaimPolicy storageClassName volumeMode"),
    Row("PersistentVolumeSpec", CLUSTER, "nodeAffinity", _ONE_NODE),
    Row("PersistentVolumeSpec", UNSUPPORTED, "volumeAttributesClassName csi flexVolume", "needs a storage driver"),
    Row("PersistentVolumeSpec", UNSUPPORTED, "iscsi fc", _MOUNT_IT),
    Row(
        "PersistentVolumeSpec",
        UNSUPPORTED,
        "awsElasticBlockStore azureDisk azureFile cephfs cinder flocker gcePersistentDisk glusterfs",
        _CLOUD,
    ),
    Row(
        "PersistentVolumeSpec",
        UNSUPPORTED,
        "photonPersistentDisk portworxVolume quobyte rbd scaleIO storageos vsphereVolume",
        _CLOUD,
    ),
    Row("LocalVolumeSource", SUPPORTED, "path"),
    Row("LocalVolumeSource", UNSUPPORTED, "fsType", "a block device is not formatted here; mount it and give the path"),
    Row("ObjectReference", SUPPORTED, "kind namespace name uid apiVersion fieldPath resourceVersion"),
)
