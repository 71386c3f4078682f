"""Rules for containers: regular, init and ephemeral ones (layer 1, pure). Their parts have modules of their own."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from minipod.api.types import Container, ContainerRestartRule, EphemeralContainer, PodSpec, Volume
from minipod.api.validation.check import Check, Path
from minipod.api.validation.env import env, env_from
from minipod.api.validation.formats import WHITESPACE, dns_label
from minipod.api.validation.mounts import volume_devices, volume_mounts
from minipod.api.validation.ports import container_ports, host_ports_unique
from minipod.api.validation.probes import lifecycle, probes
from minipod.api.validation.resources import container_resources, resize_policies
from minipod.api.validation.security import container_security
from minipod.api.validation.visit import AnyContainer
from minipod.api.validation.volumes import PULL_POLICIES

TERMINATION_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
RESTART_POLICIES = ("Always", "Never", "OnFailure")
RESTART_RULE_ACTIONS = ("Restart", "RestartAllContainers")
RESTART_RULE_OPERATORS = ("In", "NotIn")
RESTART_RULES_LIMIT = 20
EXIT_CODES_LIMIT = 255


class Scope(msgspec.Struct, frozen=True):
    """What containers refer to in their pod."""

    spec: PodSpec
    volumes: Mapping[str, Volume]  # usable ones, by name
    claims: frozenset[str]  # names of spec.resourceClaims


def containers(check: Check, scope: Scope, path: Path) -> None:
    spec = scope.spec
    if not check.required(spec.containers, path, why="at least one container"):
        return
    names: set[str] = set()
    for index, container in enumerate(spec.containers):
        at = (path, index)
        any_container(check, container, scope, at)
        check.unique(container.name, names, at, "name")
        long_running(check, container, scope, at)
        restart_rules(check, container, at)
    host_ports_unique(check, spec.containers, path)


def init_containers(check: Check, scope: Scope, path: Path) -> None:
    names = {container.name for container in scope.spec.containers}
    for index, container in enumerate(scope.spec.init_containers):
        at = (path, index)
        any_container(check, container, scope, at)
        if container.name in names:
            check.duplicate(at, "name", value=container.name)
        elif container.name:
            names.add(container.name)
        # One after the other, so each for itself; the server always reports 0 as the index of the container here.
        host_ports_unique(check, (container,), path)
        if container.restart_policy is not None:
            restart_rules(check, container, at)
        elif container.restart_policy_rules:
            check.missing(at, "restartPolicy", why="restartPolicyRules need one")
        if container.restart_policy == "Always":
            long_running(check, container, scope, at)
        else:
            short_running(check, container, at)


def long_running(check: Check, container: Container, scope: Scope, path: Path) -> None:
    """A regular container or a sidecar: it may have hooks and probes."""
    if container.lifecycle is not None:
        lifecycle(check, container.lifecycle, scope.spec.termination_grace_period_seconds, (path, "lifecycle"))
    probes(check, container.liveness_probe, container.readiness_probe, container.startup_probe, path)


def short_running(check: Check, container: Container, path: Path) -> None:
    """An init container that ends before the next begins."""
    why = "an init container can have this only with restartPolicy: Always"
    check.absent(container.lifecycle, path, "lifecycle", why=why)
    check.absent(container.liveness_probe, path, "livenessProbe", why=why)
    check.absent(container.readiness_probe, path, "readinessProbe", why=why)
    check.absent(container.startup_probe, path, "startupProbe", why=why)
    for index, policy in enumerate(container.resize_policy):
        if policy.restart_policy == "RestartContainer":
            why = "must be NotRequired for an init container without restartPolicy: Always"
            check.invalid(path, "resizePolicy", index, "restartPolicy", value=policy.restart_policy, why=why)


def ephemeral_containers(check: Check, scope: Scope, path: Path) -> None:
    others = {container.name for container in (*scope.spec.containers, *scope.spec.init_containers)}
    names = set(others)
    for index, container in enumerate(scope.spec.ephemeral_containers):
        at = (path, index)
        any_container(check, container, scope, at)
        image_is_trimmed(check, container, at)
        check.unique(container.name, names, at, "name")
        target = container.target_container_name
        if target and target not in others:
            check.not_found(at, "targetContainerName", value=target)
        why = "an ephemeral container cannot have this"
        check.only_defaults(container, _NO_EPHEMERAL, _NOT_IN_EPHEMERAL, at, why=why)
        for number, mount in enumerate(container.volume_mounts):
            if mount.sub_path:
                check.forbidden(at, "volumeMounts", number, "subPath", why=why)
            if mount.sub_path_expr:
                check.forbidden(at, "volumeMounts", number, "subPathExpr", why=why)


_NO_EPHEMERAL = EphemeralContainer()
_NOT_IN_EPHEMERAL = (
    ("ports", "ports"),
    ("resources", "resources"),
    ("resize_policy", "resizePolicy"),
    ("restart_policy", "restartPolicy"),
    ("restart_policy_rules", "restartPolicyRules"),
    ("liveness_probe", "livenessProbe"),
    ("readiness_probe", "readinessProbe"),
    ("startup_probe", "startupProbe"),
    ("lifecycle", "lifecycle"),
)


def any_container(check: Check, container: AnyContainer, scope: Scope, path: Path) -> None:
    """What holds for each kind of container."""
    spec = scope.spec
    check.named(container.name, dns_label, path, "name", why="give the container a name")
    check.required(container.image, path, "image", why="which image shall it run?")
    check.choice(container.termination_message_policy, TERMINATION_MESSAGE_POLICIES, path, "terminationMessagePolicy")
    container_ports(check, container.ports, (path, "ports"))
    env(check, container.env, (path, "env"))
    env_from(check, container.env_from, (path, "envFrom"))
    volume_mounts(check, container, scope.volumes, (path, "volumeMounts"))
    volume_devices(check, container, scope.volumes, (path, "volumeDevices"))
    check.choice(container.image_pull_policy, PULL_POLICIES, path, "imagePullPolicy")
    container_resources(check, container.resources, scope.claims, (path, "resources"))
    resize_policies(check, container.resize_policy, spec.restart_policy, (path, "resizePolicy"))
    container_security(check, container.security_context, spec.host_users is not False, (path, "securityContext"))


def image_is_trimmed(check: Check, container: AnyContainer, path: Path) -> None:
    if container.image.strip(WHITESPACE) != container.image:
        check.invalid(path, "image", value=container.image, why="must not begin or end with white space")


def restart_rules(check: Check, container: Container, path: Path) -> None:
    policy, rules = container.restart_policy, container.restart_policy_rules
    if policy is not None:
        check.one_of(policy, RESTART_POLICIES, path, "restartPolicy")
    elif rules:
        check.missing(path, "restartPolicy", why="restartPolicyRules need one")
    if len(rules) > RESTART_RULES_LIMIT:
        check.too_many(path, "restartPolicyRules", count=len(rules), limit=RESTART_RULES_LIMIT)
    for index, rule in enumerate(rules):
        restart_rule(check, rule, (path, "restartPolicyRules", index))


def restart_rule(check: Check, rule: ContainerRestartRule, path: Path) -> None:
    check.one_of(rule.action, RESTART_RULE_ACTIONS, path, "action")
    if rule.exit_codes is None:
        check.missing(path, "exitCodes")
        return
    check.one_of(rule.exit_codes.operator, RESTART_RULE_OPERATORS, path, "exitCodes", "operator")
    if len(rule.exit_codes.values) > EXIT_CODES_LIMIT:
        count = len(rule.exit_codes.values)
        check.too_many(path, "exitCodes", "values", count=count, limit=EXIT_CODES_LIMIT)
