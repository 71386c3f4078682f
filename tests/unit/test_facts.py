"""What this host is: read from the kernel's texts, or empty where it does not tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minipod.config import Config
from minipod.runtime import facts


def test_the_configured_name_comes_before_the_hosts_and_both_in_lower_case() -> None:
    assert facts.node_name(Config(node_name=" Big-Host ")) == "big-host"
    assert facts.node_name(None) == facts.node_name(Config()) == facts.node_name().lower()


@pytest.mark.parametrize(
    ("text", "amount"), [("MemFree: 1 kB\nMemTotal:     2048 kB\n", 2 << 20), ("", 0), ("MemFree: 1 kB\n", 0)]
)
def test_memory_is_meminfos_total(text: str, amount: int) -> None:
    assert facts.memory_bytes(text) == amount


@pytest.mark.parametrize(
    ("own", "upstream", "expected"),
    [
        ("nameserver 192.0.2.1\n", "nameserver 9.9.9.9\n", "nameserver 192.0.2.1\n"),
        ("nameserver 127.0.0.53\n", "nameserver 9.9.9.9\n", "nameserver 9.9.9.9\n"),
        ("nameserver 127.0.0.53\n", None, "nameserver 127.0.0.53\n"),
        ("nameserver 127.0.0.53\nnameserver 192.0.2.1\n", "x", "nameserver 127.0.0.53\nnameserver 192.0.2.1\n"),
        ("search here\n", "x", "search here\n"),
        (None, None, ""),
    ],
)
def test_a_resolvers_stub_is_replaced_by_what_it_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str | None, upstream: str | None, expected: str
) -> None:
    for name, text in (("RESOLV_CONF", own), ("RESOLVED_UPSTREAM", upstream)):
        monkeypatch.setattr(facts, name, str(tmp_path / name))
        if text is not None:
            (tmp_path / name).write_text(text)
    assert facts.resolv_conf() == expected


def test_the_mtu_is_that_of_the_default_routes_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    texts = {
        "/proc/net/route": head
        + "eth1\t0000A8C0\t0\t1\t0\t0\t0\t00FFFFFF\n"
        + "eth0\t00000000\t0102A8C0\t3\t0\t0\t0\t00000000\n",
        "/sys/class/net/eth0/mtu": "1400\n",
    }
    monkeypatch.setattr(facts, "_read", lambda path: texts.get(path, ""))
    assert facts.default_mtu() == 1400
    del texts["/sys/class/net/eth0/mtu"]
    assert facts.default_mtu() == 1500
    texts["/proc/net/route"] = head
    assert facts.default_mtu() == 1500


def test_they_are_the_same_without_root_and_can_be_printed() -> None:
    found = facts.host_facts(Config(node_name="n"), "/not/there/yet")
    assert (found.node_name, found.cpus > 0, found.memory_bytes > 0, found.storage_bytes > 0) == ("n", True, True, True)
    assert found.cgroup_version in (1, 2)
    assert json.dumps(found.node_ips)
