"""A client of the answerer, with sockets and dnspython's messages: from a pod, the host or outside."""

from __future__ import annotations

import contextlib
import socket
import struct

import dns.message
import dns.rcode

from minipod.names.table import Pod
from tests.network_fixtures import Namespace, opened_in
from tests.patience import SLOWNESS

WEB = Pod("default", "web", "web", "", ("192.0.2.7", "2001:db8::7"), True)
NAME = "web.default.svc.cluster.local"


def asked(
    place: str, name: str = NAME, kind: str = "A", *, client: Namespace | None = None, port: int = 53, tcp: bool = False
) -> list[str]:
    """The addresses; the code where there are none. Raises TimeoutError, OSError."""
    query = dns.message.make_query(name, kind)
    data = query.to_wire()
    family = socket.AF_INET6 if ":" in place else socket.AF_INET
    with opened_in(client, family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
        sock.connect((place, port))
        if tcp:
            sock.send(struct.pack("!H", len(data)) + data)
            received = sock.recv(0xFFFF)[2:]
        else:
            received = answered(sock, data)
    answer = dns.message.from_wire(received)
    assert query.is_response(answer)
    return [str(record) for rrset in answer.answer for record in rrset] or [dns.rcode.to_text(answer.rcode())]


def answered(sock: socket.socket, data: bytes) -> bytes:
    """Sent again every second, as resolvers do: what a new veth pair is sent may be lost until its carrier is seen."""
    sock.settimeout(1)
    for _ in range(int(10 * SLOWNESS)):
        sock.send(data)
        with contextlib.suppress(TimeoutError):
            return sock.recv(0xFFFF)
    raise TimeoutError("no answer")


def is_answered(place: str, client: Namespace) -> bool:
    with opened_in(client, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5 * SLOWNESS)
        sock.connect((place, 53))
        try:
            sock.send(dns.message.make_query(NAME, "A").to_wire())
            sock.recv(512)
        except OSError:
            return False
        return True
