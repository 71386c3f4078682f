"""Who is at the other end of a unix socket (layer 1): SO_PEERCRED of unix(7), as of when it connected."""

from __future__ import annotations

import os
import socket
import struct

_UCRED = struct.Struct("3i")  # pid, uid, gid


def pid_of(sock: socket.socket) -> int:
    """Zero where it is in no PID namespace of ours."""
    return _credentials(sock)[0]


def is_own_user(sock: socket.socket) -> bool:
    """Only the user that this process runs as, which is root wherever it is not a test."""
    return _credentials(sock)[1] == os.geteuid()


def _credentials(sock: socket.socket) -> tuple[int, int, int]:
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid, gid
