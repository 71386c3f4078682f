"""What may be handed to a container: each kind of descriptor that a standard stream can be."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from minipod.kernel.handover import leads_nowhere_else

LOCALHOST = "127.0.0.1"


def test_pipes_and_ends_of_unix_streams_lead_nowhere_else() -> None:
    reading, writing = os.pipe()
    one, other = socket.socketpair()
    with one, other:
        assert [leads_nowhere_else(fd) for fd in (reading, writing, one.fileno(), other.fileno())] == [True] * 4
        assert one.send(b"x") == len(other.recv(1))  # still open
    os.close(reading)
    os.close(writing)


def test_whatever_has_a_name_or_could_be_connected_anew_is_kept(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    master, terminal = os.openpty()
    fds = [os.open(tmp_path / "fifo", os.O_RDWR), os.open(tmp_path / "file", os.O_RDONLY), os.open("/dev/null", 0)]
    fds += [os.open(tmp_path, os.O_RDONLY), master, terminal, os.memfd_create("pipe:[1]")]
    listening, client = socket.create_server((LOCALHOST, 0)), socket.socket()
    client.connect(listening.getsockname())
    unix, (datagram, other), (packets, more) = (
        socket.socket(socket.AF_UNIX),
        socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM),
        socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET),
    )
    sockets = [listening, client, unix, datagram, other, packets, more]
    assert [fd for fd in (*fds, *(one.fileno() for one in sockets)) if leads_nowhere_else(fd)] == []
    unix.bind(str(tmp_path / "unix"))
    unix.listen()
    assert not leads_nowhere_else(unix.fileno())
    for fd in fds:
        os.close(fd)
    for one in sockets:
        one.close()
