"""Whether a port of the host is taken (layer 1): asked by binding it for a moment. No policy."""

from __future__ import annotations

import errno
import socket

_KINDS = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}


def is_bound(protocol: str, address: str, port: int) -> bool:
    """Whether a process listens at this port of the host. `address` empty: at any. Of SCTP nothing is known: False."""
    if protocol not in _KINDS:
        return False
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, _KINDS[protocol]) as probe:
            if protocol == "TCP":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended take no port
            probe.bind((address, port))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False
