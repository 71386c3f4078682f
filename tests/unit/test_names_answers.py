"""The answerer over real sockets of the loopback, and the resolvers that it asks (unit): no root, no time passes."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from minipod.names import forward
from minipod.names.loop import Loop
from minipod.names.serve import Answerer, rehearse
from minipod.names.table import Pod, Table, encode

MANY = tuple(Pod("shop", f"p{n}", f"p{n}", "many", (f"127.0.1.{n}",), True) for n in range(1, 120))
WEB = Pod("shop", "web", "web", "", ("127.0.0.1", "fd00::1"), True)


class VirtualLoop(Loop):
    """Time passes only where nothing else happens."""

    passed = 0.0

    def now(self) -> float:  # type: ignore[override]
        return self.passed

    def turn(self) -> None:
        events = self._poll.poll(0)
        for fd, event in events:
            self._handlers[fd](event)
        if not events and self._timers:
            timer = min(self._timers)
            self._timers.remove(timer)
            self.passed = max(self.passed, timer.at)
            timer.fire()

    @property
    def is_quiet(self) -> bool:
        return not self._poll.poll(0)

    def close(self) -> None:
        """All that waits has ended: connections that nothing comes from, questions without an answer."""
        while self._timers:
            self.turn()
        self._poll.close()


class Host:
    """An answerer at 127.0.0.1, a resolver next to it, and a client of both."""

    def __init__(self, folder: Path, *, resolvers: tuple[str, ...] = ("127.0.0.1",)) -> None:
        self.sockets: list[socket.socket] = []
        self.resolver, self.tcp_resolver = self.pair()
        self.tcp_resolver.listen()
        self.loop = VirtualLoop()
        self.table = folder / "table.jsonl"
        self.write(resolvers)
        self.answerer = Answerer(self.loop, str(self.table), port=self.resolver.getsockname()[1])
        self.udp, self.tcp = self.socket(socket.SOCK_DGRAM), self.socket(socket.SOCK_STREAM)
        self.tcp.listen()
        self.answerer.serve_udp(self.udp)
        self.answerer.serve_tcp(self.tcp)
        self.client = self.socket(socket.SOCK_DGRAM)
        self.client.connect(self.udp.getsockname())

    def write(self, resolvers: tuple[str, ...], subnet: str = "127.0.0.0/8") -> None:
        new = self.table.with_suffix(".new")
        new.write_bytes(encode(Table("cluster.local", (subnet, "fd00::/64"), resolvers, (WEB, *MANY))))
        new.replace(self.table)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """UDP and TCP at one port; the next one where another program has the second."""
        while True:
            first = self.socket(socket.SOCK_DGRAM)
            with contextlib.suppress(OSError):
                return first, self.socket(socket.SOCK_STREAM, port=first.getsockname()[1])

    def socket(self, kind: int, port: int = 0) -> socket.socket:
        made = socket.socket(socket.AF_INET, kind)
        self.sockets.append(made)
        made.setblocking(False)
        made.bind(("127.0.0.1", port))
        return made

    def run(self, is_done: Callable[[], bool] = lambda: False) -> None:
        """Until it is done, or nothing more happens."""
        for _ in range(100):
            if is_done():
                return
            self.loop.turn()

    def is_quiet(self) -> bool:
        return self.loop.is_quiet

    def close(self) -> None:
        for sock in self.sockets:
            if sock in (self.udp, self.tcp):
                self.loop.forget(sock.fileno())
            sock.close()
        self.loop.close()

    def send(self, data: bytes) -> bytes | None:
        """The answer to a message over UDP; None where there is none."""
        self.client.send(data)
        self.run()
        return received(self.client)

    def ask(self, name: str, kind: str = "A", **options: object) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **options)  # type: ignore[arg-type]
        data = self.send(query.to_wire())
        assert data is not None
        answer = dns.message.from_wire(data)
        assert query.is_response(answer)
        return answer


def received(sock: socket.socket) -> bytes | None:
    try:
        return sock.recv(0xFFFF)
    except BlockingIOError:
        return None


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.close()


def texts(answer: dns.message.Message) -> list[str]:
    return sorted(str(record) for rrset in answer.answer for record in rrset)


def test_addresses_are_answered_by_family_and_letters_stay_as_they_were_asked(host: Host) -> None:
    answer = host.ask("WeB.shop.SVC.cluster.LOCAL.")
    assert texts(answer) == ["127.0.0.1"]
    assert (answer.answer[0].name.to_text(), answer.answer[0].ttl) == ("WeB.shop.SVC.cluster.LOCAL.", 5)
    assert answer.flags & dns.flags.AA
    assert texts(host.ask("web.shop.svc.cluster.local", "AAAA")) == ["fd00::1"]
    assert texts(host.ask("web.shop.svc.cluster.local", "ANY")) == ["127.0.0.1", "fd00::1"]


def test_a_name_without_such_a_record_is_no_error_and_an_unknown_name_is(host: Host) -> None:
    """musl asks for both families at once, and gives up at the first NXDOMAIN."""
    for name, kind, code in (
        ("p1.shop.svc.cluster.local", "AAAA", dns.rcode.NOERROR),
        ("web.shop.svc.cluster.local", "MX", dns.rcode.NOERROR),
        ("shop.svc.cluster.local", "A", dns.rcode.NOERROR),
        ("nix.shop.svc.cluster.local", "A", dns.rcode.NXDOMAIN),
        ("nix.shop.svc.cluster.local", "AAAA", dns.rcode.NXDOMAIN),
    ):
        answer = host.ask(name, kind)
        assert (answer.rcode(), answer.answer) == (code, []), name
        assert answer.authority[0].rdtype == dns.rdatatype.SOA


def test_what_does_not_fit_is_cut_by_what_the_client_takes_and_whole_over_tcp(host: Host) -> None:
    many = "many.shop.svc.cluster.local"
    assert host.ask(many).flags & dns.flags.TC
    assert host.ask(many, use_edns=0, payload=1232).flags & dns.flags.TC
    stream = host.socket(socket.SOCK_STREAM)
    stream.setblocking(True)
    stream.connect(host.tcp.getsockname())
    data = dns.message.make_query(many, "A").to_wire()
    packets = struct.pack("!H", len(data)) + data
    for part in (packets[:1], packets[1:20], packets[20:] + packets):  # in pieces, and the next one right after it
        stream.send(part)
        host.run(host.is_quiet)
    stream.settimeout(1)
    for _ in range(2):
        length = struct.unpack("!H", stream.recv(2, socket.MSG_WAITALL))[0]
        assert len(texts(dns.message.from_wire(stream.recv(length, socket.MSG_WAITALL)))) == len(MANY)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\1\2\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", dns.rcode.FORMERR),  # a name that is its own end
        (b"\1\2\1\0\0\1\0\0\0\0\0\0\3abc", dns.rcode.FORMERR),
        (b"\1\2\1\0\0\0\0\0\0\0\0\0", dns.rcode.FORMERR),
        (b"\1\2\1\0\0\2\0\0\0\0\0\0\1a\0\0\1\0\1\1b\0\0\1\0\1", dns.rcode.FORMERR),
        (b"\1\2\x11\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1", dns.rcode.NOTIMP),  # IQUERY, NOTIFY …
        (b"\1\2\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\3", dns.rcode.REFUSED),  # class CH
        (b"\1\2\1\0\0\1\0\0\0\0\0\0\1a\0\0\xfc\0\1", dns.rcode.REFUSED),  # AXFR
        (b"\1\2\x81\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1", None),  # an answer: never answered
        (b"\1\2\1\0\0\1\0\0\0\0\0", None),
        (b"", None),
    ],
)
def test_what_is_no_good_question_gets_the_error_for_it_or_nothing(host: Host, data: bytes, code: int | None) -> None:
    answer = host.send(data)
    assert (answer and answer[:2], answer and answer[3] & 0xF) == (
        (b"\1\2", code) if code is not None else (answer, answer)
    )
    assert (answer is None) == (code is None)


@pytest.mark.attack(row=58)
def test_only_pods_are_answered(host: Host) -> None:
    host.write(("127.0.0.1",), subnet="10.86.0.0/20")
    query = dns.message.make_query("web.shop.svc.cluster.local", "A").to_wire()
    assert host.send(query) is None
    stream = host.socket(socket.SOCK_STREAM)
    stream.setblocking(True)
    stream.connect(host.tcp.getsockname())
    host.run(host.is_quiet)
    assert stream.recv(10) == b""  # closed before anything was read
    host.write(("127.0.0.1",))  # and the table is read again
    assert host.send(query) is not None


def test_a_flood_is_cut_off(host: Host) -> None:
    query = dns.message.make_query("web.shop.svc.cluster.local", "A").to_wire()
    answers = 0
    for _ in range(60):
        for _ in range(20):
            host.client.send(query)
        host.run(host.is_quiet)
        while received(host.client):
            answers += 1
    assert answers == 500


# -- the host's resolvers


def asked(host: Host) -> tuple[bytes, tuple[str, int]]:
    """The question that the resolver got, and from where."""
    data: tuple[bytes, tuple[str, int]] | None = None

    def is_there() -> bool:
        nonlocal data
        try:
            data = host.resolver.recvfrom(0xFFFF)
        except BlockingIOError:
            return False
        return True

    host.run(is_there)
    assert data is not None
    return data


def answer_to(data: bytes, address: str = "192.0.2.80") -> bytes:
    query = dns.message.from_wire(data)
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text(query.question[0].name, 77, "IN", "A", address))
    return response.to_wire()


QUERY = dns.message.make_query("Example.COM", "A")


def test_other_names_are_asked_of_the_hosts_resolver_with_another_number(host: Host) -> None:
    numbers = set()
    for _ in range(3):
        host.client.send(QUERY.to_wire())
        data, place = asked(host)
        numbers.add((data[:2], place[1]))
        host.resolver.sendto(answer_to(data.replace(b"Example", b"eXAMPLE")), place)  # a resolver that changes letters
        host.run()
        back = received(host.client)
        assert back is not None
        answer = dns.message.from_wire(back)
        assert QUERY.is_response(answer)
        assert (texts(answer), answer.question[0].name.to_text()) == (["192.0.2.80"], "Example.COM.")
    assert len(numbers) == 3


@pytest.mark.attack(row=58)
def test_answers_that_are_not_to_this_question_are_not_believed(host: Host) -> None:
    host.client.send(QUERY.to_wire())
    data, place = asked(host)
    good = answer_to(data)
    wrong_number = bytes([good[0] ^ 1]) + good[1:]
    wrong_name = good.replace(b"\x07Example", b"\x07Exemple")
    no_answer = good[:2] + b"\x01" + good[3:]
    for forged in (wrong_number, wrong_name, no_answer, good[:7], b""):
        host.resolver.sendto(forged, place)
    stranger = host.socket(socket.SOCK_DGRAM)
    stranger.sendto(answer_to(data, "192.0.2.66"), place)  # from another port: the kernel drops it
    host.run(host.is_quiet)
    assert received(host.client) is None
    host.resolver.sendto(good, place)
    host.run()
    back = received(host.client)
    assert back is not None
    assert texts(dns.message.from_wire(back)) == ["192.0.2.80"]


def test_without_an_answer_it_asks_again_and_gives_up(host: Host) -> None:
    before = host.loop.now()
    back = host.send(QUERY.to_wire())
    assert back is not None
    assert dns.message.from_wire(back).rcode() == dns.rcode.SERVFAIL
    assert host.loop.now() - before == sum(forward.ATTEMPT_S)
    questions = [host.resolver.recv(512) for _ in forward.ATTEMPT_S]
    assert len({question[:2] for question in questions}) == len(questions)
    assert host.answerer.forwarder.is_idle


def test_the_next_resolver_is_asked_where_one_is_away_or_cannot_answer(tmp_path: Path) -> None:
    host = Host(tmp_path, resolvers=("127.0.0.9", "127.0.0.1"))  # nothing listens at the first
    try:
        host.client.send(QUERY.to_wire())
        data, place = asked(host)
        assert host.loop.now() == 0.0
        host.resolver.sendto(answer_to(data), place)
        host.run()
        assert received(host.client)
        assert host.answerer.forwarder.preferred == 1
    finally:
        host.close()


def test_a_host_without_resolvers_fails_at_once(host: Host) -> None:
    host.write(())
    back = host.send(QUERY.to_wire())
    assert back is not None
    assert dns.message.from_wire(back).rcode() == dns.rcode.SERVFAIL
    assert host.loop.now() == 0.0


def test_a_repeated_question_is_asked_once_and_one_pod_has_so_many_under_way(host: Host) -> None:
    for _ in range(3):
        host.client.send(QUERY.to_wire())
    asked(host)
    host.run(host.is_quiet)
    assert received(host.resolver) is None
    for n in range(forward.MOST_EACH + 20):
        host.client.send(dns.message.make_query(f"n{n}.example", "A").to_wire())
    host.run(host.is_quiet)
    assert host.answerer.forwarder._shares.count == forward.MOST_EACH


def test_over_tcp_it_asks_over_tcp(host: Host) -> None:
    stream = host.socket(socket.SOCK_STREAM)
    stream.setblocking(True)
    stream.connect(host.tcp.getsockname())
    data = QUERY.to_wire()
    stream.send(struct.pack("!H", len(data)) + data)
    accepted: socket.socket | None = None

    def is_there() -> bool:
        nonlocal accepted
        try:
            accepted = host.tcp_resolver.accept()[0]
        except BlockingIOError:
            return False
        return True

    host.run(is_there)
    assert accepted is not None
    with accepted:
        host.run(host.is_quiet)
        accepted.settimeout(1)
        length = struct.unpack("!H", accepted.recv(2))[0]
        answer = answer_to(accepted.recv(length))
        packet = struct.pack("!H", len(answer)) + answer
        for part in (packet[:1], packet[1:]):
            accepted.send(part)
            host.run(host.is_quiet)
    stream.settimeout(1)
    back = stream.recv(0xFFFF)[2:]
    assert texts(dns.message.from_wire(back)) == ["192.0.2.80"]


def test_the_rehearsal_knows_every_kind_of_answer() -> None:
    rehearse()
