"""Rules for probes and lifecycle hooks, and for the actions both are made of (layer 1, pure).

`lifecycle.stopSignal` is not here: without the ContainerStopSignals feature (alpha in 1.36) the server takes it away
before it validates, and so does `api.defaults`.
"""

from __future__ import annotations

from minipod.api.types import HTTPGetAction, Lifecycle, LifecycleHandler, Probe, SleepAction
from minipod.api.validation.check import Check, Path
from minipod.api.validation.formats import http_header
from minipod.api.validation.ports import port_number_or_name

SCHEMES = ("HTTP", "HTTPS")

_PROBE_NUMBERS = (
    ("initial_delay_seconds", "initialDelaySeconds"),
    ("timeout_seconds", "timeoutSeconds"),
    ("period_seconds", "periodSeconds"),
    ("success_threshold", "successThreshold"),
    ("failure_threshold", "failureThreshold"),
)


def probes(check: Check, liveness: Probe | None, readiness: Probe | None, startup: Probe | None, path: Path) -> None:
    """The three probes of a container, any of which may be missing."""
    if liveness is not None:
        probe(check, liveness, (path, "livenessProbe"))
        _success_threshold_is_one(check, liveness, (path, "livenessProbe"))
    if readiness is not None:
        probe(check, readiness, (path, "readinessProbe"))
        if readiness.termination_grace_period_seconds is not None:
            value = readiness.termination_grace_period_seconds
            why = "cannot be set for a readiness probe, which stops nothing"
            check.invalid(path, "readinessProbe", "terminationGracePeriodSeconds", value=value, why=why)
    if startup is not None:
        probe(check, startup, (path, "startupProbe"))
        _success_threshold_is_one(check, startup, (path, "startupProbe"))


def probe(check: Check, value: Probe, path: Path) -> None:
    _actions(check, value, _PROBE_ACTIONS, None, path)
    for attribute, field in _PROBE_NUMBERS:
        check.not_negative(getattr(value, attribute), path, field)
    grace_period_s = value.termination_grace_period_seconds
    if grace_period_s is not None and grace_period_s <= 0:
        check.invalid(path, "terminationGracePeriodSeconds", value=grace_period_s, why="must be more than 0")


def _success_threshold_is_one(check: Check, value: Probe, path: Path) -> None:
    if value.success_threshold != 1:
        check.invalid(path, "successThreshold", value=value.success_threshold, why="must be 1")


def lifecycle(check: Check, hooks: Lifecycle, grace_period_s: int | None, path: Path) -> None:
    if hooks.post_start is not None:
        _actions(check, hooks.post_start, _HOOK_ACTIONS, grace_period_s, (path, "postStart"))
    if hooks.pre_stop is not None:
        _actions(check, hooks.pre_stop, _HOOK_ACTIONS, grace_period_s, (path, "preStop"))


_PROBE_ACTIONS = (("exec", "exec"), ("http_get", "httpGet"), ("tcp_socket", "tcpSocket"), ("grpc", "grpc"))
_HOOK_ACTIONS = (("exec", "exec"), ("http_get", "httpGet"), ("tcp_socket", "tcpSocket"), ("sleep", "sleep"))


def _actions(
    check: Check,
    handler: Probe | LifecycleHandler,
    kinds: tuple[tuple[str, str], ...],
    grace_period_s: int | None,
    path: Path,
) -> None:
    """Exactly one action; of several the first is looked at and the others are forbidden."""
    found = False
    for attribute, field in kinds:
        action = getattr(handler, attribute)
        if action is None:
            continue
        if found:
            check.forbidden(path, field, why="only one action can be given")
            continue
        found = True
        match field:
            case "exec":
                check.required(action.command, path, "exec", "command")
            case "httpGet":
                http_get(check, action, (path, "httpGet"))
            case "sleep":
                sleep(check, action, grace_period_s, (path, "sleep"))
            case _:
                port_number_or_name(check, action.port, path, field, "port")
    if not found:
        check.missing(path, why=f"give one action: {', '.join(field for _, field in kinds)}")


def http_get(check: Check, action: HTTPGetAction, path: Path) -> None:
    check.required(action.path, path, "path")
    port_number_or_name(check, action.port, path, "port")
    check.one_of(action.scheme, SCHEMES, path, "scheme")
    for header in action.http_headers:
        check.format(header.name, http_header, path, "httpHeaders")


def sleep(check: Check, action: SleepAction, grace_period_s: int | None, path: Path) -> None:
    # No grace period at all is a finding of its own, elsewhere.
    if grace_period_s is not None and not 0 <= action.seconds <= grace_period_s:
        why = f"must be from 0 to terminationGracePeriodSeconds ({grace_period_s})"
        check.invalid(path, value=action.seconds, why=why)
