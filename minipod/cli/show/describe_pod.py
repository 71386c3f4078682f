"""`minipod describe pod` (layer 6): kubectl's layout of a pod and its events. Pure."""

from __future__ import annotations

from minipod.api.timestamps import human_duration, seconds_of
from minipod.cli.show.describe_parts import (
    LAST_APPLIED,
    annotation_lines,
    container_lines,
    long_time,
    mapping_lines,
    resource_lines,
    seccomp_lines,
    spread_lines,
    toleration_lines,
)
from minipod.cli.show.describe_volumes import volume_lines
from minipod.cli.show.event_columns import interval
from minipod.cli.show.table import tabbed
from minipod.cli.values import Object

CONTAINERS = (
    ("Init Containers", "initContainers", "initContainerStatuses"),
    ("Containers", "containers", "containerStatuses"),
    ("Ephemeral Containers", "ephemeralContainers", "ephemeralContainerStatuses"),
)


def describe(pod: Object, events: list[Object] | None, now: float) -> str:
    """The whole text. `now`: seconds since the epoch."""
    spec, status = pod["spec"], pod.get("status") or {}
    lines = head_lines(pod, now)
    for title, key, status_key in CONTAINERS:
        if spec.get(key):
            lines += container_lines(title, spec[key], status.get(status_key) or [], pod)
    lines += condition_lines(spec, status)
    lines += volume_lines(spec.get("volumes") or [])
    lines.append(f"QoS Class:\t{status.get('qosClass', '')}")
    lines += mapping_lines("Node-Selectors", spec.get("nodeSelector"))
    lines += toleration_lines(spec.get("tolerations") or [])
    lines += spread_lines(spec.get("topologySpreadConstraints") or [])
    if events == []:
        lines.append("Events:\t<none>")
    text = tabbed("\n".join(lines)) + "\n"
    return text + event_text(events, now) if events else text


def head_lines(pod: Object, now: float) -> list[str]:
    meta, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    lines = [f"Name:\t{meta['name']}", f"Namespace:\t{meta.get('namespace', 'default')}"]
    if spec.get("priority") is not None:
        lines.append(f"Priority:\t{spec['priority']}")
    for title, key in (
        ("Priority Class Name", "priorityClassName"),
        ("Runtime Class Name", "runtimeClassName"),
        ("Service Account", "serviceAccountName"),
    ):
        if spec.get(key):
            lines.append(f"{title}:\t{spec[key]}")
    node = f"{spec['nodeName']}/{status.get('hostIP', '')}" if spec.get("nodeName") else "<none>"
    lines.append(f"Node:\t{node}")
    if status.get("startTime"):
        lines.append(f"Start Time:\t{long_time(status['startTime'])}")
    lines += mapping_lines("Labels", meta.get("labels"))
    annotations = {k: v for k, v in (meta.get("annotations") or {}).items() if k != LAST_APPLIED}
    lines += annotation_lines(annotations)
    lines += phase_lines(meta, status, now)
    lines += seccomp_lines(spec)
    lines.append(f"IP:\t{status.get('podIP', '')}")
    ips = status.get("podIPs") or []
    lines += ["IPs:", *(f"  IP:\t{entry['ip']}" for entry in ips)] if ips else ["IPs:\t<none>"]
    for owner in meta.get("ownerReferences") or []:
        if owner.get("controller"):
            lines.append(f"Controlled By:\t{owner['kind']}/{owner['name']}")
    if status.get("nominatedNodeName"):
        lines.append(f"NominatedNodeName:\t{status['nominatedNodeName']}")
    if spec.get("resources") is not None:
        lines += ["Resources:", *(f"  {line}" for line in resource_lines(spec["resources"]))]
    return lines


def phase_lines(meta: Object, status: Object, now: float) -> list[str]:
    lines = [f"Status:\t{status.get('phase', '')}"]
    deleted = seconds_of(meta.get("deletionTimestamp"))
    if deleted is not None and status.get("phase") not in ("Failed", "Succeeded"):
        lines = [
            f"Status:\tTerminating (lasts {human_duration(now - deleted)})",
            f"Termination Grace Period:\t{meta.get('deletionGracePeriodSeconds', 0)}s",
        ]
    lines += [
        f"{title}:\t{status[key]}" for title, key in (("Reason", "reason"), ("Message", "message")) if status.get(key)
    ]
    return lines


def condition_lines(spec: Object, status: Object) -> list[str]:
    lines = []
    conditions = status.get("conditions") or []
    gates = spec.get("readinessGates") or []
    if gates:
        states = {entry["type"]: entry.get("status", "") for entry in conditions}
        lines += ["Readiness Gates:", "  Type\tStatus"]
        lines += [f"  {gate['conditionType']} \t{states.get(gate['conditionType'], '<none>')} " for gate in gates]
    if conditions:
        lines += ["Conditions:", "  Type\tStatus"]
        lines += [f"  {entry['type']} \t{entry.get('status', '')} " for entry in conditions]
    return lines


def event_text(events: list[Object], now: float) -> str:
    """The events as a table of their own, aligned for itself."""
    lines = ["Events:", "  Type\tReason\tAge\tFrom\tMessage", "  ----\t------\t----\t----\t-------"]
    for event in events:
        source = (event.get("source") or {}).get("component") or event.get("reportingComponent", "")
        message = event.get("message", "").strip()
        path = (event.get("involvedObject") or {}).get("fieldPath")
        message = f"{path}: {message}" if path else message
        cells = (event.get("type", ""), event.get("reason", ""), interval(event, now), source, message)
        lines.append("  " + "\t".join(cells))
    return tabbed("\n".join(lines)) + "\n"
