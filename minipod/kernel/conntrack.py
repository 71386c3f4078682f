"""Forgetting tracked UDP flows (layer 1), over ctnetlink. No policy.

nftables decides about the first packet of a flow only. A UDP flow has no end, so a client that keeps sending would
stay with the address that was right when it began.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

from minipod.kernel.netlink_messages import attribute

_NETLINK_NETFILTER = 12
_CT_GET, _CT_DELETE = 1 << 8 | 1, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_*
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NESTED = 0x8000
_CTA_TUPLE_ORIG, _CTA_FILTER = 1, 25
_CTA_TUPLE_PROTO, _CTA_PROTO_NUM, _CTA_PROTO_DST_PORT = 2, 1, 3
_CTA_FILTER_ORIG_FLAGS, _CTA_FILTER_REPLY_FLAGS = 1, 2
_BY_PROTOCOL_AND_DESTINATION_PORT = 1 << 3 | 1 << 5
_HEADER = struct.Struct("=IHHIIBBH")  # struct nlmsghdr, struct nfgenmsg


def forget_udp(family: int, port: int) -> int:
    """Forget the UDP flows of `family` that were sent to `port`; returns how many. Raises OSError.

    The kernel filters (Linux 5.8); where it does not track connections there is nothing to forget.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as opened:
        tuples = list(_dump(opened, family, port))
        for original in tuples:
            opened.send(_message(_CT_DELETE, _NLM_F_ACK, family, original))
            code = -struct.unpack_from("=i", opened.recv(1 << 16), 16)[0]
            if code not in (0, errno.ENOENT):
                raise OSError(code, f"forget UDP flow to port {port}: {os.strerror(code)}")
        return len(tuples)


def _dump(opened: socket.socket, family: int, port: int) -> Iterator[bytes]:
    """The attribute CTA_TUPLE_ORIG of every matching flow, as it came."""
    protocol = attribute(_CTA_PROTO_NUM, bytes([socket.IPPROTO_UDP])) + attribute(
        _CTA_PROTO_DST_PORT, struct.pack("!H", port)
    )
    wanted = attribute(_CTA_TUPLE_ORIG | _NESTED, attribute(_CTA_TUPLE_PROTO | _NESTED, protocol))
    flags = struct.pack("=I", _BY_PROTOCOL_AND_DESTINATION_PORT)
    chosen = attribute(_CTA_FILTER_ORIG_FLAGS, flags) + attribute(_CTA_FILTER_REPLY_FLAGS, struct.pack("=I", 0))
    opened.send(_message(_CT_GET, _NLM_F_DUMP, family, wanted + attribute(_CTA_FILTER | _NESTED, chosen)))
    while True:
        data = opened.recv(1 << 18)
        while data:
            length, kind = struct.unpack_from("=IH", data)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                code = -struct.unpack_from("=i", data, 16)[0]
                if code in (errno.EOPNOTSUPP, errno.EINVAL):  # no connection tracking, or a kernel before 5.8
                    return
                raise OSError(code, f"list UDP flows to port {port}: {os.strerror(code)}")
            for found, whole in _attributes(data[_HEADER.size : length]):
                if found == _CTA_TUPLE_ORIG:
                    yield whole
            data = data[(length + 3) & ~3 :]


def _message(kind: int, flags: int, family: int, attributes: bytes) -> bytes:
    length = _HEADER.size + len(attributes)
    return _HEADER.pack(length, kind, _NLM_F_REQUEST | flags, 1, 0, family, 0, 0) + attributes


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, the whole attribute with its header and padding) one after the other."""
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        end = (length + 3) & ~3
        yield kind & ~_NESTED, data[:end]
        data = data[end:]
