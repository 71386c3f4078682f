"""Leases: who gets which address, which hostPorts conflict, what the file survives."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from minipod.errors import HostError, SandboxError
from minipod.plan.configs import PortMapping
from minipod.runtime.ipam import BRIDGE_BITS, Lease, LeaseFile, Leases, check_ports, grant, revoke

LARGE = Leases(ipv4_subnet="10.86.0.0/20", ipv6_subnet="fd00::/64", bridge_bits=BRIDGE_BITS)
SMALL = Leases(ipv4_subnet="10.0.0.0/29", ipv6_subnet="fd00::/64")  # room for five pods


def offsets(leases: Leases) -> list[int]:
    return [lease.offset for lease in leases.sandboxes.values()]


def fill(leases: Leases, *sandbox_ids: str) -> Leases:
    for sandbox_id in sandbox_ids:
        leases, _ = grant(leases, sandbox_id, Lease(pod=sandbox_id))
    return leases


def test_first_pod_comes_after_the_network_and_the_bridge() -> None:
    leases, lease = grant(SMALL, "a", Lease(pod="default/a"))
    assert lease.offset == 2
    assert leases.addresses(lease.offset) == ("10.0.0.2/29", "fd00::2/64")
    assert msgspec.structs.replace(leases, ipv6_subnet="").addresses(lease.offset) == ("10.0.0.2/29", "")


def test_64_addresses_share_a_bridge_and_three_of_them_are_no_pods() -> None:
    leases = fill(LARGE, *(str(number) for number in range(61)))
    assert offsets(leases) == list(range(2, 63))
    leases = fill(leases, "a")
    assert offsets(leases)[-1] == 66  # 63 is for broadcasts, 64 the next bridge's network, 65 the bridge
    assert [number for number in range(4) if leases.needs_bridge(number)] == [0, 1]
    assert leases.addresses(62) == ("10.86.0.62/26", "fd00::3e/122")
    assert leases.addresses(66) == ("10.86.0.66/26", "fd00::42/122")
    assert leases.gateways(62) == ("10.86.0.1/26", "fd00::1/122")
    assert leases.gateways(66) == ("10.86.0.65/26", "fd00::41/122")


def test_few_pods_stay_on_one_bridge() -> None:
    """Else the bridge of a pod that comes and goes alone would, too, each time."""
    leases, seen = LARGE, []
    for number in range(200):
        leases = fill(leases, str(number))
        seen += offsets(leases)
        leases = revoke(leases, str(number))
    assert set(seen) == set(range(2, 63))
    assert all(before != after for before, after in pairwise(seen))
    leases = revoke(fill(LARGE, *(str(number) for number in range(100))), "30")
    assert offsets(fill(leases, "a"))[-1] == 32


def test_bridge_has_no_more_than_its_subnet() -> None:
    leases = fill(msgspec.structs.replace(SMALL, bridge_bits=BRIDGE_BITS), *"abcde")
    assert offsets(leases) == [2, 3, 4, 5, 6]
    assert leases.addresses(2) == ("10.0.0.2/29", "fd00::2/122")


def test_bridge_of_an_earlier_release_keeps_its_pods() -> None:
    """Whose leases say nothing of bridges: one has them all, with the prefix of the whole subnet."""
    leases = msgspec.structs.replace(LARGE, bridge_bits=0, next_offset=63)
    leases = fill(leases, "a", "b")
    assert offsets(leases) == [63, 64]
    assert [number for number in range(4) if leases.needs_bridge(number)] == [0]
    assert leases.addresses(64) == ("10.86.0.64/20", "fd00::40/64")
    assert leases.gateways(64) == ("10.86.0.1/20", "fd00::1/64")


def test_address_given_back_is_used_again_last() -> None:
    leases = revoke(fill(SMALL, "a", "b"), "a")
    assert offsets(fill(leases, "c")) == [3, 4]
    leases = revoke(fill(leases, "c", "d", "e"), "b")
    assert offsets(fill(leases, "f"))[-1] == 2


def test_broadcast_address_is_never_given() -> None:
    leases = fill(SMALL, *"abcde")
    assert offsets(leases) == [2, 3, 4, 5, 6]
    with pytest.raises(SandboxError, match=r"no address left in 10\.0\.0\.0/29: 5 pods hold one"):
        fill(leases, "f")


def test_revoking_twice_is_no_error() -> None:
    leases = fill(SMALL, "a")
    assert revoke(revoke(leases, "a"), "a").sandboxes == {}


@pytest.mark.parametrize(
    ("held", "wanted", "conflict"),
    [
        (PortMapping(container_port=1, host_port=80), PortMapping(container_port=2, host_port=80), True),
        (PortMapping(container_port=1, host_port=80), PortMapping(container_port=1, host_port=81), False),
        (
            PortMapping(container_port=1, host_port=80),
            PortMapping(container_port=1, host_port=80, protocol="UDP"),
            False,
        ),
        (
            PortMapping(container_port=1, host_port=80, host_ip="127.0.0.1"),
            PortMapping(container_port=1, host_port=80),
            True,
        ),
        (
            PortMapping(container_port=1, host_port=80, host_ip="0.0.0.0"),
            PortMapping(container_port=1, host_port=80, host_ip="192.0.2.1"),
            True,
        ),
        (
            PortMapping(container_port=1, host_port=80, host_ip="127.0.0.1"),
            PortMapping(container_port=1, host_port=80, host_ip="192.0.2.1"),
            False,
        ),
    ],
)
def test_host_ports_conflict_as_for_the_scheduler(held: PortMapping, wanted: PortMapping, conflict: bool) -> None:
    leases, _ = grant(SMALL, "a", Lease(pod="default/web", ports=(held,)))
    check_ports(leases, "a", (held,))
    if not conflict:
        check_ports(leases, "b", (wanted,))
        return
    with pytest.raises(SandboxError, match="is in use by pod default/web: delete that pod or choose another hostPort"):
        check_ports(leases, "b", (wanted,))


def test_file_is_read_back_by_another_process(tmp_path: Path) -> None:
    file = LeaseFile(str(tmp_path))
    with file.locked() as leases:
        file.write(fill(msgspec.structs.replace(SMALL, boot_id=leases.boot_id), "a"))
    assert list(LeaseFile(str(tmp_path)).read().sandboxes) == ["a"]
    other = LeaseFile(str(tmp_path))
    with other.locked() as leases:
        other.write(fill(leases, "b"))
    assert list(file.read().sandboxes) == ["a", "b"]


def test_last_lease_leaves_an_empty_folder_and_the_next_address_is_remembered(tmp_path: Path) -> None:
    file = LeaseFile(str(tmp_path))
    with file.locked() as leases:
        leases = fill(msgspec.structs.replace(SMALL, boot_id=leases.boot_id), "a")
        file.write(leases)
        file.write(revoke(leases, "a"))
    assert os.listdir(tmp_path / "leases") == []
    assert offsets(fill(LeaseFile(str(tmp_path)).read(), "b")) == [3]


def test_a_change_costs_one_line_until_there_are_many(tmp_path: Path) -> None:
    file, path = LeaseFile(str(tmp_path)), tmp_path / "leases/leases.json"
    with file.locked() as leases:
        leases = fill(
            msgspec.structs.replace(LARGE, boot_id=leases.boot_id), *(f"{number:064x}" for number in range(9))
        )
        file.write(leases)
    first = path.read_bytes()
    for number in range(300):
        before = path.stat()
        with file.locked() as leases:
            leases, _ = grant(leases, "x", Lease(pod="default/x"))
            file.write_one(leases, "x")
        with file.locked() as leases:
            file.write_one(revoke(leases, "x"), "x")
        after = path.stat()
        assert after.st_size - before.st_size < 200
        assert after.st_size < len(first) + 200 * 120
        if number == 3:
            assert path.read_bytes().startswith(first)
    again = LeaseFile(str(tmp_path)).read()
    assert again == file.read()
    assert len(again.sandboxes) == 9
    assert again.next_offset == leases.next_offset


@pytest.mark.parametrize("kept", [-1, -20])
def test_line_that_was_cut_never_happened(tmp_path: Path, kept: int) -> None:
    """By a kill -9 or a full disk in the middle of it; what comes next is written whole."""
    file, path = LeaseFile(str(tmp_path)), tmp_path / "leases/leases.json"
    with file.locked() as leases:
        leases = fill(msgspec.structs.replace(LARGE, boot_id=leases.boot_id), "a")
        file.write(leases)
        file.write_one(fill(leases, "b"), "b")
    path.write_bytes(path.read_bytes()[:kept])
    assert list(file.read().sandboxes) == ["a"]
    with file.locked() as leases:
        file.write_one(fill(leases, "c"), "c")
    assert list(LeaseFile(str(tmp_path)).read().sandboxes) == ["a", "c"]


def test_file_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    """It was one line without an end."""
    file, path = LeaseFile(str(tmp_path)), tmp_path / "leases/leases.json"
    with file.locked() as leases:
        path.write_bytes(msgspec.json.encode(fill(msgspec.structs.replace(SMALL, boot_id=leases.boot_id), "a")))
    with file.locked() as leases:
        file.write_one(fill(leases, "b"), "b")
    assert list(LeaseFile(str(tmp_path)).read().sandboxes) == ["a", "b"]


def test_leases_of_an_earlier_boot_are_void(tmp_path: Path) -> None:
    (tmp_path / "leases").mkdir()
    stale = fill(msgspec.structs.replace(SMALL, boot_id="earlier"), "a")
    (tmp_path / "leases/leases.json").write_bytes(msgspec.json.encode(stale))
    assert LeaseFile(str(tmp_path)).read().sandboxes == {}


def test_file_emptied_by_a_power_cut_is_no_lease(tmp_path: Path) -> None:
    (tmp_path / "leases").mkdir()
    (tmp_path / "leases/leases.json").write_bytes(b"")
    assert LeaseFile(str(tmp_path)).read().sandboxes == {}


def test_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "leases").mkdir()
    (tmp_path / "leases/leases.json").write_bytes(b"{")
    with pytest.raises(HostError, match=r"leases\.json: damaged: .*: remove it when no pod runs"):
        LeaseFile(str(tmp_path)).read()


def test_thousand_pods_fit(tmp_path: Path) -> None:
    file = LeaseFile(str(tmp_path))
    with file.locked() as leases:
        leases = msgspec.structs.replace(leases, ipv4_subnet="10.86.0.0/20", ipv6_subnet="fd00::/64")
        leases = fill(leases, *(f"{number:064x}" for number in range(1000)))
        file.write(leases)
    assert len(set(offsets(LeaseFile(str(tmp_path)).read()))) == 1000
