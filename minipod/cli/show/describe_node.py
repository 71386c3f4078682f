"""`minipod describe` of the node and of events (layer 6): kubectl's layout (describe.go describeNode). Pure."""

from __future__ import annotations

from minipod.cli.show.describe_parts import long_time
from minipod.cli.values import Object

_ROLE = "node-role.kubernetes.io/"
_SYSTEM = (
    ("Machine ID", "machineID"),
    ("System UUID", "systemUUID"),
    ("Boot ID", "bootID"),
    ("Kernel Version", "kernelVersion"),
    ("OS Image", "osImage"),
    ("Operating System", "operatingSystem"),
    ("Architecture", "architecture"),
    ("Container Runtime Version", "containerRuntimeVersion"),
    ("Kubelet Version", "kubeletVersion"),
)
_CONDITION = ("Type", "Status", "LastHeartbeatTime", "LastTransitionTime", "Reason", "Message")


def node_lines(node: Object, named: list[str]) -> list[str]:
    """`named`: the lines of name, labels and annotations."""
    meta, status = node["metadata"], node.get("status") or {}
    roles = sorted(label.removeprefix(_ROLE) for label in meta.get("labels") or {} if label.startswith(_ROLE))
    unschedulable = str(bool((node.get("spec") or {}).get("unschedulable"))).lower()
    lines = [named[0], f"Roles:\t{','.join(roles) or '<none>'}", *named[1:]]
    lines += [f"CreationTimestamp:\t{long_time(meta['creationTimestamp'])}", f"Taints:\t{_taints(node)}"]
    lines += [f"Unschedulable:\t{unschedulable}", "Conditions:"]
    lines += ["  " + "\t".join(_CONDITION), "  " + "\t".join("-" * len(title) for title in _CONDITION)]
    for condition in status.get("conditions") or []:
        times = [long_time(condition[key]) for key in ("lastHeartbeatTime", "lastTransitionTime")]
        words = [condition.get("reason", ""), condition.get("message", "")]
        lines.append("  " + "\t".join([condition["type"], condition["status"], *times, *words]))
    lines.append("Addresses:")
    lines += [f"  {address['type']}:\t{address['address']}" for address in status.get("addresses") or []]
    for title, key in (("Capacity", "capacity"), ("Allocatable", "allocatable")):
        lines.append(f"{title}:")
        lines += [f"  {name}:\t{amount}" for name, amount in sorted((status.get(key) or {}).items())]
    info = status.get("nodeInfo") or {}
    return [*lines, "System Info:", *(f"  {title}:\t{info.get(key, '')}" for title, key in _SYSTEM)]


def _taints(node: Object) -> str:
    """`key=value:effect`, one on a line."""
    found = (node.get("spec") or {}).get("taints") or []
    words = [f"{t['key']}{'=' + t['value'] if t.get('value') else ''}:{t['effect']}" for t in found]
    return "\n\t".join(words) or "<none>"


def event_lines(event: Object) -> list[str]:
    subject, source = event.get("involvedObject") or {}, event.get("source") or {}
    fields = (
        ("Type", event.get("type")),
        ("Reason", event.get("reason")),
        ("Message", event.get("message")),
        ("Involved Object", f"{subject.get('kind', '')}/{subject.get('name', '')}"),
        ("Field Path", subject.get("fieldPath")),
        ("Source", source.get("component") or event.get("reportingComponent")),
        ("Count", event.get("count")),
        ("First Timestamp", _time(event.get("firstTimestamp") or event.get("eventTime"))),
        ("Last Timestamp", _time(event.get("lastTimestamp") or event.get("eventTime"))),
    )
    return [f"{title}:\t{value}" for title, value in fields if value not in (None, "")]


def _time(text: str | None) -> str | None:
    return long_time(text) if text else None
