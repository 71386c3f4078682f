"""nftables over nfnetlink (layer 1): transactions of `nft_rules`' values, and the few questions there are. No policy.

By itself and not through libnftables: that library takes 4 MB in a process, lists whole tables to answer about an
element, and its older versions crash on what a newer nft(8) wrote. See linux/netfilter/nfnetlink.h, nf_tables.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from minipod.kernel import threads
from minipod.kernel.nft_rules import Command, Delete, Element, Message, string

_NETLINK_NETFILTER = 12
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_SO_SNDBUFFORCE = 32
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 16, 17  # NFNL_MSG_BATCH_*
_GETCHAIN, _GETSETELEM, _GETGEN = 4, 13, 16  # NFT_MSG_*
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP, _NLM_F_DUMP_INTR, _NLM_F_ACK_TLVS = 0x1, 0x4, 0x300, 0x10, 0x200
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLMSGERR_ATTR_MSG = 1
_HEADER = struct.Struct("=IHHIIBBH")  # struct nlmsghdr, struct nfgenmsg
_NLMSGHDR_BYTES, _ERROR_BYTES = 16, 36  # of the second: nlmsghdr, the number, nlmsghdr of the request
_RECEIVE_BYTES = 1 << 16
_INET = 1  # NFPROTO_INET
_FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}
_HOOKS, _NF_DROP = {"input": 1, "forward": 2}, 0  # NF_INET_LOCAL_IN, NF_INET_FORWARD
_DUMP_TRIES = 10


class Answer(NamedTuple):
    """A message from the kernel: the family that it is about, its attributes."""

    family: int
    attributes: dict[int, bytes]


class Nftables:
    """One socket: it belongs to the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._closes_slowly = False

    def run(self, table: str, commands: Sequence[Command]) -> None:
        """All of them take effect, or none. `table`: of the family inet, what they are about.

        Raises OSError with the kernel's errno (ENOENT, EEXIST …) and the text of the command that failed.
        """
        batch = [_message(_BATCH_BEGIN, 0, 0, socket.AF_UNSPEC, b"", _SUBSYSTEM)]
        origins = [""]  # the text's command by sequence number
        for set_id, command in enumerate(commands, 1):
            for made in command.messages(set_id):
                batch.append(_of_table(table, made, len(batch)))
                origins.append(f"{'delete' if isinstance(command, Delete) else 'add'} {command.text(table)}")
        batch.append(_message(_BATCH_END, 0, len(batch), socket.AF_UNSPEC, b"", _SUBSYSTEM))
        data = b"".join(batch)
        self._closes_slowly = True
        if len(data) > _RECEIVE_BYTES:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * len(data))
        self._socket.send(data)
        for sequence, code, words in self._failures():
            what = origins[sequence] if sequence < len(origins) else "transaction"
            raise OSError(code, f"nftables: {what}: {words}")

    def _failures(self) -> Iterator[tuple[int, int, str]]:
        """What is wrong with the batch just sent. The kernel has answered when send returns; of success it is silent.

        All is read: what is left would be taken for the answer to the next question.
        """
        found = []
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more failures than there is room for: the first of them are here
                    raise
                continue
            for message, kind, flags, sequence in _split(data):
                if kind == _NLMSG_ERROR and (code := _code(message)):
                    found.append((sequence, code, _words(message, flags, code)))
        yield from found

    def exists(self, table: str, chain: str) -> bool:
        """Whether the table, family inet, has this chain."""
        try:
            self._ask(_GETCHAIN, string(1, table) + string(3, chain))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        return True

    def holds(self, table: str, element: Element) -> bool:
        """Whether the map has the element's key, with the element's value. False where there is no map or table."""
        return self.value(table, element) == element.encoded_value()

    def value(self, table: str, element: Element) -> bytes | None:
        """What the map has for the element's key, as `encoded_value` has it. None where there is no such key.

        The kernel looks it up: the answer costs the same however many elements there are.
        """
        try:
            answer = self._ask(_GETSETELEM, string(1, table) + element.key_attributes())
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return None
        found = _attributes(answer.attributes[3])[1]  # NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_LIST_ELEM
        return _attributes(_attributes(found)[2])[1]  # NFTA_SET_ELEM_DATA, NFTA_DATA_VALUE

    def drops(self, hook: str) -> list[str]:
        """The chains of a hook (input, forward) that drop packets by default, as nft(8) names them: `ip filter INPUT`.

        From a dump of all chains of the namespace, without their rules.
        """
        return [
            f"{_FAMILIES[chain.family]} {_text(chain.attributes[1])} {_text(chain.attributes[3])}"
            for chain in self._dump(_GETCHAIN)
            if chain.family in _FAMILIES and _drops(chain.attributes, _HOOKS[hook])
        ]

    def _ask(self, kind: int, attributes: bytes) -> Answer:
        self._socket.send(_message(_SUBSYSTEM << 8 | kind, 0, 1, _INET, attributes))
        for message, answered, flags, _ in _split(self._socket.recv(_RECEIVE_BYTES)):
            if answered == _NLMSG_ERROR:
                code = _code(message)
                raise OSError(code, f"nftables: {_words(message, flags, code)}")
            return _answer(message)
        raise OSError(errno.EPROTO, "nftables: the kernel's answer is empty")

    def _dump(self, kind: int) -> list[Answer]:
        """All objects of a kind; asks again where the rules changed during the dump. Raises OSError."""
        for _ in range(_DUMP_TRIES):
            self._socket.send(_message(_SUBSYSTEM << 8 | kind, _NLM_F_DUMP, 1, socket.AF_UNSPEC, b""))
            found, whole = self._dumped()
            if whole:
                break
        return found

    def _dumped(self) -> tuple[list[Answer], bool]:
        found: list[Answer] = []
        whole = True
        while True:
            for message, kind, flags, _ in _split(self._socket.recv(_RECEIVE_BYTES)):
                whole = whole and not flags & _NLM_F_DUMP_INTR
                if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    code = _code(message)
                    if code and code != errno.EINTR:
                        raise OSError(code, f"nftables: {_words(message, flags, code)}")
                    return found, whole and not code
                found.append(_answer(message))

    def close(self) -> None:
        """Does not wait: after a deletion the kernel closes the socket only when RCU lets it (10 to 25 ms)."""
        if self._closes_slowly:
            threads.begin(self._socket.close)  # without a thread it is closed with this object
        else:
            self._socket.close()

    def __enter__(self) -> Nftables:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def generation() -> int:
    """A number that changes with every change of this network namespace's rules, by any process (takes 0.03 ms).

    Raises OSError where nftables is not there, or may not be used.
    """
    with Nftables() as nftables:
        answer = nftables._ask(_GETGEN, b"")
    return int.from_bytes(answer.attributes[1], "big")  # NFTA_GEN_ID


def _of_table(table: str, made: Message, sequence: int) -> bytes:
    return _message(_SUBSYSTEM << 8 | made.kind, made.flags, sequence, _INET, string(1, table) + made.attributes)


def _message(kind: int, flags: int, sequence: int, family: int, attributes: bytes, resource: int = 0) -> bytes:
    length = _HEADER.size + len(attributes)
    header = _HEADER.pack(length, kind, _NLM_F_REQUEST | flags, sequence, 0, family, 0, socket.htons(resource))
    return header + attributes


def _split(data: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """(the whole message, its type, its flags, its number) one after the other."""
    while len(data) >= _NLMSGHDR_BYTES:
        length, kind, flags, sequence = struct.unpack_from("=IHHI", data)
        yield data[:length], kind, flags, sequence
        data = data[(max(length, _NLMSGHDR_BYTES) + 3) & ~3 :]


def _code(message: bytes) -> int:
    """Of NLMSG_ERROR or NLMSG_DONE; 0 is success."""
    return -int(struct.unpack_from("=i", message, _NLMSGHDR_BYTES)[0])


def _words(message: bytes, flags: int, code: int) -> str:
    """The errno's, and the kernel's own where it has any (extended ack)."""
    words = os.strerror(code)
    if flags & _NLM_F_ACK_TLVS and _NLMSGERR_ATTR_MSG in (more := _attributes(message[_ERROR_BYTES:])):
        words += f": {_text(more[_NLMSGERR_ATTR_MSG])}"
    return words


def _answer(message: bytes) -> Answer:
    return Answer(message[_NLMSGHDR_BYTES], _attributes(message[_HEADER.size :]))


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[(max(length, 4) + 3) & ~3 :]
    return found


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _drops(chain: dict[int, bytes], hook: int) -> bool:
    """NFTA_CHAIN_HOOK with NFTA_HOOK_HOOKNUM, NFTA_CHAIN_POLICY."""
    if 4 not in chain or 5 not in chain:
        return False
    return (
        int.from_bytes(_attributes(chain[4]).get(1, b""), "big") == hook and int.from_bytes(chain[5], "big") == _NF_DROP
    )
