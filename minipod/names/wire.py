"""DNS messages (layer 2): what dnspython reads of a question, and what it writes of an answer. Decides no name.

dnspython refuses compression loops and whatever reaches outside the message. Only this module imports it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.PTR  # loaded by name otherwise, when it is in its chroot
import dns.rdtypes.ANY.SOA
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rdtypes.IN.SRV
import dns.rrset
from dns.rdataclass import IN
from dns.rdatatype import AAAA, ANY, AXFR, IXFR, PTR, SOA, SRV, A

from minipod.names.zone import Answer

TTL_S = 5
PLAIN_BYTES = 512  # an answer over UDP to a question without EDNS (RFC 1035 4.2.1)
EDNS_BYTES = 1232  # ours over UDP, never fragmented (DNS flag day 2020)
HEADER_BYTES = 12
_QR, _TC = 0x8000, 0x0200


class Question(NamedTuple):
    """A question as it came. `labels`: lower case, without the root's. `end`: where the question section ends."""

    message: dns.message.Message
    data: bytes
    labels: tuple[str, ...]
    end: int

    @property
    def type(self) -> int:
        return int(self.message.question[0].rdtype)

    def most_bytes(self, over_tcp: bool) -> int:
        """How long an answer may be."""
        if over_tcp:
            return 0xFFFF
        return max(self.message.payload, PLAIN_BYTES) if self.message.edns >= 0 else PLAIN_BYTES


class Refusal(Exception):  # noqa: N818 - an answer, no failure
    """A message that is answered without a look at its name, or not at all (`answer` is empty)."""

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__()
        self.answer = answer


def read(data: bytes) -> Question:
    """Raises Refusal. What is no question gets no answer: two answerers would send each other theirs for ever."""
    if len(data) < HEADER_BYTES or struct.unpack_from("!H", data, 2)[0] & _QR:
        raise Refusal
    try:
        message = dns.message.from_wire(data)
    except Exception:  # dnspython's own, and what its rdata classes let pass: the bytes are a stranger's
        raise Refusal(_bare(data, dns.rcode.FORMERR)) from None
    if message.opcode() != dns.opcode.QUERY:
        raise Refusal(_bare(data, dns.rcode.NOTIMP))
    if len(message.question) != 1 or message.answer or message.authority:
        raise Refusal(_bare(data, dns.rcode.FORMERR))
    asked = message.question[0]
    if message.edns > 0:
        raise Refusal(_refused(message, dns.rcode.BADVERS))
    if asked.rdclass != IN or asked.rdtype in (AXFR, IXFR):
        raise Refusal(_refused(message, dns.rcode.REFUSED))
    labels = tuple(label.decode("ascii", "replace").lower() for label in asked.name.labels[:-1])
    return Question(message, data, labels, HEADER_BYTES + sum(len(label) + 1 for label in asked.name.labels) + 4)


def answer(question: Question, found: Answer, apex: str, most_bytes: int) -> bytes:
    """The zone's answer; what does not fit is asked for again over TCP."""
    reply = _reply_to(question.message)
    reply.flags |= dns.flags.AA
    name = question.message.question[0].name
    by_type: dict[int, list[dns.rdata.Rdata]] = {}
    for record in _records(question.type, found):
        by_type.setdefault(int(record.rdtype), []).append(record)
    reply.answer = [_rrset(name, records) for records in by_type.values()]
    for service in found.services if question.type == SRV else ():
        target = dns.name.from_text(service.target)
        for kind in (A, AAAA):
            if addresses := _addresses(kind, service.addresses):
                reply.additional.append(_rrset(target, addresses))
    if not reply.answer:
        if not found.exists:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        reply.authority.append(_start_of_authority(apex))
    return _written(reply, question, most_bytes)


def example(kind: str) -> bytes:
    """A question, for a rehearsal."""
    return bytes(dns.message.make_query("an.example", kind, use_edns=0).to_wire())


def failure(question: Question) -> bytes:
    """SERVFAIL."""
    return _refused(question.message, dns.rcode.SERVFAIL)


def passed_on(question: Question, data: bytes, most_bytes: int) -> bytes | None:
    """A resolver's answer as the one to the question: with its number and its letters, upper and lower case.

    None for what is no answer to it. An error may come without the question (RFC 1035 leaves it open).
    """
    if len(data) < HEADER_BYTES:
        return None
    flags, questions = struct.unpack_from("!HH", data, 2)
    asked = question.data[HEADER_BYTES : question.end]
    if not flags & _QR:
        return None
    if questions == 0 and flags & 0xF:
        return question.data[:2] + data[2:]
    if questions != 1 or data[HEADER_BYTES : question.end].lower() != asked.lower():
        return None
    if len(data) > most_bytes:
        header = struct.pack("!HHHHH", flags | _TC, 1, 0, 0, 0)
        return question.data[:2] + header + asked
    return question.data[:2] + data[2:HEADER_BYTES] + asked + data[question.end :]


def rcode_of(data: bytes) -> int:
    return data[3] & 0xF


def _records(kind: int, found: Answer) -> Iterator[dns.rdata.Rdata]:
    if kind in (A, ANY):
        yield from _addresses(A, found.addresses)
    if kind in (AAAA, ANY):
        yield from _addresses(AAAA, found.addresses)
    if kind in (PTR, ANY) and found.pointer:
        yield dns.rdtypes.ANY.PTR.PTR(IN, PTR, dns.name.from_text(found.pointer))
    if kind in (SRV, ANY):
        for service in found.services:
            yield dns.rdtypes.IN.SRV.SRV(IN, SRV, 0, 100, service.port, dns.name.from_text(service.target))


def _addresses(kind: int, addresses: Sequence[str]) -> list[dns.rdata.Rdata]:
    """In another order each time: clients take the first."""
    wanted = [address for address in addresses if (":" in address) == (kind == AAAA)]
    random.shuffle(wanted)
    if kind == AAAA:
        return [dns.rdtypes.IN.AAAA.AAAA(IN, AAAA, address) for address in wanted]
    return [dns.rdtypes.IN.A.A(IN, A, address) for address in wanted]


def _rrset(name: dns.name.Name, records: Sequence[dns.rdata.Rdata]) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(name, TTL_S, records)


def _start_of_authority(apex: str) -> dns.rrset.RRset:
    """So that a resolver remembers for TTL_S that there is nothing (RFC 2308)."""
    server, mail = dns.name.from_text(f"ns.dns.{apex}"), dns.name.from_text(f"hostmaster.{apex}")
    record = dns.rdtypes.ANY.SOA.SOA(IN, SOA, server, mail, 1, 7200, 1800, 86400, TTL_S)
    return _rrset(dns.name.from_text(apex), [record])


def _reply_to(message: dns.message.Message) -> dns.message.Message:
    reply = dns.message.make_response(message, recursion_available=True, our_payload=EDNS_BYTES)
    assert isinstance(reply, dns.message.Message)
    return reply


def _written(reply: dns.message.Message, question: Question, most_bytes: int) -> bytes:
    try:
        return bytes(reply.to_wire(max_size=most_bytes))
    except dns.exception.TooBig:
        short = _reply_to(question.message)
        short.flags |= dns.flags.TC | dns.flags.AA
        return bytes(short.to_wire())


def _refused(message: dns.message.Message, rcode: dns.rcode.Rcode) -> bytes:
    reply = _reply_to(message)
    reply.set_rcode(rcode)
    return bytes(reply.to_wire())


def _bare(data: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """A header alone: number, operation and RD of the question."""
    number, flags = struct.unpack_from("!HH", data)
    return struct.pack("!HHHHHH", number, _QR | flags & 0x7900 | int(rcode), 0, 0, 0, 0)
