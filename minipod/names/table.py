"""What the answerer answers from (layer 2): a file that the agent replaces by rename, or adds lines to. Pure.

The first line is what is the same for all pods; then a line for each pod, and later one for each that has changed or is
gone: the last line of a pod counts, so a change costs the same however many pods there are. A line that is not whole
yet does not count. Lines are JSON arrays, so that the answerer reads them with the standard library alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

FILE = "table.jsonl"
#: the user and the group that the answerer becomes: not 65534, whose group other processes have too
UNPRIVILEGED = 65533


class Pod(NamedTuple):
    """A pod with addresses. Its namespace and names are lower case, as the API server has them."""

    namespace: str
    name: str
    hostname: str
    subdomain: str
    addresses: tuple[str, ...]
    is_ready: bool
    ports: tuple[tuple[str, str, int], ...] = ()  # name, protocol in lower case, number


class Gone(NamedTuple):
    """A pod that has no name any more."""

    namespace: str
    name: str


class Table(NamedTuple):
    """`domain`: what all names end in. `subnets`: of the pods, CIDR. `servers`: the host's resolvers, addresses."""

    domain: str
    subnets: tuple[str, ...]
    servers: tuple[str, ...]
    pods: tuple[Pod, ...]


def head(table: Table) -> bytes:
    """The first line."""
    return _line(table[:-1])


def encode(table: Table) -> bytes:
    """A whole file."""
    return head(table) + lines(table.pods)


def lines(changes: Iterable[Pod | Gone]) -> bytes:
    return b"".join(map(_line, changes))


def _line(fields: tuple[object, ...]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def decode(data: bytes) -> Table:
    """Raises ValueError, TypeError for what is no table."""
    first, *others = data[: data.rfind(b"\n") + 1].splitlines() or [b""]
    domain, subnets, servers = json.loads(first)
    pods: dict[tuple[str, str], Pod] = {}
    for line in others:
        fields = json.loads(line)
        if len(fields) == len(Gone._fields):
            pods.pop((fields[0], fields[1]), None)
        else:
            pods[fields[0], fields[1]] = _pod(fields)
    return Table(domain, tuple(subnets), tuple(servers), tuple(pods.values()))


def _pod(fields: list[object]) -> Pod:
    pod = Pod(*fields)  # type: ignore[arg-type]
    return pod._replace(
        addresses=tuple(pod.addresses), ports=tuple((name, kind, port) for name, kind, port in pod.ports)
    )
