"""How Kubernetes merges lists and maps, by type and field (layer 1, pure); written by scripts/generate-types.

Of the OpenAPI document: `x-kubernetes-list-type` (`atomic`, `set`, `map`) and `x-kubernetes-list-map-keys` are
server-side apply's, `x-kubernetes-patch-merge-key` and `x-kubernetes-patch-strategy` are the strategic merge patch's.
"""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """Of one list. strategies: `merge`, `retainKeys`; without `merge` a patch replaces the list."""

    list_type: str = "atomic"
    map_keys: tuple[str, ...] = ()
    merge_key: str = ""
    strategies: tuple[str, ...] = ()


ATOMIC = Rule()

#: {type: {field: how its list is merged}}; every list of the document is here
LISTS: dict[str, dict[str, Rule]] = {
    "Capabilities": {
        "add": ATOMIC,
        "drop": ATOMIC,
    },
    "CephFSPersistentVolumeSource": {
        "monitors": ATOMIC,
    },
    "CephFSVolumeSource": {
        "monitors": ATOMIC,
    },
    "ConfigMapProjection": {
        "items": ATOMIC,
    },
    "ConfigMapVolumeSource": {
        "items": ATOMIC,
    },
    "Container": {
        "args": ATOMIC,
        "command": ATOMIC,
        "env": Rule(list_type="map", map_keys=("name",), merge_key="name", strategies=("merge",)),
        "envFrom": ATOMIC,
        "ports": Rule(
            list_type="map", map_keys=("containerPort", "protocol"), merge_key="containerPort", strategies=("merge",)
        ),
        "resizePolicy": ATOMIC,
        "restartPolicyRules": ATOMIC,
        "volumeDevices": Rule(list_type="map", map_keys=("devicePath",), merge_key="devicePath", strategies=("merge",)),
        "volumeMounts": Rule(list_type="map", map_keys=("mountPath",), merge_key="mountPath", strategies=("merge",)),
    },
    "ContainerImage": {
        "names": ATOMIC,
    },
    "ContainerRestartRuleOnExitCodes": {
        "values": Rule(list_type="set"),
    },
    "ContainerStatus": {
        "allocatedResourcesStatus": Rule(list_type="map", map_keys=("name",), merge_key="name", strategies=("merge",)),
        "volumeMounts": Rule(list_type="map", map_keys=("mountPath",), merge_key="mountPath", strategies=("merge",)),
    },
    "DownwardAPIProjection": {
        "items": ATOMIC,
    },
    "DownwardAPIVolumeSource": {
        "items": ATOMIC,
    },
    "EphemeralContainer": {
        "args": ATOMIC,
        "command": ATOMIC,
        "env": Rule(list_type="map", map_keys=("name",), merge_key="name", strategies=("merge",)),
        "envFrom": ATOMIC,
        "ports": Rule(
            list_type="map", map_keys=("containerPort", "protocol"), merge_key="containerPort", strategies=("merge",)
        ),
        "resizePolicy": ATOMIC,
        "restartPolicyRules": ATOMIC,
        "volumeDevices": Rule(list_type="map", map_keys=("devicePath",), merge_key="devicePath", strategies=("merge",)),
        "volumeMounts": Rule(list_type="map", map_keys=("mountPath",), merge_key="mountPath", strategies=("merge",)),
    },
    "ExecAction": {
        "command": ATOMIC,
    },
    "FCVolumeSource": {
        "targetWWNs": ATOMIC,
        "wwids": ATOMIC,
    },
    "HTTPGetAction": {
        "httpHeaders": ATOMIC,
    },
    "HostAlias": {
        "hostnames": ATOMIC,
    },
    "ISCSIPersistentVolumeSource": {
        "portals": ATOMIC,
    },
    "ISCSIVolumeSource": {
        "portals": ATOMIC,
    },
    "LinuxContainerUser": {
        "supplementalGroups": ATOMIC,
    },
    "NamespaceSpec": {
        "finalizers": ATOMIC,
    },
    "NamespaceStatus": {
        "conditions": Rule(list_type="map", map_keys=("type",), merge_key="type", strategies=("merge",)),
    },
    "NodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": ATOMIC,
    },
    "NodeAllocatableResourceClaimStatus": {
        "containers": Rule(list_type="set"),
    },
    "NodeSelector": {
        "nodeSelectorTerms": ATOMIC,
    },
    "NodeSelectorRequirement": {
        "values": ATOMIC,
    },
    "NodeSelectorTerm": {
        "matchExpressions": ATOMIC,
        "matchFields": ATOMIC,
    },
    "NodeSpec": {
        "podCIDRs": Rule(list_type="set", strategies=("merge",)),
        "taints": ATOMIC,
    },
    "NodeStatus": {
        "addresses": Rule(list_type="map", map_keys=("type",), merge_key="type", strategies=("merge",)),
        "conditions": Rule(list_type="map", map_keys=("type",), merge_key="type", strategies=("merge",)),
        "declaredFeatures": ATOMIC,
        "images": ATOMIC,
        "runtimeHandlers": ATOMIC,
        "volumesAttached": ATOMIC,
        "volumesInUse": ATOMIC,
    },
    "PersistentVolumeClaimSpec": {
        "accessModes": ATOMIC,
    },
    "PersistentVolumeClaimStatus": {
        "accessModes": ATOMIC,
        "conditions": Rule(list_type="map", map_keys=("type",), merge_key="type", strategies=("merge",)),
    },
    "PersistentVolumeSpec": {
        "accessModes": ATOMIC,
        "mountOptions": ATOMIC,
    },
    "PodAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": ATOMIC,
        "requiredDuringSchedulingIgnoredDuringExecution": ATOMIC,
    },
    "PodAffinityTerm": {
        "matchLabelKeys": ATOMIC,
        "mismatchLabelKeys": ATOMIC,
        "namespaces": ATOMIC,
    },
    "PodAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": ATOMIC,
        "requiredDuringSchedulingIgnoredDuringExecution": ATOMIC,
    },
    "PodDNSConfig": {
        "nameservers": ATOMIC,
        "options": ATOMIC,
        "searches": ATOMIC,
    },
    "PodExtendedResourceClaimStatus": {
        "requestMappings": ATOMIC,
    },
    "PodList": {
        "items": ATOMIC,
    },
    "PodSecurityContext": {
        "supplementalGroups": ATOMIC,
        "sysctls": ATOMIC,
    },
    "PodSpec": {
        "containers": Rule(list_type="map", map_keys=("name",), merge_key="name", strategies=("merge",)),
        "ephemeralContainers": Rule(list_type="map", map_keys=("name",), merge_key="name", strategies=("merge",)),
        "hostAliases": Rule(list_type="map", map_keys=("ip",), merge_key="ip", strategies=("merge",)),
        "imagePullSecrets": Rule(list_type="map", map_keys=("name",), merge_key="name", strategies=("merge",)),
        "initContainers": Rule(list_type="map", map_keys=("name",), merge_key="name", strategies=("merge",)),
        "readinessGates": ATOMIC,
        "resourceClaims": Rule(
            list_type="map", map_keys=("name",), merge_key="name", strategies=("merge", "retainKeys")
        ),
        "schedulingGates": Rule(list_type="map", map_keys=("name",), merge_key="name", strategies=("merge",)),
        "tolerations": ATOMIC,
        "topologySpreadConstraints": Rule(
            list_type="map",
            map_keys=("topologyKey", "whenUnsatisfiable"),
            merge_key="topologyKey",
            strategies=("merge",),
        ),
        "volumes": Rule(list_type="map", map_keys=("name",), merge_key="name", strategies=("merge", "retainKeys")),
    },
    "PodStatus": {
        "conditions": Rule(list_type="map", map_keys=("type",), merge_key="type", strategies=("merge",)),
        "containerStatuses": ATOMIC,
        "ephemeralContainerStatuses": ATOMIC,
        "hostIPs": Rule(merge_key="ip", strategies=("merge",)),
        "initContainerStatuses": ATOMIC,
        "nodeAllocatableResourceClaimStatuses": ATOMIC,
        "podIPs": Rule(list_type="map", map_keys=("ip",), merge_key="ip", strategies=("merge",)),
        "resourceClaimStatuses": Rule(
            list_type="map", map_keys=("name",), merge_key="name", strategies=("merge", "retainKeys")
        ),
    },
    "ProjectedVolumeSource": {
        "sources": ATOMIC,
    },
    "RBDPersistentVolumeSource": {
        "monitors": ATOMIC,
    },
    "RBDVolumeSource": {
        "monitors": ATOMIC,
    },
    "ResourceRequirements": {
        "claims": Rule(list_type="map", map_keys=("name",)),
    },
    "ResourceStatus": {
        "resources": Rule(list_type="map", map_keys=("resourceID",)),
    },
    "SecretProjection": {
        "items": ATOMIC,
    },
    "SecretVolumeSource": {
        "items": ATOMIC,
    },
    "TopologySpreadConstraint": {
        "matchLabelKeys": ATOMIC,
    },
    "LabelSelector": {
        "matchExpressions": ATOMIC,
    },
    "LabelSelectorRequirement": {
        "values": ATOMIC,
    },
    "ObjectMeta": {
        "finalizers": Rule(list_type="set", strategies=("merge",)),
        "managedFields": ATOMIC,
        "ownerReferences": Rule(list_type="map", map_keys=("uid",), merge_key="uid", strategies=("merge",)),
    },
}
#: types whose values server-side apply takes whole
ATOMIC_TYPES = frozenset(
    [
        "ConfigMapKeySelector",
        "FileKeySelector",
        "LabelSelector",
        "LocalObjectReference",
        "NodeSelector",
        "NodeSelectorTerm",
        "ObjectFieldSelector",
        "ObjectReference",
        "OwnerReference",
        "ResourceFieldSelector",
        "SecretKeySelector",
        "SecretReference",
        "TypedLocalObjectReference",
    ]
)
#: (type, field) -> `atomic`, `granular`: where a field differs from what its type says
MAP_TYPES = {
    ("PersistentVolumeClaimStatus", "allocatedResourceStatuses"): "granular",
    ("PersistentVolumeSpec", "claimRef"): "granular",
    ("PodSpec", "nodeSelector"): "atomic",
}
