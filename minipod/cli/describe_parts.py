"""The parts of `minipod describe` (layer 6): containers, probes, environment, volumes as tabbed lines. Pure."""

from __future__ import annotations

import json

from minipod.cli import jsonpath
from minipod.cli.values import Object

#: volume source -> (kubectl's sentence, its lines as (title, field, what is said where it is not set))
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
    "image": (
        "Image (a container image or OCI artifact)",
        [("Reference", "reference", ""), ("PullPolicy", "pullPolicy", "")],
    ),
}
PROBES = (("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe"))


def mapping_lines(title: str, entries: dict[str, str] | None) -> list[str]:
    """Labels and selectors: `key=value`, one a line."""
    if not entries:
        return [f"{title}:\t<none>"]
    return [f"{'' if index else title + ':'}\t{key}={entries[key]}" for index, key in enumerate(sorted(entries))]


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
        body += _resources(container.get("resources") or {})
        body += [f"{name}:\t{probe_text(container[key])}" for name, key in PROBES if container.get(key)]
        body += _environment(container, pod)
        body += _mounts(container)
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
    profile = (container.get("securityContext") or {}).get("seccompProfile")
    if profile:
        lines.append(f"SeccompProfile:\t{profile.get('type', '')}")
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
    from minipod.cli.describe import long_time

    if "running" in state:
        started = state["running"].get("startedAt")
        return [f"{title}:\tRunning", *([f"  Started:\t{long_time(started)}"] if started else [])]
    kind = "terminated" if "terminated" in state else "waiting"
    detail = state.get(kind) or {}
    lines = [f"{title}:\t{kind.capitalize()}"]
    lines += [
        f"  {name}:\t{detail[key]}" for name, key in (("Reason", "reason"), ("Message", "message")) if detail.get(key)
    ]
    if kind == "terminated":
        lines.append(f"  Exit Code:\t{detail.get('exitCode', 0)}")
        if detail.get("signal"):
            lines.append(f"  Signal:\t{detail['signal']}")
        for name, key in (("Started", "startedAt"), ("Finished", "finishedAt")):
            if detail.get(key):
                lines.append(f"  {name}:\t{long_time(detail[key])}")
    return lines


def _resources(resources: Object) -> list[str]:
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
        scheme = str(get.get("scheme", "HTTP")).lower()
        return f"http-get {scheme}://{get.get('host', '')}:{get.get('port', '')}{get.get('path', '')}"
    if probe.get("tcpSocket"):
        return f"tcp-socket {probe['tcpSocket'].get('host', '')}:{probe['tcpSocket'].get('port', '')}"
    if probe.get("grpc"):
        return f"grpc <pod>:{probe['grpc'].get('port')} {probe['grpc'].get('service') or ''}".rstrip()
    return "unknown"


def _environment(container: Object, pod: Object) -> list[str]:
    lines = []
    sources = container.get("envFrom") or []
    if sources:
        lines.append("Environment Variables from:")
        lines += [_env_source(source) for source in sources]
    entries = container.get("env") or []
    lines.append("Environment:" if entries else "Environment:\t<none>")
    for entry in entries:
        lines += [f"  {line}" for line in _env_entry(entry, pod)]
    return lines


def _env_source(source: Object) -> str:
    kind, ref = ("ConfigMap", source["configMapRef"]) if source.get("configMapRef") else ("Secret", source["secretRef"])
    prefix = f" with prefix '{source['prefix']}'" if source.get("prefix") else ""
    return f"  {ref.get('name', '')}\t{kind}{prefix}\tOptional: {_flag(ref.get('optional'))}"


def _env_entry(entry: Object, pod: Object) -> list[str]:
    name, source = entry["name"], entry.get("valueFrom") or {}
    if field := source.get("fieldRef"):
        values = jsonpath.find("." + field["fieldPath"], pod) if "[" not in field["fieldPath"] else []
        text = jsonpath.text_of(values[0]) if values else ""
        return [f"{name}:\t{text} ({field.get('apiVersion', 'v1')}:{field['fieldPath']})"]
    if resource := source.get("resourceFieldRef"):
        return [f"{name}:\t({resource['resource']})"]
    for kind, words in (("secretKeyRef", "in secret"), ("configMapKeyRef", "of config map")):
        if ref := source.get(kind):
            optional = _flag(ref.get("optional"))
            return [f"{name}:\t<set to the key '{ref['key']}' {words} '{ref['name']}'>\tOptional: {optional}"]
    first, *more = str(entry.get("value", "")).split("\n")
    return [f"{name}:\t{first}", *(f"\t{line}" for line in more)]


def _flag(value: object) -> str:
    return "true" if value else "false"


def _mounts(container: Object) -> list[str]:
    mounts = container.get("volumeMounts") or []
    lines = ["Mounts:" if mounts else "Mounts:\t<none>"]
    for mount in sorted(mounts, key=lambda item: str(item["mountPath"])):
        flags = "ro" if mount.get("readOnly") else "rw"
        flags += f",path={json.dumps(mount['subPath'])}" if mount.get("subPath") else ""
        lines.append(f"  {mount['mountPath']} from {mount['name']} ({flags})")
    return lines


def volume_lines(volumes: list[Object]) -> list[str]:
    if not volumes:
        return ["Volumes:\t<none>"]
    lines = ["Volumes:"]
    for volume in volumes:
        lines.append(f"  {volume['name']}:")
        kind = next((key for key in volume if key != "name"), "emptyDir")
        lines += [f"    {line}" for line in _volume(kind, volume.get(kind) or {})]
    return lines


def _volume(kind: str, source: Object) -> list[str]:
    if kind in VOLUMES:
        sentence, fields = VOLUMES[kind]
        values = [(title, source.get(key, default)) for title, key, default in fields]
        return [f"Type:\t{sentence}", *(f"{t}:\t{_flag(v) if isinstance(v, bool) else v or ''}" for t, v in values)]
    if kind == "downwardAPI":
        lines = ["Type:\tDownwardAPI (a volume populated by information about the pod)", "Items:"]
        for item in source.get("items") or []:
            field = (item.get("fieldRef") or {}).get("fieldPath") or (item.get("resourceFieldRef") or {}).get(
                "resource"
            )
            lines.append(f"  {field} -> {item['path']}")
        return lines
    if kind == "projected":
        lines = ["Type:\tProjected (a volume that contains injected data from multiple sources)"]
        for entry in source.get("sources") or []:
            lines += _projected(entry)
        return lines
    return ["<unknown>"]


def _projected(entry: Object) -> list[str]:
    for kind, title in (("secret", "SecretName"), ("configMap", "ConfigMapName")):
        if entry.get(kind):
            return [f"{title}:\t{entry[kind].get('name', '')}", f"Optional:\t{_flag(entry[kind].get('optional'))}"]
    if entry.get("serviceAccountToken"):
        return [f"TokenExpirationSeconds:\t{entry['serviceAccountToken'].get('expirationSeconds', 3600)}"]
    return ["DownwardAPI:\ttrue"] if entry.get("downwardAPI") else []
