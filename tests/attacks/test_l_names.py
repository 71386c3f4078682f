"""Attacks on the process that answers the pods' DNS questions: row 58 of the catalogue."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

import dns.message
import pytest

from minipod import __version__
from minipod.kernel import netlink
from minipod.names import start
from tests.names_client import NAME, WEB, asked, is_answered
from tests.network_fixtures import HOST, TIMEOUT_S, Cluster, Namespace, cluster, host, opened_in, outside

__all__ = ["cluster", "host", "outside"]


@pytest.mark.attack(row=58)
@pytest.mark.vm
def test_it_answers_no_question_from_outside(cluster: Cluster, outside: Namespace) -> None:
    client, found = cluster.pod("client")
    cluster.network.publish_names((WEB,), whole=True)
    assert asked(found.names, client=client)  # it is awake, and answers one after the other
    ports = start.ports(cluster.paths.names, __version__)
    assert ports is not None
    with opened_in(outside, socket.AF_INET, socket.SOCK_DGRAM) as neighbour:  # it knows a way to the pods' bridge
        with outside(netlink.Netlink) as there:
            there.apply([netlink.add_default_route(there.index("eth0"), HOST[socket.AF_INET])])
        for port in (53, ports["udp4"]):
            neighbour.sendto(dns.message.make_query(NAME, "A").to_wire(), (found.names, port))
        for _ in range(3):
            assert asked(found.names, client=client)
        neighbour.setblocking(False)
        with pytest.raises(BlockingIOError):
            neighbour.recv(512)
    with opened_in(outside, socket.AF_INET) as stream:
        stream.settimeout(TIMEOUT_S)
        stream.connect((found.names, 53))
        with contextlib.suppress(ConnectionResetError):
            stream.send(b"\0\x0c")
            assert stream.recv(10) == b""


@pytest.mark.attack(row=58)
@pytest.mark.vm
def test_a_flood_of_one_pod_leaves_the_others_their_answers(cluster: Cluster) -> None:
    client, found = cluster.pod("client")
    hostile, _ = cluster.pod("hostile")
    cluster.network.publish_names((WEB,), whole=True)
    query = dns.message.make_query(NAME, "A").to_wire()
    pid = os.fork()
    if pid == 0:
        try:
            floods = [opened_in(hostile, socket.AF_INET, socket.SOCK_DGRAM) for _ in range(200)]  # a port each
            for flood in floods:
                flood.connect((found.names, 53))
                flood.setblocking(False)
            while True:
                for flood in floods:
                    with contextlib.suppress(OSError):
                        flood.send(query)
        finally:
            os._exit(0)
    try:
        answered = sum(is_answered(found.names, client) for _ in range(40))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert answered >= 24
