"""The parts of `minipod describe` (layer 6): containers, probes, environment, mounts as tabbed lines. Pure."""

from __future__ import annotations

import json

from minipod.cli.values import Object

_SHOWN_FIELDS = {"metadata.name": "name", "metadata.namespace": "namespace"}  # kubectl knows no more of them
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
PROBES = (("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe"))


def mapping_lines(title: str, entries: dict[str, str] | None) -> list[str]:
    """Labels and selectors: `key=value`, one a line."""
    if not entries:
        return [f"{title}:\t<none>"]
    return [f"{'' if index else title + ':'}\t{key}={entries[key]}" for index, key in enumerate(sorted(entries))]


def annotation_lines(annotations: dict[str, str]) -> list[str]:
    if not annotations:
        return ["Annotations:\t<none>"]
    lines: list[str] = []
    for key in sorted(annotations):
        head = "" if lines else "Annotations:"
        value = annotations[key].removesuffix("\n")
        if len(value) + len(key) + 2 > 140 or "\n" in value:
            lines.append(f"{head}\t{key}:")
            lines += [f"\t  {part[:138] + '...' if len(part) > 138 else part}" for part in value.split("\n")]
        else:
            lines.append(f"{head}\t{key}: {value}")
    return lines


def toleration_lines(tolerations: list[Object]) -> list[str]:
    if not tolerations:
        return ["Tolerations:\t<none>"]
    lines = []
    for index, entry in enumerate(sorted(tolerations, key=lambda item: str(item.get("key", "")))):
        text = entry.get("key", "")
        text += f"={entry['value']}" if entry.get("value") else ""
        text += f":{entry['effect']}" if entry.get("effect") else ""
        if entry.get("operator") == "Exists" and not entry.get("value"):
            text += " op=Exists" if text else "op=Exists"
        if entry.get("tolerationSeconds") is not None:
            text += f" for {entry['tolerationSeconds']}s"
        lines.append(f"{'' if index else 'Tolerations:'}\t{text}")
    return lines


def spread_lines(constraints: list[Object]) -> list[str]:
    lines = []
    for index, entry in enumerate(sorted(constraints, key=lambda item: str(item.get("topologyKey", "")))):
        text = f"{entry.get('topologyKey', '')}:{entry.get('whenUnsatisfiable', '')}"
        text += f" when max skew {entry.get('maxSkew', 0)} is exceeded"
        if entry.get("labelSelector") is not None:
            text += f" for selector {_selector_text(entry['labelSelector'])}"
        lines.append(f"{'' if index else 'Topology Spread Constraints:'}\t{text}")
    return lines


def _selector_text(selector: Object) -> str:
    """A label selector in one line (metav1 FormatLabelSelector)."""
    parts = {key: [f"{key}={value}"] for key, value in (selector.get("matchLabels") or {}).items()}
    words = {
        "In": "{key} in ({values})",
        "NotIn": "{key} notin ({values})",
        "Exists": "{key}",
        "DoesNotExist": "!{key}",
    }
    for entry in selector.get("matchExpressions") or []:
        values = ",".join(sorted(entry.get("values") or []))
        text = words.get(entry["operator"], "").format(key=entry["key"], values=values)
        parts.setdefault(entry["key"], []).append(text)
    return ",".join(text for key in sorted(parts) for text in parts[key]) or "<none>"


def container_lines(title: str, containers: list[Object], statuses: list[Object], pod: Object) -> list[str]:
    by_name = {status["name"]: status for status in statuses}
    lines = [f"{title}:"]
    for container in containers:
        lines.append(f"  {container['name']}:")
        body = _basic(container, by_name.get(container["name"]))
        for key, name in (("command", "Command"), ("args", "Args")):
            if container.get(key):
                body.append(f"{name}:")
                body += [f"  {part}" for word in container[key] for part in word.split("\n")]
        if container["name"] in by_name:
            body += _state(by_name[container["name"]])
        body += resource_lines(container.get("resources") or {})
        body += [f"{name}:\t{probe_text(container[key])}" for name, key in PROBES if container.get(key)]
        body += _environment(container, pod)
        body += _mounts(container) + device_lines(container)
        lines += [f"    {line}" for line in body]
    return lines


def _basic(container: Object, status: Object | None) -> list[str]:
    lines = [f"Container ID:\t{status.get('containerID', '')}"] if status else []
    lines.append(f"Image:\t{container.get('image', '')}")
    if status:
        lines.append(f"Image ID:\t{status.get('imageID', '')}")
    for title, key in (("Port", "containerPort"), ("Host Port", "hostPort")):
        ports = [_port(port, key) for port in container.get("ports") or []]
        plural = "s" if len(ports) > 1 else ""
        lines.append(f"{title}{plural}:\t{', '.join(ports) or '<none>'}")
    return lines + [f"{'  ' if number else ''}{line}" for number, line in enumerate(seccomp_lines(container))]


def seccomp_lines(thing: Object) -> list[str]:
    """Of a container, or of a pod's spec."""
    profile = (thing.get("securityContext") or {}).get("seccompProfile")
    if not profile:
        return []
    lines = [f"SeccompProfile:\t{profile.get('type', '')}"]
    if profile.get("type") == "Localhost":
        lines.append(f"LocalhostProfile:\t{profile.get('localhostProfile', '')}")
    return lines


def _port(port: Object, key: str) -> str:
    name = f" ({port['name']})" if port.get("name") else ""
    return f"{port.get(key, 0)}/{port.get('protocol', 'TCP')}{name}"


def _state(status: Object) -> list[str]:
    lines = _one_state("State", status.get("state") or {})
    if "terminated" in (status.get("lastState") or {}):
        lines += _one_state("Last State", status["lastState"])
    lines.append(f"Ready:\t{'True' if status.get('ready') else 'False'}")
    lines.append(f"Restart Count:\t{status.get('restartCount', 0)}")
    return lines


def _one_state(title: str, state: Object) -> list[str]:
    if "running" in state:
        return [f"{title}:\tRunning", f"  Started:\t{long_time(state['running'].get('startedAt'))}"]
    kind = "terminated" if "terminated" in state else "waiting"
    detail = state.get(kind) or {}
    lines = [f"{title}:\t{kind.capitalize()}"]
    if detail.get("reason"):
        lines.append(f"  Reason:\t{detail['reason']}")
    if kind == "terminated":
        if detail.get("message"):
            lines.append(f"  Message:\t{detail['message']}")
        lines.append(f"  Exit Code:\t{detail.get('exitCode', 0)}")
        if detail.get("signal"):
            lines.append(f"  Signal:\t{detail['signal']}")
        for name, key in (("Started", "startedAt"), ("Finished", "finishedAt")):
            lines.append(f"  {name}:\t{long_time(detail.get(key))}")
    return lines


def resource_lines(resources: Object) -> list[str]:
    lines = []
    for title, key in (("Limits", "limits"), ("Requests", "requests")):
        if resources.get(key):
            lines.append(f"{title}:")
            lines += [f"  {name}:\t{resources[key][name]}" for name in sorted(resources[key])]
    return lines


def probe_text(probe: Object) -> str:
    """`http-get http://:8080/healthz delay=0s timeout=1s …` (kubectl DescribeProbe)."""
    numbers = (
        ("delay", "initialDelaySeconds", "s", 0),
        ("timeout", "timeoutSeconds", "s", 1),
        ("period", "periodSeconds", "s", 10),
        ("#success", "successThreshold", "", 1),
        ("#failure", "failureThreshold", "", 3),
    )
    attributes = " ".join(f"{name}={probe.get(key, default)}{unit}" for name, key, unit, default in numbers)
    return f"{_probe_action(probe)} {attributes}"


def _probe_action(probe: Object) -> str:
    if probe.get("exec"):
        return f"exec [{' '.join(probe['exec'].get('command') or [])}]"
    if probe.get("httpGet"):
        get = probe["httpGet"]
        scheme, host = str(get.get("scheme", "HTTP")).lower(), str(get.get("host", ""))
        host = f"[{host}]" if ":" in host else host
        return f"http-get {scheme}://{host}:{get.get('port', '')}{_url_path(get.get('path', ''))}"
    if probe.get("tcpSocket"):
        return f"tcp-socket {probe['tcpSocket'].get('host', '')}:{probe['tcpSocket'].get('port', '')}"
    if probe.get("grpc"):
        return f"grpc <pod>:{probe['grpc'].get('port')} {probe['grpc'].get('service') or ''}"
    return "unknown"


def _url_path(path: str) -> str:
    from urllib.parse import quote

    quoted = quote(path, safe="/$&+,:;=@!~*'()[]") if path != "*" else path
    return quoted if not quoted or quoted.startswith("/") else f"/{quoted}"


def _environment(container: Object, pod: Object) -> list[str]:
    lines = []
    sources = container.get("envFrom") or []
    if sources:
        lines.append("Environment Variables from:")
        lines += [_env_source(source) for source in sources]
    entries = container.get("env") or []
    lines.append("Environment:" if entries else "Environment:\t<none>")
    for entry in entries:
        lines += [f"  {line}" for line in _env_entry(entry, container, pod)]
    return lines


def _env_source(source: Object) -> str:
    kind, ref = ("ConfigMap", source["configMapRef"]) if "configMapRef" in source else ("Secret", source["secretRef"])
    prefix = f" with prefix '{source['prefix']}'" if source.get("prefix") else ""
    return f"  {ref.get('name', '')}\t{kind}{prefix}\tOptional: {flag(ref.get('optional'))}"


def _env_entry(entry: Object, container: Object, pod: Object) -> list[str]:
    name, source = entry["name"], entry.get("valueFrom") or {}
    if field := source.get("fieldRef"):
        path = field["fieldPath"]
        text = str(pod["metadata"].get(_SHOWN_FIELDS.get(path, ""), ""))
        return [f"{name}:\t{text} ({field.get('apiVersion', 'v1')}:{path})"]
    if resource := source.get("resourceFieldRef"):
        return [f"{name}:\t{_resource_text(resource, container)} ({resource['resource']})"]
    for kind, words in (("secretKeyRef", "in secret"), ("configMapKeyRef", "of config map")):
        if ref := source.get(kind):
            optional = flag(ref.get("optional"))
            return [f"{name}:\t<set to the key '{ref['key']}' {words} '{ref['name']}'>\tOptional: {optional}"]
    if file := source.get("fileKeyRef"):  # kubectl leaves these out
        where = f"in file '{file.get('path', '')}' of volume '{file.get('volumeName', '')}'"
        return [f"{name}:\t<set to the key '{file.get('key', '')}' {where}>\tOptional: {flag(file.get('optional'))}"]
    first, *more = str(entry.get("value", "")).split("\n")
    return [f"{name}:\t{first}", *(f"\t{line}" for line in more)]


def _resource_text(selector: Object, container: Object) -> str:
    """The container's own request or limit in units of the divisor, rounded up (ExtractContainerResourceValue)."""
    from minipod.api import quantity

    which, _, name = str(selector["resource"]).partition(".")
    known = name in ("cpu", "memory", "ephemeral-storage") or name.startswith("hugepages-")
    if which not in ("limits", "requests") or not known:
        return ""
    amount = ((container.get("resources") or {}).get(which) or {}).get(name, "0")
    divisor = str(selector.get("divisor") or "0")
    divisor = "1" if not quantity.sign(divisor) else divisor
    measure = quantity.millis if name == "cpu" else quantity.value
    text = str(-(-measure(amount) // measure(divisor)))
    return "node allocatable" if text == "0" and selector["resource"] in ("limits.cpu", "limits.memory") else text


def flag(value: object) -> str:
    return "true" if value else "false"


def _mounts(container: Object) -> list[str]:
    mounts = container.get("volumeMounts") or []
    lines = ["Mounts:" if mounts else "Mounts:\t<none>"]
    for mount in sorted(mounts, key=lambda item: str(item["mountPath"])):
        flags = "ro" if mount.get("readOnly") else "rw"
        flags += f",path={json.dumps(mount['subPath'])}" if mount.get("subPath") else ""
        lines.append(f"  {mount['mountPath']} from {mount['name']} ({flags})")
    return lines


def device_lines(container: Object) -> list[str]:
    devices = container.get("volumeDevices") or []
    lines = ["Devices:" if container.get("volumeMounts") else "Devices:\t<none>"] if devices else []
    ordered = sorted(devices, key=lambda item: str(item["devicePath"]))
    return lines + [f"  {device['devicePath']} from {device['name']}" for device in ordered]


def long_time(text: str | None) -> str:
    """RFC 1123 with a numeric zone, in local time: `Mon, 02 Jan 2006 15:04:05 -0700`; none is Go's zero."""
    if not text:
        return "Mon, 01 Jan 0001 00:00:00 +0000"
    from datetime import datetime
    from email.utils import format_datetime

    return format_datetime(datetime.fromisoformat(text).astimezone())
