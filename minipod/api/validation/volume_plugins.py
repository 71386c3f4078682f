"""Rules for the volumes that a plugin or a cloud provides, in pods and in PersistentVolumes (layer 1, pure).

minipod mounts none of them, and refuses them once the manifest is valid to the API server's rules.
"""

from __future__ import annotations

import re

from minipod.api.types import (
    AWSElasticBlockStoreVolumeSource,
    AzureDiskVolumeSource,
    AzureFilePersistentVolumeSource,
    AzureFileVolumeSource,
    CephFSPersistentVolumeSource,
    CephFSVolumeSource,
    CinderPersistentVolumeSource,
    CinderVolumeSource,
    CSIPersistentVolumeSource,
    CSIVolumeSource,
    FCVolumeSource,
    FlexPersistentVolumeSource,
    FlexVolumeSource,
    FlockerVolumeSource,
    GCEPersistentDiskVolumeSource,
    GlusterfsPersistentVolumeSource,
    GlusterfsVolumeSource,
    ISCSIPersistentVolumeSource,
    ISCSIVolumeSource,
    PhotonPersistentDiskVolumeSource,
    PortworxVolumeSource,
    QuobyteVolumeSource,
    RBDPersistentVolumeSource,
    RBDVolumeSource,
    ScaleIOPersistentVolumeSource,
    ScaleIOVolumeSource,
    SecretReference,
    StorageOSPersistentVolumeSource,
    StorageOSVolumeSource,
    VsphereVirtualDiskVolumeSource,
)
from minipod.api.validation.check import Check, Key, Path
from minipod.api.validation.formats import csi_driver, dns_label, dns_subdomain, host_and_port

AZURE_CACHING = ("None", "ReadOnly", "ReadWrite")
AZURE_KINDS = ("Dedicated", "Managed", "Shared")
CSI_DRIVER_LIMIT_BYTES = 63
QUOBYTE_TENANT_LIMIT = 64

_ISCSI_NAMES = {
    "iqn": r"iqn\.[0-9]{4}-[0-9]{2}\.[0-9A-Za-z.-]+:[^,;*&$|\t\n\f\r ]+\Z",
    "eui": r"\Aeui.[0-9A-Za-z]{16}\Z",
    "naa": r"\Anaa.[0-9A-Za-z]{32}\Z",
}


def gce_persistent_disk(check: Check, disk: GCEPersistentDiskVolumeSource, path: Path) -> None:
    check.required(disk.pd_name, path, "pdName")
    check.in_range(disk.partition, 0, 255, path, "partition")


def aws_elastic_block_store(check: Check, disk: AWSElasticBlockStoreVolumeSource, path: Path) -> None:
    check.required(disk.volume_id, path, "volumeID")
    check.in_range(disk.partition, 0, 255, path, "partition")


def iscsi(check: Check, target: ISCSIVolumeSource | ISCSIPersistentVolumeSource, path: Path) -> None:
    check.required(target.target_portal, path, "targetPortal")
    if check.required(target.iqn, path, "iqn"):
        check.format(target.iqn, _iscsi_name, path, "iqn")
    check.in_range(target.lun, 0, 255, path, "lun")
    if (target.chap_auth_discovery or target.chap_auth_session) and target.secret_ref is None:
        check.missing(path, "secretRef", why="CHAP needs a secret")
    if target.initiator_name is not None:
        check.format(target.initiator_name, _iscsi_name, path, "initiatorname")


def iscsi_persistent(check: Check, target: ISCSIPersistentVolumeSource, path: Path) -> None:
    iscsi(check, target, path)
    if target.secret_ref is not None:
        check.required(target.secret_ref.name, path, "secretRef", "name")


def iscsi_interface_name(
    check: Check, target: ISCSIVolumeSource | ISCSIPersistentVolumeSource, volume_name: str, path: Path
) -> None:
    """With an initiator name, volume name and portal together become the name of an interface."""
    if target.initiator_name is not None and len(f"{volume_name}:{target.target_portal}".encode()) > 64:
        why = "the volume's name and targetPortal may have at most 63 characters together when there is initiatorName"
        check.invalid(path, value=volume_name, why=why)


def _iscsi_name(value: str) -> str:
    pattern = _ISCSI_NAMES.get(value[:3])
    return "" if pattern and re.search(pattern, value) else "must be an iSCSI name that begins with iqn, eui or naa"


def glusterfs(check: Check, volume: GlusterfsVolumeSource | GlusterfsPersistentVolumeSource, path: Path) -> None:
    check.required(volume.endpoints, path, "endpoints")
    check.required(volume.path, path, "path")


def glusterfs_persistent(check: Check, volume: GlusterfsPersistentVolumeSource, path: Path) -> None:
    glusterfs(check, volume, path)
    if volume.endpoints_namespace is not None:
        check.format(volume.endpoints_namespace, dns_label, path, "endpointsNamespace")


def flocker(check: Check, volume: FlockerVolumeSource, path: Path) -> None:
    if not volume.dataset_name and not volume.dataset_uuid:
        check.missing(path, why="give datasetName or datasetUUID")
    if volume.dataset_name and volume.dataset_uuid:
        check.invalid(path, value=volume, why="must have only one of datasetName and datasetUUID")
    if "/" in volume.dataset_name:
        check.invalid(path, "datasetName", value=volume.dataset_name, why="must not contain '/'")


def rbd(check: Check, volume: RBDVolumeSource | RBDPersistentVolumeSource, path: Path) -> None:
    check.required(volume.monitors, path, "monitors")
    check.required(volume.image, path, "image")


def cinder(check: Check, volume: CinderVolumeSource, path: Path) -> None:
    check.required(volume.volume_id, path, "volumeID")
    if volume.secret_ref is not None:
        check.required(volume.secret_ref.name, path, "secretRef", "name")


def cinder_persistent(check: Check, volume: CinderPersistentVolumeSource, path: Path) -> None:
    check.required(volume.volume_id, path, "volumeID")
    if volume.secret_ref is not None:
        check.required(volume.secret_ref.name, path, "secretRef", "name")
        check.required(volume.secret_ref.namespace, path, "secretRef", "namespace")


def cephfs(check: Check, volume: CephFSVolumeSource | CephFSPersistentVolumeSource, path: Path) -> None:
    check.required(volume.monitors, path, "monitors")


def quobyte(check: Check, volume: QuobyteVolumeSource, path: Path) -> None:
    if check.required(volume.registry, path, "registry", why="host:port, or several separated by commas"):
        if len(volume.tenant.encode()) > QUOBYTE_TENANT_LIMIT:
            check.missing(path, "tenant", why=f"a UUID of at most {QUOBYTE_TENANT_LIMIT} characters")
        else:
            for pair in volume.registry.split(","):
                check.format(pair, host_and_port, path, "registry")
    check.required(volume.volume, path, "volume")


def fc(check: Check, volume: FCVolumeSource, path: Path) -> None:
    if not volume.target_wwns and not volume.wwids:
        check.missing(path, "targetWWNs", why="give targetWWNs or wwids")
    if volume.target_wwns and volume.wwids:
        check.invalid(path, "targetWWNs", value=volume.target_wwns, why="must not be given together with wwids")
    if volume.target_wwns:
        if volume.lun is None:
            check.missing(path, "lun", why="targetWWNs needs one")
        else:
            check.in_range(volume.lun, 0, 255, path, "lun")


def flex(check: Check, volume: FlexVolumeSource | FlexPersistentVolumeSource, path: Path) -> None:
    check.required(volume.driver, path, "driver")
    for name in volume.options:
        domain = "." + name.partition("/")[0].lower()
        if domain.endswith((".kubernetes.io", ".k8s.io")):
            check.invalid(path, "options", Key(name), value=name, why="kubernetes.io and k8s.io are reserved")


def azure_file(check: Check, volume: AzureFileVolumeSource | AzureFilePersistentVolumeSource, path: Path) -> None:
    check.required(volume.secret_name, path, "secretName")
    check.required(volume.share_name, path, "shareName")


def azure_file_persistent(check: Check, volume: AzureFilePersistentVolumeSource, path: Path) -> None:
    azure_file(check, volume, path)
    if volume.secret_namespace is not None:
        check.required(volume.secret_namespace, path, "secretNamespace")


def azure_disk(check: Check, disk: AzureDiskVolumeSource, path: Path) -> None:
    check.required(disk.disk_name, path, "diskName")
    check.required(disk.disk_uri, path, "diskURI")
    if disk.caching_mode is not None:
        check.one_of(disk.caching_mode, AZURE_CACHING, path, "cachingMode")
    if disk.kind is None:
        return
    check.one_of(disk.kind, AZURE_KINDS, path, "kind")
    start = "/subscriptions/" if disk.kind == "Managed" else "https://"
    if not disk.disk_uri.startswith(start):
        check.unsupported(path, "diskURI", value=disk.disk_uri, allowed=(f"{start}…",))


def vsphere(check: Check, volume: VsphereVirtualDiskVolumeSource, path: Path) -> None:
    check.required(volume.volume_path, path, "volumePath")


def photon(check: Check, disk: PhotonPersistentDiskVolumeSource, path: Path) -> None:
    check.required(disk.pd_id, path, "pdID")


def portworx(check: Check, volume: PortworxVolumeSource, path: Path) -> None:
    check.required(volume.volume_id, path, "volumeID")


def scale_io(check: Check, volume: ScaleIOVolumeSource | ScaleIOPersistentVolumeSource, path: Path) -> None:
    check.required(volume.gateway, path, "gateway")
    check.required(volume.system, path, "system")
    check.required(volume.volume_name, path, "volumeName")


def storageos(check: Check, volume: StorageOSVolumeSource | StorageOSPersistentVolumeSource, path: Path) -> None:
    check.named(volume.volume_name, dns_label, path, "volumeName")
    if volume.volume_namespace:
        check.format(volume.volume_namespace, dns_label, path, "volumeNamespace")
    if volume.secret_ref is not None:
        check.required(volume.secret_ref.name, path, "secretRef", "name")


def storageos_persistent(check: Check, volume: StorageOSPersistentVolumeSource, path: Path) -> None:
    storageos(check, volume, path)
    if volume.secret_ref is not None:
        check.required(volume.secret_ref.namespace, path, "secretRef", "namespace")


def csi(check: Check, volume: CSIVolumeSource, path: Path) -> None:
    csi_driver_name(check, volume.driver, path, "driver")
    secret = volume.node_publish_secret_ref
    if secret is not None and check.required(secret.name, path, "nodePublishSecretRef", "name"):
        check.format(secret.name, dns_subdomain, path, "name")  # the server names the volume's field here


def csi_persistent(check: Check, volume: CSIPersistentVolumeSource, path: Path) -> None:
    csi_driver_name(check, volume.driver, path, "driver")
    check.required(volume.volume_handle, path, "volumeHandle")
    _secret_reference(check, volume.controller_publish_secret_ref, path, "controllerPublishSecretRef")
    _secret_reference(check, volume.controller_expand_secret_ref, path, "controllerExpandSecretRef")
    _secret_reference(check, volume.node_publish_secret_ref, path, "nodePublishSecretRef")
    _secret_reference(check, volume.node_expand_secret_ref, path, "nodeExpandSecretRef")


def csi_driver_name(check: Check, name: str, *path: object) -> None:
    if check.required(name, *path):
        check.short_enough(name, CSI_DRIVER_LIMIT_BYTES, *path)
        check.format(name, csi_driver, *path)


def _secret_reference(check: Check, reference: SecretReference | None, *path: object) -> None:
    if reference is not None:
        check.named(reference.name, dns_subdomain, *path, "name")
        check.named(reference.namespace, dns_label, *path, "namespace")
