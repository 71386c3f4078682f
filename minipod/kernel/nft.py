"""nftables through libnftables' JSON interface (layer 1), libnftables-json(5). No policy.

A command is a dict as that page has them: {"add": {"table": {"family": "inet", "name": "minipod"}}}. The commands of
one `run` are one transaction: all of them take effect, or none.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import struct
import threading
from functools import cache
from typing import Any

from minipod.errors import HostError

LIBRARY = "libnftables.so.1"
_NFT_CTX_DEFAULT = 0
_NFT_CTX_OUTPUT_JSON = 1 << 4

_NETLINK_NETFILTER, _NLM_F_REQUEST = 12, 0x1
_NFT_MSG_GETGEN = 10 << 8 | 16  # NFNL_SUBSYS_NFTABLES
_NFTA_GEN_ID = 1

#: libnftables tells the kernel's answer in words only
_ERRNO = {os.strerror(code): code for code in errno.errorcode}


class Nftables:
    """One libnftables context: it belongs to the network namespace of the thread that calls it."""

    def __init__(self) -> None:
        self._library = _library()
        self._context = self._library.nft_ctx_new(_NFT_CTX_DEFAULT)
        if not self._context:
            raise HostError("nftables: cannot make a context: out of memory")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)
        self._library.nft_ctx_output_set_flags(self._context, _NFT_CTX_OUTPUT_JSON)
        self._closes_slowly = False

    def run(self, commands: list[dict[str, Any]]) -> dict[str, Any]:
        """The answer to a list command, {} to others.

        Raises OSError with the kernel's errno where that is known (ENOENT, EEXIST …), EINVAL for what libnftables does
        not understand; the text names the command.
        """
        text = json.dumps({"nftables": commands}).encode()
        self._closes_slowly |= any("list" not in command for command in commands)
        failed = self._library.nft_run_cmd_from_buffer(self._context, text)
        output = self._library.nft_ctx_get_output_buffer(self._context) or b""
        words = (self._library.nft_ctx_get_error_buffer(self._context) or b"").decode(errors="replace")
        if failed:
            message = _first_line(words)
            raise OSError(_code(message), f"nftables: {_describe(commands)}: {message}")
        answer: dict[str, Any] = json.loads(output) if output.strip() else {}
        return answer

    def close(self) -> None:
        """Does not wait: after a deletion the kernel closes the socket only when RCU lets it (10 to 25 ms)."""
        if self._context and self._closes_slowly:
            threading.Thread(target=self._library.nft_ctx_free, args=(self._context,), name="nft close").start()
        elif self._context:
            self._library.nft_ctx_free(self._context)
        self._context = None

    def __enter__(self) -> Nftables:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def run(commands: list[dict[str, Any]]) -> dict[str, Any]:
    """`Nftables.run` in a context of its own (0.3 ms)."""
    with Nftables() as nftables:
        return nftables.run(commands)


def generation() -> int:
    """A number that every change of this network namespace's rules, whoever makes it, makes another (0.03 ms).

    Raises OSError where nftables is not there.
    """
    header = struct.Struct("=IHHII")
    generic = bytes(4)  # struct nfgenmsg
    request = header.pack(header.size + len(generic), _NFT_MSG_GETGEN, _NLM_F_REQUEST, 1, 0) + generic
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as sock:
        sock.send(request)
        answer = sock.recv(4096)
    at = header.size + len(generic)
    while at + 4 <= len(answer):
        length, kind = struct.unpack_from("=HH", answer, at)
        if kind == _NFTA_GEN_ID:
            return int.from_bytes(answer[at + 4 : at + 8], "big")
        at += max(4, length + 3 & ~3)
    raise OSError(errno.EOPNOTSUPP, "nftables: the kernel tells no generation")


def available() -> str:
    """Empty if nftables can be used, else why not and what to do."""
    try:
        run([{"list": {"tables": {}}}])
    except (HostError, OSError) as error:
        return str(error)
    return ""


@cache
def _library() -> ctypes.CDLL:
    """libnftables with its types set. Raises HostError where it is missing."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise HostError(f"nftables: cannot load {LIBRARY}: {error}: install libnftables1") from None
    context, text = ctypes.c_void_p, ctypes.c_char_p
    for name, arguments, result in (
        ("nft_ctx_new", [ctypes.c_uint32], context),
        ("nft_ctx_free", [context], None),
        ("nft_ctx_buffer_output", [context], ctypes.c_int),
        ("nft_ctx_buffer_error", [context], ctypes.c_int),
        ("nft_ctx_get_output_buffer", [context], text),
        ("nft_ctx_get_error_buffer", [context], text),
        ("nft_ctx_output_set_flags", [context, ctypes.c_uint], None),
        ("nft_run_cmd_from_buffer", [context, text], ctypes.c_int),
    ):
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = result
    return library


def _first_line(words: str) -> str:
    """`internal:0:0-0: Error: Could not process rule: No such file or directory` without its place."""
    line = next((line for line in words.splitlines() if line.strip()), "unknown error")
    return line.split("Error: ", 1)[-1].strip()


def _code(message: str) -> int:
    return _ERRNO.get(message.rsplit(": ", 1)[-1], errno.EINVAL)


def _describe(commands: list[dict[str, Any]]) -> str:
    """`add table inet minipod, add chain inet minipod nat …`"""
    parts = []
    for command in commands[:3]:
        for verb, objects in command.items():
            for kind, thing in objects.items():
                place = thing if isinstance(thing, dict) else {}
                names = [place.get(key) for key in ("family", "table", "chain", "name")]
                parts.append(" ".join([verb, kind, *(str(name) for name in names if name)]))
    return ", ".join(parts) + (" …" if len(commands) > 3 else "")
