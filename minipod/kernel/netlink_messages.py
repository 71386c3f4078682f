"""Route netlink's bytes (layer 1): pyroute2's message classes, and what surrounds a message on the wire."""

from __future__ import annotations

import importlib.util
import os
import struct
import sys
import types
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

NLM_F_REQUEST = 0x1
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSGERR_ATTR_MSG = 1
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr


class _Messages(NamedTuple):
    link: Any
    veth_peer: Any
    address: Any
    route: Any


@cache
def messages() -> _Messages:
    """pyroute2's message classes, without the rest of pyroute2.

    Its `__init__` imports everything there is, so an empty package stands in for it while the four modules load, and
    another for multiprocessing. They are taken away afterwards: a later `import pyroute2` gets the real one.
    """
    stand_ins = {}
    if "pyroute2" not in sys.modules:
        spec = importlib.util.find_spec("pyroute2")
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError("pyroute2 is not installed")
        stand_ins["pyroute2"] = package = types.ModuleType("pyroute2")
        package.__path__ = list(spec.submodule_search_locations)
    if "multiprocessing" not in sys.modules:  # pyroute2.config keeps three names of it, which the messages do not use
        stand_ins["multiprocessing"] = processes = types.ModuleType("multiprocessing")
        vars(processes).update(Pipe=None, Queue=None, Process=None)
    sys.modules.update(stand_ins)
    try:
        from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
        from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg, ifinfveth
        from pyroute2.netlink.rtnl.rtmsg import rtmsg
    finally:
        for name in stand_ins:
            del sys.modules[name]
    return _Messages(ifinfmsg, ifinfveth, ifaddrmsg, rtmsg)


def attribute(kind: int, value: bytes) -> bytes:
    """struct nlattr with its value, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def encode(message: Any, kind: int, flags: int, sequence: int) -> bytes:
    if isinstance(message, bytes):
        return _HEADER.pack(_HEADER.size + len(message), kind, NLM_F_REQUEST | flags, sequence, 0) + message
    message["header"] = {"type": kind, "flags": NLM_F_REQUEST | flags, "sequence_number": sequence, "pid": 0}
    message.encode()
    data = bytes(message.data)
    return data + bytes(-len(data) % 4)


def decode(kind: Any, number: int, flags: int, payload: bytes) -> Any:
    message = kind(_HEADER.pack(_HEADER.size + len(payload), number, flags, 0, 0) + payload)
    message.decode()
    return message


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence number, payload) of each message in one datagram."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def verdict(payload: bytes, flags: int) -> tuple[int, str]:
    """(error number, words) of a struct nlmsgerr; (0, "") for an acknowledgement."""
    code = -struct.unpack_from("=i", payload)[0]
    if not code:
        return 0, ""
    words = os.strerror(code)
    offset = 4 + _HEADER.size
    if flags & _NLM_F_ACK_TLVS and flags & _NLM_F_CAPPED:
        while offset + 4 <= len(payload):
            length, kind = struct.unpack_from("=HH", payload, offset)
            if length < 4:
                break
            if kind & 0x3FFF == _NLMSGERR_ATTR_MSG:
                words += " (" + payload[offset + 4 : offset + length].rstrip(b"\0").decode(errors="replace") + ")"
            offset += (length + 3) & ~3
    return code, words
