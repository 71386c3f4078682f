"""Route netlink (layer 1): links, addresses and routes of one network namespace. No policy.

The messages are pyroute2's; the socket is a plain one, because several requests have to travel in one `send` and
because `import pyroute2` would load all of it (200 ms instead of 20). Synchronous; a request takes microseconds.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address, ip_interface
from typing import Any, TypeVar

import msgspec

from minipod.kernel.netlink_messages import attribute, decode, encode, messages, split, verdict
from minipod.kernel.process import setns
from minipod.kernel.threads import OwnThread

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
IFF_UP = 0x1
IFA_F_NODAD = 0x02

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10  # an answer without a copy of the request
_NETLINK_EXT_ACK = 11  # … and with the kernel's own words
_NETLINK_GET_STRICT_CHK = 12  # a dump honours the filter of its request

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_MULTI, _NLM_F_ACK, _NLM_F_DUMP, _NLM_F_CREATE_EXCL = 0x2, 0x4, 0x300, 0x600
_NLM_F_CREATE_REPLACE = 0x500
_SIOCGIFINDEX = 0x8933
_POLL_S = 0.0003

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_GETADDR, _RTM_NEWROUTE, _RTM_GETROUTE = 20, 22, 24, 26
_RTM_NEWNEIGH, _RTM_DELNEIGH = 28, 29
_RT_TABLE_MAIN, _RTPROT_BOOT, _RT_SCOPE_UNIVERSE, _RTN_UNICAST = 254, 3, 0, 1
_NUD_PERMANENT, _NDA_DST, _NDA_LLADDR = 0x80, 1, 2
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # struct ndmsg
_RTEXT_FILTER_SKIP_STATS = 8


class Link(msgspec.Struct, frozen=True):
    """A network interface. `master` and `peer` are interface numbers, 0 without; `address` is aa:bb:…"""

    index: int
    name: str
    kind: str
    master: int
    peer: int
    mtu: int
    flags: int
    address: str


class Route(msgspec.Struct, frozen=True):
    """A route to a network. `destination` in CIDR form, 0.0.0.0/0 or ::/0 for the default route; `oif` may be 0."""

    destination: str
    oif: int
    gateway: str
    table: int
    metric: int


class Request(msgspec.Struct, frozen=True):
    """One message that wants an acknowledgement. `what` names the operation and its object for the error."""

    what: str
    type: int
    flags: int
    message: Any  # pyroute2's, or its bytes
    ignore: tuple[int, ...] = ()  # error numbers that count as success


class Netlink:
    """A NETLINK_ROUTE socket in the namespace of the calling thread, or in that of `netns`."""

    def __init__(self, netns: str | int | None = None) -> None:
        """`netns`: a path (/run/netns/NAME) or a descriptor. The socket stays there, the caller where it is."""
        self._socket = _open() if netns is None else in_netns(netns, _open)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def index(self, name: str) -> int:
        """The number of interface `name`. Raises OSError ENODEV."""
        query = struct.pack("16si12x", name.encode(), 0)
        try:
            return int(struct.unpack_from("16si", fcntl.ioctl(self._socket, _SIOCGIFINDEX, query))[1])
        except OSError as error:
            raise OSError(error.errno, f"interface {name}: {os.strerror(error.errno or 0)}") from None

    def apply(self, requests: Sequence[Request]) -> None:
        """Send all at once and check each acknowledgement. Raises OSError for the first that failed.

        The kernel continues with the next request after a failed one: the caller must be able to undo all of them.
        """
        if not requests:
            return
        waiting: dict[int, Request] = {}
        data = b""
        for request in requests:
            self._sequence += 1
            waiting[self._sequence] = request
            data += encode(request.message, request.type, request.flags | _NLM_F_ACK, self._sequence)
        self._socket.send(data)
        failed: dict[int, OSError] = {}
        while waiting:
            for kind, flags, sequence, payload in split(self._socket.recv(1 << 16)):
                if kind != _NLMSG_ERROR or sequence not in waiting:
                    continue  # what an earlier, interrupted call left
                request = waiting.pop(sequence)
                code, words = verdict(payload, flags)
                if code and code not in request.ignore:
                    failed[sequence] = OSError(code, f"{request.what}: {words}")
        if failed:
            raise failed[min(failed)]

    def link(self, name: str) -> Link | None:
        """The interface `name`, None if there is none."""
        message = messages().link()
        message["attrs"] = [("IFLA_IFNAME", name), ("IFLA_EXT_MASK", _RTEXT_FILTER_SKIP_STATS)]
        try:
            return next((_link(m) for m in self._ask(_RTM_GETLINK, 0, message, f"interface {name}")), None)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def links(self, master: int = 0) -> list[Link]:
        """All interfaces, or those enslaved to interface number `master`."""
        message = messages().link()
        message["attrs"] = [("IFLA_EXT_MASK", _RTEXT_FILTER_SKIP_STATS)]
        if master:
            message["attrs"].append(("IFLA_MASTER", master))
        found = [_link(m) for m in self._ask(_RTM_GETLINK, _NLM_F_DUMP, message, "list of interfaces")]
        return [link for link in found if not master or link.master == master]

    def addresses(self, index: int = 0) -> list[tuple[int, str]]:
        """(interface number, address in CIDR form) of all interfaces or of one."""
        message = messages().address()
        message["index"] = index
        return [
            (m["index"], f"{m.get_attr('IFA_LOCAL') or m.get_attr('IFA_ADDRESS')}/{m['prefixlen']}")
            for m in self._ask(_RTM_GETADDR, _NLM_F_DUMP, message, "list of addresses")
        ]

    def routes(self) -> list[Route]:
        """The unicast routes of every table, IPv4 and IPv6; neither local nor multicast ones."""
        found = []
        for family, everything in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            message = messages().route()
            message["family"] = family
            for m in self._ask(_RTM_GETROUTE, _NLM_F_DUMP, message, "list of routes"):
                if m["family"] == family and m["type"] == _RTN_UNICAST:
                    found.append(
                        Route(
                            destination=f"{m.get_attr('RTA_DST') or everything}/{m['dst_len']}",
                            oif=_out_interface(m),
                            gateway=m.get_attr("RTA_GATEWAY") or "",
                            table=m.get_attr("RTA_TABLE") or m["table"],
                            metric=m.get_attr("RTA_PRIORITY") or 0,
                        )
                    )
        return found

    def _ask(self, kind: int, flags: int, message: Any, what: str) -> Iterator[Any]:
        """The answers to one question, decoded. Raises OSError."""
        self._sequence += 1
        self._socket.send(encode(message, kind, flags, self._sequence))
        answer = type(message)
        while True:
            for answer_kind, answer_flags, sequence, payload in split(self._socket.recv(1 << 18)):
                if sequence != self._sequence:
                    continue
                if answer_kind == _NLMSG_DONE:
                    return
                if answer_kind == _NLMSG_ERROR:
                    code, words = verdict(payload, answer_flags)
                    if code:
                        raise OSError(code, f"{what}: {words}")
                    return
                yield decode(answer, answer_kind, answer_flags, payload)
                if not answer_flags & _NLM_F_MULTI:
                    return


def in_netns(netns: str | int, act: Callable[[], T]) -> T:
    """`act()` inside network namespace `netns` (path or descriptor), on a thread that ends with it.

    A thread, because it can never leave the caller in the wrong namespace; it costs 0.2 ms. What it opens (sockets,
    /proc/sys/net files) goes on belonging to that namespace. Raises what `act` raises, OSError if `netns` is none.
    """
    fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC) if isinstance(netns, str) else netns

    def run() -> T:
        setns(fd, CLONE_NEWNET)
        return act()

    try:
        return OwnThread(run).wait()
    finally:
        if isinstance(netns, str):
            os.close(fd)


def exists(name: str) -> bool:
    """Whether there is an interface of that name. A path in /proc/sys/net is slower with every network namespace."""
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


#: threads that wait for the kernel at the same time: hundreds of pods that go at once would take all memory for stacks
_deletions = threading.BoundedSemaphore(16)


def remove_link(name: str) -> None:
    """Delete interface `name`; it is gone when this returns. No error if there is none.

    The kernel answers only when every CPU has seen it (RCU, 15 to 40 ms); the link is gone after 2. The rest of the
    waiting is left to a thread. Raises OSError.
    """

    def run() -> None:
        with Netlink() as opened:
            opened.apply([delete_link(name)])

    if not exists(name):
        return
    _deletions.acquire()
    thread = OwnThread(run, at_end=_deletions.release)
    while not thread.is_done() and exists(name):
        time.sleep(_POLL_S)
    if thread.is_done():
        thread.wait()


# ---- requests -------------------------------------------------------------------------------------------------------


def new_bridge(name: str, mtu: int, address: str) -> Request:
    """A bridge without spanning tree and forward delay, down. `address` is pinned: else it would follow its ports."""
    data = [("IFLA_BR_FORWARD_DELAY", 0), ("IFLA_BR_STP_STATE", 0)]
    attrs = [("IFLA_IFNAME", name), ("IFLA_MTU", mtu), ("IFLA_ADDRESS", address), _kind("bridge", data)]
    return _new_link(f"create bridge {name}", attrs)


def new_veth(name: str, *, mtu: int, master: int, netns_fd: int, peer: str, peer_address: str) -> Request:
    """A veth pair, down: `name` here, enslaved to interface number `master`; `peer` made in `netns_fd`."""
    inner = messages().veth_peer()
    inner["attrs"] = [
        ("IFLA_IFNAME", peer),
        ("IFLA_MTU", mtu),
        ("IFLA_ADDRESS", peer_address),
        ("IFLA_NET_NS_FD", netns_fd),
    ]
    attrs = [
        ("IFLA_IFNAME", name),
        ("IFLA_MTU", mtu),
        ("IFLA_MASTER", master),
        _kind("veth", [("VETH_INFO_PEER", inner)]),
    ]
    return _new_link(f"create veth pair {name}", attrs)


def _new_link(what: str, attrs: list[tuple[str, object]]) -> Request:
    message = messages().link()
    message["attrs"] = attrs
    return Request(what, _RTM_NEWLINK, _NLM_F_CREATE_EXCL, message)


def _kind(kind: str, data: list[tuple[str, Any]]) -> tuple[str, object]:
    return ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", {"attrs": data})]})


def set_up(index: int) -> Request:
    message = messages().link()
    message["index"] = index
    message["flags"] = message["change"] = IFF_UP
    return Request(f"set interface {index} up", _RTM_NEWLINK, 0, message)


def set_hairpin(index: int) -> Request:
    """Let a bridge port send a frame back where it came from."""
    data = {"attrs": [("IFLA_BRPORT_MODE", 1)]}
    message = messages().link()
    message["index"] = index
    message["attrs"] = [
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", data)]})
    ]
    return Request(f"set hairpin mode of bridge port {index}", _RTM_NEWLINK, 0, message)


def add_address(index: int, cidr: str) -> Request:
    """An address (10.86.0.2/20, fd00::2/64) for interface number `index`; IPv6 without duplicate address detection."""
    interface = ip_interface(cidr)
    message = messages().address()
    message["family"] = _family(interface.version)
    message["index"] = index
    message["prefixlen"] = interface.network.prefixlen
    message["attrs"] = [("IFA_LOCAL", str(interface.ip)), ("IFA_ADDRESS", str(interface.ip))]
    if interface.version == 6:
        message["attrs"].append(("IFA_FLAGS", IFA_F_NODAD))
    return Request(f"add address {cidr}", _RTM_NEWADDR, _NLM_F_CREATE_EXCL, message, (errno.EEXIST,))


def add_default_route(index: int, gateway: str) -> Request:
    message = messages().route()
    message["family"] = _family(ip_address(gateway).version)
    message["table"], message["proto"] = _RT_TABLE_MAIN, _RTPROT_BOOT
    message["scope"], message["type"] = _RT_SCOPE_UNIVERSE, _RTN_UNICAST
    message["attrs"] = [("RTA_GATEWAY", gateway), ("RTA_OIF", index)]
    return Request(f"add default route via {gateway}", _RTM_NEWROUTE, _NLM_F_CREATE_EXCL, message, (errno.EEXIST,))


def add_neighbour(index: int, address: str, mac: str) -> Request:
    """What `address` resolves to on interface number `index`, for ever: it is neither asked for nor counted."""
    link_address = bytes.fromhex(mac.replace(":", ""))
    message = _neighbour(index, address) + attribute(_NDA_LLADDR, link_address)
    return Request(f"add neighbour {address}", _RTM_NEWNEIGH, _NLM_F_CREATE_REPLACE, message)


def delete_neighbour(index: int, address: str) -> Request:
    """No error if there is none, or no such interface."""
    message = _neighbour(index, address)
    return Request(f"delete neighbour {address}", _RTM_DELNEIGH, 0, message, (errno.ENOENT, errno.ENODEV))


def _neighbour(index: int, address: str) -> bytes:
    destination = ip_address(address)
    header = _NEIGHBOUR.pack(_family(destination.version), index, _NUD_PERMANENT, 0, 0)
    return header + attribute(_NDA_DST, destination.packed)


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def delete_link(name: str) -> Request:
    """No error if there is no such interface."""
    message = messages().link()
    message["attrs"] = [("IFLA_IFNAME", name)]
    return Request(f"delete interface {name}", _RTM_DELLINK, 0, message, (errno.ENODEV,))


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
        opened.setsockopt(_SOL_NETLINK, option, 1)
    return opened


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
        master=message.get_attr("IFLA_MASTER") or 0,
        peer=message.get_attr("IFLA_LINK") or 0,
        mtu=message.get_attr("IFLA_MTU") or 0,
        flags=message["flags"],
        address=message.get_attr("IFLA_ADDRESS") or "",
    )


def _out_interface(message: Any) -> int:
    direct = message.get_attr("RTA_OIF")
    if direct:
        return int(direct)
    paths = message.get_attr("RTA_MULTIPATH") or []
    return int(paths[0]["oif"]) if paths else 0
