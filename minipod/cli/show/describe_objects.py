"""`minipod describe` of what is no pod (layer 6): kubectl's layout. Of a Secret only the sizes are shown."""

from __future__ import annotations

import argparse
import binascii
import sys

from minipod.api.kinds import POD, Kind
from minipod.cli.client import Client
from minipod.cli.options import namespace_of
from minipod.cli.show.describe_parts import mapping_lines
from minipod.cli.show.table import tabbed
from minipod.cli.values import Object
from minipod.cli.verbs.describe import LAST_APPLIED, annotation_lines, describe, event_text, events_of, long_time
from minipod.cli.verbs.get import fetch_each
from minipod.errors import NotFoundError

_SHORT_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def describe_all(args: argparse.Namespace, found: list[tuple[Kind, list[str]]]) -> int:
    """Every object that is meant, with an empty line or two in between; then what is missing."""
    import time

    client = Client.of(args, "describe")
    texts: list[str] = []
    missing: NotFoundError | None = None
    for kind, names in found:
        message: Object = {"verb": "get", "kind": kind.plural, "namespace": namespace_of(args), "output": "object"}
        events, lost = fetch_each(args, list(names) or [None], message)
        missing = missing or lost
        for event in events:
            thing = event["object"]
            if kind is POD:
                shown = events_of(client, thing) if args.show_events else None
                texts.append(describe(thing, shown, time.time()))
                continue
            users = pods_using(args, thing) if kind.name == "PersistentVolumeClaim" else []
            text = text_of(thing, users)
            if args.show_events and kind.name != "Secret":
                shown = events_of(client, thing)
                text += "\n" + (event_text(shown, time.time()) if shown else "Events:  <none>\n")
            texts.append(text)
    sys.stdout.write("\n\n".join(texts))
    if missing is not None:
        raise missing
    if not texts:
        raise NotFoundError(f"no {found[0][0].plural} found in {namespace_of(args)} namespace")
    return 0


def pods_using(args: argparse.Namespace, claim: Object) -> list[str]:
    meta = claim["metadata"]
    message: Object = {"verb": "get", "kind": "pods", "namespace": meta.get("namespace", "default"), "output": "object"}
    events, _ = fetch_each(args, [None], message)
    return [
        event["object"]["metadata"]["name"]
        for event in events
        for volume in event["object"]["spec"].get("volumes") or []
        if (volume.get("persistentVolumeClaim") or {}).get("claimName") == meta["name"]
        or ("ephemeral" in volume and f"{event['object']['metadata']['name']}-{volume['name']}" == meta["name"])
    ]


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
