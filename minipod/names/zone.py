"""Which name means what (layer 2, pure): the names of pods, as Kubernetes' DNS specification and headless Services have
them, and each pod's own name in the place of a Service's.

    POD.NAMESPACE.svc.DOMAIN                    a pod, whether it is ready or not
    SUBDOMAIN.NAMESPACE.svc.DOMAIN              all ready pods with this subdomain
    HOSTNAME.SUBDOMAIN.NAMESPACE.svc.DOMAIN     one of them; also with its address, 10-86-0-2, for HOSTNAME
    POD.NAMESPACE.pod.DOMAIN, 10-86-0-2.NAMESPACE.pod.DOMAIN
    _PORT._PROTOCOL.SUBDOMAIN… or POD…          SRV: the containers' ports of that name
    2.0.86.10.in-addr.arpa and IPv6's           PTR

A subdomain has precedence over a pod of the same name, an address over a pod that is named like one.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

from minipod.names.table import Pod, Table

_PROTOCOLS = ("_tcp", "_udp", "_sctp")


class Service(NamedTuple):
    """The target of an SRV record, with its addresses for the additional section."""

    port: int
    target: str
    addresses: tuple[str, ...]


class Answer(NamedTuple):
    """What is known of a name that is the zone's. Without `exists` there is no such name: NXDOMAIN."""

    exists: bool
    addresses: tuple[str, ...] = ()
    services: tuple[Service, ...] = ()
    pointer: str = ""


_NO_SUCH_NAME = Answer(False)
_NOTHING_HERE = Answer(True)


class Zone:
    """One table, indexed. Names have no dot at their end and are lower case."""

    def __init__(self, table: Table) -> None:
        self.domain = table.domain
        self._domain = tuple(table.domain.split("."))
        self._subnets = tuple(ip_network(subnet) for subnet in table.subnets)
        self._namespaces = {pod.namespace for pod in table.pods}
        self._pods = {(pod.namespace, pod.name): pod for pod in table.pods}
        self._by_address = {(pod.namespace, address): pod for pod in table.pods for address in pod.addresses}
        self._pointers = {address: self._full_name(pod) for pod in table.pods for address in pod.addresses}
        self._groups: dict[tuple[str, str], list[Pod]] = {}
        for pod in table.pods:
            if pod.subdomain:
                self._groups.setdefault((pod.namespace, pod.subdomain), []).append(pod)

    def serves(self, address: str) -> bool:
        """Whether a question from this address is answered: it is one of the pods' subnets, the bridges' included."""
        return self._holds(ip_address(address))

    def apex(self, labels: tuple[str, ...]) -> str:
        """The name of the zone that a name is in."""
        return ".".join(labels[-2:]) if labels[-1:] == ("arpa",) else self.domain

    def find(self, labels: tuple[str, ...]) -> Answer | None:
        """What the zone knows of a name, from its first label to its last; None for a name that is not the zone's."""
        length = len(self._domain)
        if labels[-length:] == self._domain:
            if any("." in label for label in labels):
                return _NO_SUCH_NAME
            return self._own(labels[:-length])
        if labels[-1:] == ("arpa",) and (address := _reversed(labels)) is not None and self._holds(address):
            pointer = self._pointers.get(str(address), "")
            return Answer(bool(pointer), pointer=pointer)
        return None

    def _own(self, rest: tuple[str, ...]) -> Answer:
        match rest:
            case () | ("svc",) | ("pod",):
                return _NOTHING_HERE
            case (namespace, "svc" | "pod"):
                return Answer(namespace in self._namespaces)
            case (*name, namespace, "pod"):
                return self._of_pod(namespace, ".".join(name))
            case (port, protocol, *name, namespace, "svc") if name and port[:1] == "_" and protocol in _PROTOCOLS:
                return self._of_port(self._of_service(namespace, name), port[1:], protocol[1:])
            case (*name, namespace, "svc"):
                pods = self._of_service(namespace, name)
                return _NO_SUCH_NAME if pods is None else Answer(True, _addresses(pods))
        return _NO_SUCH_NAME

    def _of_pod(self, namespace: str, name: str) -> Answer:
        address = _dashed(name)
        if address and (namespace, address) in self._by_address:
            return Answer(True, (address,))
        pod = self._pods.get((namespace, name))
        return _NO_SUCH_NAME if pod is None else Answer(True, pod.addresses)

    def _of_service(self, namespace: str, name: list[str]) -> list[Pod] | None:
        """The pods of `SUBDOMAIN`, `HOSTNAME.SUBDOMAIN` or `POD`; None where there is no such name."""
        *host, group = name
        members = self._groups.get((namespace, group), [])
        ready = [pod for pod in members if pod.is_ready]
        if members and not host:
            return ready
        hostname = ".".join(host)
        found = [pod for pod in ready if pod.hostname == hostname or _dashed(hostname) in pod.addresses]
        if found:
            return found
        pod = self._pods.get((namespace, ".".join(name)))
        return None if pod is None else [pod]

    def _of_port(self, pods: list[Pod] | None, name: str, protocol: str) -> Answer:
        services = tuple(
            Service(port, self._full_name(pod), pod.addresses)
            for pod in pods or ()
            for port_name, port_protocol, port in pod.ports
            if (port_name, port_protocol) == (name, protocol)
        )
        return Answer(bool(services), services=services)

    def _full_name(self, pod: Pod) -> str:
        if pod.subdomain:
            return f"{pod.hostname}.{pod.subdomain}.{pod.namespace}.svc.{self.domain}"
        return f"{pod.name}.{pod.namespace}.pod.{self.domain}"

    def _holds(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in subnet for subnet in self._subnets)


def _addresses(pods: Iterable[Pod]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(address for pod in pods for address in pod.addresses))


def _dashed(name: str) -> str:
    """The address that `10-86-0-2` or `fd00-86--2` is a name of; empty for another name."""
    for sign in (".", ":"):
        try:
            return str(ip_address(name.replace("-", sign)))
        except ValueError:
            continue
    return ""


def _reversed(labels: tuple[str, ...]) -> IPv4Address | IPv6Address | None:
    """The address that a whole name below in-addr.arpa or ip6.arpa stands for (RFC 1035 3.5, RFC 3596 2.5)."""
    digits = labels[-3::-1]
    try:
        if labels[-2:] == ("in-addr", "arpa") and len(digits) == 4:
            return IPv4Address(".".join(digits))
        if labels[-2:] == ("ip6", "arpa") and len(digits) == 32 and all(len(digit) == 1 for digit in digits):
            return IPv6Address(bytes.fromhex("".join(digits)))
    except ValueError:
        pass
    return None
