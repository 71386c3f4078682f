"""What the answerer answers from (layer 2): a file that the agent replaces by rename. Pure.

Named tuples, so that the answerer reads it with the standard library alone: JSON has them as arrays.
"""

from __future__ import annotations

import json
from typing import NamedTuple

FILE = "table.json"
UNPRIVILEGED = 65534  # the user and the group that the answerer becomes


class Pod(NamedTuple):
    """A pod with addresses. Its namespace and names are lower case, as the API server has them."""

    namespace: str
    name: str
    hostname: str
    subdomain: str
    addresses: tuple[str, ...]
    is_ready: bool
    ports: tuple[tuple[str, str, int], ...] = ()  # name, protocol in lower case, number


class Table(NamedTuple):
    """`domain`: what all names end in. `subnets`: of the pods, CIDR. `servers`: the host's resolvers, addresses."""

    domain: str
    subnets: tuple[str, ...]
    servers: tuple[str, ...]
    pods: tuple[Pod, ...]


def decode(data: bytes) -> Table:
    """Raises ValueError, TypeError for what is no table."""
    domain, subnets, servers, pods = json.loads(data)
    return Table(domain, tuple(subnets), tuple(servers), tuple(map(_pod, pods)))


def _pod(fields: list[object]) -> Pod:
    pod = Pod(*fields)  # type: ignore[arg-type]
    return pod._replace(
        addresses=tuple(pod.addresses), ports=tuple((name, kind, port) for name, kind, port in pod.ports)
    )
