"""A pod's hostPorts are taken away whichever way libnftables tells them."""

from __future__ import annotations

from typing import Any

import pytest

from minipod.kernel import nft
from minipod.plan.configs import PortMapping
from minipod.plan.network.nat import AddPortMappings

ADDRESS = "10.86.0.2"


class FakeNftables:
    """Maps that hold one element for `ADDRESS`; keeps what it is told to do."""

    protocol: object = "tcp"
    told: list[dict[str, Any]] = []

    def __enter__(self) -> FakeNftables:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def run(self, commands: list[dict[str, Any]]) -> dict[str, Any]:
        if "list" in commands[0]:
            return {"nftables": [{"map": {"elem": [[{"concat": [self.protocol, 8080]}, ADDRESS]]}}]}
        self.told += commands
        return {}


@pytest.mark.parametrize("protocol", ["tcp", 6])
def test_a_host_port_is_closed_where_protocols_have_names_and_where_not(
    monkeypatch: pytest.MonkeyPatch, protocol: object
) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(FakeNftables, "protocol", protocol)
    monkeypatch.setattr(FakeNftables, "told", told)
    monkeypatch.setattr(nft, "Nftables", FakeNftables)
    mapping = PortMapping(container_port=80, host_port=8080)
    AddPortMappings(table="minipod", ipv4=ADDRESS, mappings=(mapping,)).undo()
    assert [command["delete"]["element"]["name"] for command in told] == ["hostport4_address", "hostport4_port"]
