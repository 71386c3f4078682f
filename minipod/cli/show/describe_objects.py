"""`minipod describe` of other objects than pods (layer 6): kubectl's layout, of a Secret only the sizes. Pure."""

from __future__ import annotations

import binascii

from minipod.cli.show.describe_node import event_lines, node_lines
from minipod.cli.show.describe_parts import LAST_APPLIED, annotation_lines, long_time, mapping_lines
from minipod.cli.show.table import tabbed
from minipod.cli.values import Object

_SHORT_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def text_of(thing: Object, users: list[str]) -> str:
    meta = thing["metadata"]
    lines = [f"Name:\t{meta['name']}"]
    if "namespace" in meta:
        lines.append(f"Namespace:\t{meta['namespace']}")
    lines += mapping_lines("Labels", meta.get("labels"))
    annotations = {key: value for key, value in (meta.get("annotations") or {}).items() if key != LAST_APPLIED}
    lines += annotation_lines(annotations)
    match thing["kind"]:
        case "ConfigMap":
            return tabbed("\n".join(lines)) + "\n" + _config_map(thing)
        case "Secret":
            return tabbed("\n".join(lines)) + "\n" + _secret(thing)
        case "PersistentVolumeClaim":
            lines = [lines[0], lines[1], *_claim(thing, lines[2:], users)]
        case "PersistentVolume":
            lines += _volume(thing)
        case "Node":
            lines = node_lines(thing, lines)
        case "Event":
            lines += event_lines(thing)
        case "Namespace":
            lines.append(f"Status:\t{(thing.get('status') or {}).get('phase', '')}")
    return tabbed("\n".join(lines)) + "\n"


def _config_map(thing: Object) -> str:
    text = "\nData\n====\n"
    for key, value in sorted((thing.get("data") or {}).items()):
        text += f"{key}:\n----\n{value}\n\n"
    text += "\nBinaryData\n====\n"
    for key, value in sorted((thing.get("binaryData") or {}).items()):
        text += f"{key}: {len(binascii.a2b_base64(value))} bytes\n"
    return text


def _secret(thing: Object) -> str:
    text = f"\nType:  {thing.get('type', '')}\n\nData\n====\n"
    rows = [
        f"{key}:\t{len(binascii.a2b_base64(value))} bytes" for key, value in sorted((thing.get("data") or {}).items())
    ]
    return text + (tabbed("\n".join(rows)) + "\n" if rows else "")


def _modes(modes: list[str]) -> str:
    return ",".join(short for name, short in _SHORT_MODES.items() if name in modes)


def _claim(thing: Object, named: list[str], users: list[str]) -> list[str]:
    meta, spec, status = thing["metadata"], thing.get("spec") or {}, thing.get("status") or {}
    phase = status.get("phase", "")
    lines = [f"StorageClass:\t{spec.get('storageClassName', '')}"]
    if meta.get("deletionTimestamp"):
        lines.append(f"Status:\tTerminating (since {long_time(meta['deletionTimestamp'])})")
    else:
        lines.append(f"Status:\t{phase}")
    lines += [f"Volume:\t{spec.get('volumeName', '')}", *named]
    lines.append(f"Finalizers:\t[{' '.join(meta.get('finalizers') or [])}]")
    bound = bool(spec.get("volumeName"))
    capacity = (status.get("capacity") or {}).get("storage", "") if bound else ""
    lines.append(f"Capacity:\t{capacity}")
    lines.append(f"Access Modes:\t{_modes(status.get('accessModes') or []) if bound else ''}")
    lines.append(f"VolumeMode:\t{spec.get('volumeMode', '')}")
    first, *others = users or ["<none>"]
    return [*lines, f"Used By:\t{first}", *(f"\t{other}" for other in others)]


def _volume(thing: Object) -> list[str]:
    meta, spec, status = thing["metadata"], thing.get("spec") or {}, thing.get("status") or {}
    reference = spec.get("claimRef")
    lines = [
        f"Finalizers:\t[{' '.join(meta.get('finalizers') or [])}]",
        f"StorageClass:\t{spec.get('storageClassName', '')}",
        f"Status:\t{'Terminating' if meta.get('deletionTimestamp') else status.get('phase', '')}",
        f"Claim:\t{reference['namespace']}/{reference['name']}" if reference else "Claim:\t",
        f"Reclaim Policy:\t{spec.get('persistentVolumeReclaimPolicy', '')}",
        f"Access Modes:\t{_modes(spec.get('accessModes') or [])}",
        f"VolumeMode:\t{spec.get('volumeMode', '')}",
        f"Capacity:\t{(spec.get('capacity') or {}).get('storage', '')}",
        "Node Affinity:\t<none>",
        f"Message:\t{status.get('message', '')}",
        "Source:",
    ]
    if "hostPath" in spec:
        kind = spec["hostPath"].get("type", "")
        return [*lines, "    Type:\tHostPath (bare host directory volume)", f"    Path:\t{spec['hostPath']['path']}",
                f"    HostPathType:\t{kind}"]  # fmt: skip
    if "local" in spec:
        volume = "    Type:\tLocalVolume (a persistent volume backed by local storage on a node)"
        return [*lines, volume, f"    Path:\t{spec['local']['path']}"]
    if "nfs" in spec:
        nfs = spec["nfs"]
        volume = "    Type:\tNFS (an NFS mount that lasts the lifetime of a pod)"
        return [*lines, volume, f"    Server:\t{nfs['server']}",
                f"    Path:\t{nfs['path']}", f"    ReadOnly:\t{str(nfs.get('readOnly', False)).lower()}"]  # fmt: skip
    return lines
