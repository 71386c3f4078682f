"""The volumes of `minipod describe` (layer 6), as tabbed lines. Pure."""

from __future__ import annotations

from minipod.api import quantity
from minipod.cli.show.describe_parts import annotation_lines, flag, mapping_lines
from minipod.cli.values import Object

#: volume source -> (kubectl's sentence, its lines as (title, field, the value where it is not set))
VOLUMES: dict[str, tuple[str, list[tuple[str, str, str]]]] = {
    "hostPath": (
        "HostPath (bare host directory volume)",
        [("Path", "path", ""), ("HostPathType", "type", "<none>")],
    ),
    "emptyDir": (
        "EmptyDir (a temporary directory that shares a pod's lifetime)",
        [("Medium", "medium", ""), ("SizeLimit", "sizeLimit", "<unset>")],
    ),
    "secret": (
        "Secret (a volume populated by a Secret)",
        [("SecretName", "secretName", ""), ("Optional", "optional", "false")],
    ),
    "configMap": (
        "ConfigMap (a volume populated by a ConfigMap)",
        [("Name", "name", ""), ("Optional", "optional", "false")],
    ),
    "persistentVolumeClaim": (
        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        [("ClaimName", "claimName", ""), ("ReadOnly", "readOnly", "false")],
    ),
    "nfs": (
        "NFS (an NFS mount that lasts the lifetime of a pod)",
        [("Server", "server", ""), ("Path", "path", ""), ("ReadOnly", "readOnly", "false")],
    ),
    "image": (
        "Image (a container image or OCI artifact)",
        [("Reference", "reference", ""), ("PullPolicy", "pullPolicy", "")],
    ),
}


EPHEMERAL = "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)"


def volume_lines(volumes: list[Object]) -> list[str]:
    if not volumes:
        return ["Volumes:\t<none>"]
    lines = ["Volumes:"]
    for volume in volumes:
        lines.append(f"  {volume['name']}:")
        kind = next((key for key in volume if key != "name"), "")
        lines += [f"    {line}" for line in _volume(kind, volume.get(kind) or {})]
    return lines


def _volume(kind: str, source: Object) -> list[str]:
    if kind in VOLUMES:
        sentence, fields = VOLUMES[kind]
        if kind == "emptyDir" and not quantity.sign(str(source.get("sizeLimit") or "0")):
            source = {"medium": source.get("medium", "")}
        values = [(title, source.get(key, default)) for title, key, default in fields]
        return [f"Type:\t{sentence}", *(f"{t}:\t{flag(v) if isinstance(v, bool) else v or ''}" for t, v in values)]
    if kind == "downwardAPI":
        lines = ["Type:\tDownwardAPI (a volume populated by information about the pod)", "Items:"]
        for item in source.get("items") or []:
            field, resource = item.get("fieldRef") or {}, item.get("resourceFieldRef") or {}
            lines.append(f"  {field.get('fieldPath') or resource.get('resource')} -> {item['path']}")
        return lines
    if kind == "ephemeral":
        return [f"Type:\t{EPHEMERAL}", *_template(source.get("volumeClaimTemplate") or {})]
    if kind == "projected":
        lines = ["Type:\tProjected (a volume that contains injected data from multiple sources)"]
        for entry in source.get("sources") or []:
            lines += _projected(entry)
        return lines
    return ["<unknown>"]


def _template(claim: Object) -> list[str]:
    """A claim that is not made yet (kubectl printPersistentVolumeClaim)."""
    meta, spec = claim.get("metadata") or {}, claim.get("spec") or {}
    lines = [f"StorageClass:\t{spec.get('storageClassName') or ''}", f"Volume:\t{spec.get('volumeName', '')}"]
    named = mapping_lines("Labels", meta.get("labels")) + annotation_lines(meta.get("annotations") or {})
    lines += [line.replace("\t", "\t    " if line[0] != "\t" else "    \t    ") for line in named]  # kubectl's indents
    lines += ["Capacity:\t", "Access Modes:\t"]
    if spec.get("volumeMode"):
        lines.append(f"VolumeMode:\t{spec['volumeMode']}")
    if source := spec.get("dataSource"):
        lines.append("DataSource:")
        names = (("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name"))
        lines += [f"  {title}:\t{source[key]}" for title, key in names if source.get(key)]
    return lines


def _projected(entry: Object) -> list[str]:
    for kind, title in (("secret", "SecretName"), ("configMap", "ConfigMapName")):
        if kind in entry:
            return [f"{title}:\t{entry[kind].get('name', '')}", f"Optional:\t{flag(entry[kind].get('optional'))}"]
    if "serviceAccountToken" in entry:
        return [f"TokenExpirationSeconds:\t{entry['serviceAccountToken'].get('expirationSeconds', 3600)}"]
    return ["DownwardAPI:\ttrue"] if "downwardAPI" in entry else []
