"""Rules for the ports of containers (layer 1, pure)."""

from __future__ import annotations

from collections.abc import Iterable

from minipod.api.types import Container, ContainerPort, PodSpec
from minipod.api.validation.check import Check, Path
from minipod.api.validation.formats import port_name

PROTOCOLS = ("SCTP", "TCP", "UDP")


def container_ports(check: Check, ports: tuple[ContainerPort, ...], path: Path) -> None:
    names: set[str] = set()
    for index, port in enumerate(ports):
        at = (path, index)
        if port.name and check.format(port.name, port_name, at, "name"):
            check.unique(port.name, names, at, "name")
        if check.required(port.container_port, at, "containerPort", why="a number from 1 to 65535"):
            check.in_range(port.container_port, 1, 65535, at, "containerPort")
        if port.host_port:
            check.in_range(port.host_port, 1, 65535, at, "hostPort")
        check.choice(port.protocol, PROTOCOLS, at, "protocol")


def port_number_or_name(check: Check, port: int | str, *path: object) -> None:
    """The port of a probe or hook: a number, or the name of one of the container's ports."""
    if isinstance(port, int):
        check.in_range(port, 1, 65535, *path)
    else:
        check.format(port, port_name, *path)


def host_ports_unique(check: Check, containers: Iterable[Container], path: Path) -> None:
    """No two ports of these containers claim the same port of the host."""
    taken: set[tuple[str, str, int]] = set()
    for number, container in enumerate(containers):
        for index, port in enumerate(container.ports):
            if not port.host_port:
                continue
            wanted = (port.protocol, port.host_ip, port.host_port)
            if wanted in taken:
                check.duplicate(path, number, "ports", index, "hostPort", value=f"{wanted[0]}/{wanted[1]}/{wanted[2]}")
            taken.add(wanted)


def host_network_ports(check: Check, spec: PodSpec, path: Path) -> None:
    """In the host's network a container's port is the host's port."""
    if not spec.host_network:
        return
    for number, container in enumerate(spec.containers):
        for index, port in enumerate(container.ports):
            if port.host_port != port.container_port:
                at = (path, "containers", number, "ports", index, "hostPort")
                check.invalid(at, value=port.host_port, why="must equal containerPort when hostNetwork is true")
