"""For how many pods this host has room, and which limit ends it (layer 3). Looks at present values; changes nothing."""

from __future__ import annotations

from ipaddress import ip_network

from minipod.config import Config
from minipod.kernel import descriptors
from minipod.kernel.inherit import OPEN_FILES, may_raise_limits
from minipod.kernel.limit_values import read
from minipod.kernel.limits import LIMITS, Room, Value, rooms
from minipod.runtime.ipam import BRIDGE_BITS
from minipod.runtime.subnets import ipv4_candidates

PODS = 1000  # what a host should have room for
_NEARLY = 0.8  # of a limit that pods reach by what they do, and not by their number


def host_rooms(config: Config) -> list[Room]:
    """By each limit, the lowest first."""
    return rooms(lambda name: _value(name, config))


def shortfalls(config: Config) -> list[str]:
    """A line for each limit that PODS pods would meet, and for each that is nearly reached by other means."""
    found = [
        f"{room.describe()}: for {PODS}: {LIMITS[room.name].remedy}" for room in host_rooms(config) if room.pods < PODS
    ]
    for name in ("connections", "neighbours"):
        used, most = read(name)
        if used is not None and most is not None and used > _NEARLY * most:
            limit = LIMITS[name]
            found.append(f"{used} of {most} {limit.what} ({limit.where}): {limit.remedy}")
    return found


def _value(name: str, config: Config) -> Value:
    match name:
        case "addresses":
            subnet = ip_network(config.ipv4_subnet) if config.ipv4_subnet else next(ipv4_candidates(""))
            # of each bridge's part the first, the last and the bridge's own
            return Value(3 * max(1, subnet.num_addresses >> BRIDGE_BITS), subnet.num_addresses)
        case "descriptors":  # the agent raises its soft limit, where it may the hard one too
            most = OPEN_FILES if may_raise_limits() else descriptors.hard_limit()
            return Value(descriptors.reserve(most), most)
    return read(name)
