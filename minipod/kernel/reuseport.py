"""Sockets that share a port, and which of them gets what (layer 1): SO_REUSEPORT and classic BPF. No policy."""

from __future__ import annotations

import array
import socket
import struct

from minipod.kernel.classic_bpf import LOAD, Instruction, packed

_SO_ATTACH_REUSEPORT_CBPF = 51
_AND, _RETURN_A = 0x54, 0x16  # BPF_ALU | BPF_AND | BPF_K, BPF_RET | BPF_A
_SKF_NET_OFF = -0x100000  # offsets from the network header on (linux/filter.h)
_END_OF_SOURCE = {socket.AF_INET: 12, socket.AF_INET6: 20}  # the last four bytes of the address


def by_source(sock: socket.socket, count: int) -> None:
    """Of `count` sockets that are bound to the port of `sock`, each gets what comes from its share of the addresses.

    `count`: a power of two. Number n, in the order of bind(2), has the addresses whose last bits are n.
    """
    offset = _SKF_NET_OFF + _END_OF_SOURCE[socket.AddressFamily(sock.family)]
    program = [
        Instruction(LOAD, 0, 0, offset & 0xFFFFFFFF),
        Instruction(_AND, 0, 0, count - 1),
        Instruction(_RETURN_A, 0, 0, 0),
    ]
    code = array.array("B", packed(program))
    # struct sock_fprog
    sock.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("HP", len(program), code.buffer_info()[0])
    )
