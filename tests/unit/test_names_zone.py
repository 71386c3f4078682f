"""Which names pods have, and the table that says so (unit)."""

from __future__ import annotations

import msgspec
import pytest

from minipod.agent.names import row_of
from minipod.names.budget import Budget, Shares
from minipod.names.table import Gone, Pod, Table, decode, encode, lines
from minipod.names.zone import Answer, Zone
from tests.unit.agent_fakes import make_pod

WEB = Pod("shop", "web", "web-0", "group", ("10.86.0.2", "fd00:86::2"), True, (("http", "tcp", 80), ("dns", "udp", 53)))
OTHER = Pod("shop", "other", "other", "group", ("10.86.0.3", "fd00:86::3"), True, (("http", "tcp", 8080),))
LATE = Pod("shop", "late", "late", "group", ("10.86.0.4", "fd00:86::4"), False)
DOTTED = Pod("shop", "a.b", "a.b", "", ("10.86.0.5",), False)
ON_HOST = Pod("infra", "agent", "agent", "", ("192.0.2.1",), True)
NAMESAKE = Pod("infra", "group", "group", "", ("10.86.0.6",), True)
PODS = (WEB, OTHER, LATE, DOTTED, ON_HOST, NAMESAKE, Pod("shop", "group", "group", "", ("10.86.0.7",), True))
TABLE = Table("cluster.local", ("10.86.0.0/20", "fd00:86::/64"), ("192.0.2.53",), PODS)

#: name below cluster.local -> addresses; None: there is no such name; (): there is one, without addresses
NAMES: dict[str, tuple[str, ...] | None] = {
    "web.shop.svc": WEB.addresses,
    "late.shop.svc": LATE.addresses,  # ready or not: it is this pod that was asked for
    "web.infra.svc": None,
    "web.svc": None,
    "web": None,
    "group.shop.svc": (*WEB.addresses, *OTHER.addresses),  # the ready ones; not the pod that is named as they are
    "group.infra.svc": NAMESAKE.addresses,
    "web-0.group.shop.svc": WEB.addresses,
    "web.group.shop.svc": None,
    "other.group.shop.svc": OTHER.addresses,
    "10-86-0-2.group.shop.svc": WEB.addresses,
    "late.group.shop.svc": None,
    "web-0.group.infra.svc": None,
    "a.b.shop.svc": DOTTED.addresses,
    "web.shop.pod": WEB.addresses,
    "a.b.shop.pod": DOTTED.addresses,
    "10-86-0-2.shop.pod": ("10.86.0.2",),
    "fd00-86--2.shop.pod": ("fd00:86::2",),
    "10-86-0-2.infra.pod": None,
    "192-0-2-1.infra.pod": ON_HOST.addresses,
    "agent.infra.svc": ON_HOST.addresses,
    "": (), "svc": (), "pod": (), "shop.svc": (), "infra.pod": (),
    "nowhere.svc": None, "nowhere.pod": None, "kubernetes.default.svc": None, "dns-version": None,
    "_http._tcp.group.shop.svc": (), "_http._udp.group.shop.svc": None, "_dns._udp.web.shop.svc": (),
    "_http._tcp.nix.shop.svc": None, "_http._tcp.shop.svc": None,
}  # fmt: skip


def labels(name: str) -> tuple[str, ...]:
    return tuple(filter(None, name.split(".")))


def addresses(found: Answer | None) -> tuple[str, ...] | None:
    assert found is not None
    return found.addresses if found.exists else None


def test_each_name_has_the_addresses_that_kubernetes_gives_it() -> None:
    zone = Zone(TABLE)
    found = {name: addresses(zone.find((*labels(name), "cluster", "local"))) for name in NAMES}
    assert {name: there for name, there in found.items() if there != NAMES[name]} == {}


def test_ports_have_service_records_of_all_ready_pods() -> None:
    zone = Zone(TABLE)
    found = zone.find(labels("_http._tcp.group.shop.svc.cluster.local"))
    assert found is not None
    assert [(service.port, service.target) for service in found.services] == [
        (80, "web-0.group.shop.svc.cluster.local"),
        (8080, "other.group.shop.svc.cluster.local"),
    ]
    assert found.services[0].addresses == WEB.addresses


def test_addresses_have_names_and_those_of_others_are_not_ours() -> None:
    zone = Zone(TABLE)
    ours = {
        "2.0.86.10.in-addr.arpa": "web-0.group.shop.svc.cluster.local",
        "5.0.86.10.in-addr.arpa": "a.b.shop.pod.cluster.local",
        ".".join(reversed("fd000086000000000000000000000002")) + ".ip6.arpa": "web-0.group.shop.svc.cluster.local",
        "1.0.86.10.in-addr.arpa": "",
    }
    found = {name: zone.find(labels(name)) for name in ours}
    assert {name: answer and answer.pointer for name, answer in found.items()} == ours
    assert [name for name, answer in found.items() if answer and not answer.exists] == ["1.0.86.10.in-addr.arpa"]
    foreign = ("1.2.0.192.in-addr.arpa", "86.10.in-addr.arpa", "x.0.86.10.in-addr.arpa", "example.com", "local", "")
    assert [name for name in foreign if zone.find(labels(name)) is not None] == []


def test_a_label_with_a_dot_in_it_is_no_pods() -> None:
    assert Zone(TABLE).find(("web.shop", "svc", "cluster", "local")) == Answer(False)


def test_only_the_pods_subnets_are_served() -> None:
    zone = Zone(TABLE)
    served = ("10.86.0.2", "10.86.15.254", "fd00:86::2", "10.86.0.1", "10.86.16.1", "192.0.2.1", "127.0.0.1", "::1")
    assert [address for address in served if zone.serves(address)] == list(served[:4])


def test_the_table_is_read_as_it_is_written() -> None:
    assert decode(encode(TABLE)) == TABLE
    for damaged in (b"", b"[]\n", b"{}\n", b'["a",[],[]]\n["x"]\n', b"[1,2,3]\n", b"[1,2,3,4]\n"):
        with pytest.raises((ValueError, TypeError)):
            decode(damaged)


def test_the_last_line_of_a_pod_counts_once_it_is_whole() -> None:
    first, second = PODS[:2]
    moved = first._replace(addresses=("10.86.0.99",))
    text = encode(TABLE._replace(pods=(first, second)))
    changed = lines([moved, Gone(second.namespace, second.name)])
    assert decode(text + changed) == TABLE._replace(pods=(moved,))
    assert decode(text + changed[:-1]) == TABLE._replace(pods=(moved, second))
    assert decode(text + lines([moved])[:-5]) == TABLE._replace(pods=(first, second))


def test_a_pod_is_answered_for_while_it_has_an_address_and_ready_while_it_is_not_deleted() -> None:
    pod = make_pod("web")
    assert row_of(pod) is None

    def row(phase: str, deleted: bool = False) -> Pod | None:
        status = msgspec.convert(
            {"phase": phase, "podIPs": [{"ip": "10.86.0.2"}], "conditions": [{"type": "Ready", "status": "True"}]},
            type(pod.status),
        )
        metadata = msgspec.structs.replace(pod.metadata, deletion_timestamp="2026-01-01T00:00:00Z" if deleted else None)
        return row_of(msgspec.structs.replace(pod, status=status, metadata=metadata))

    assert row("Running") == Pod("default", "web", "web", "", ("10.86.0.2",), True)
    assert row("Running", deleted=True) == Pod("default", "web", "web", "", ("10.86.0.2",), False)
    assert [row("Succeeded"), row("Failed")] == [None, None]


def test_one_source_gets_so_many_questions_a_second_and_leaves_the_others_theirs() -> None:
    budget = Budget(per_second=10, burst=5)
    assert sum(budget.take("10.86.0.2", 0.0) for _ in range(100)) == 5
    assert budget.take("10.86.0.3", 0.0)
    assert sum(budget.take("10.86.0.2", 1.0) for _ in range(100)) == 5
    assert sum(budget.take("10.86.0.2", 1.0 + n / 100) for n in range(1, 101)) in (9, 10)


def test_sources_are_forgotten_before_they_are_too_many() -> None:
    budget = Budget(most_sources=10)
    for n in range(1000):
        assert budget.take(str(n), 0.0)
    assert len(budget._buckets) == 10


def test_shares_are_bounded_in_all_and_for_each() -> None:
    shares = Shares(3, 2)
    assert [shares.take(name) for name in "aaabcc"] == [True, True, False, True, False, False]
    shares.give_back("a")
    assert shares.take("c")
    for name in "abc":
        shares.give_back(name)
    assert (shares.count, shares._held) == (0, {})
