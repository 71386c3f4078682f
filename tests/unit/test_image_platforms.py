"""Which image of an index a host takes."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from minipod.errors import ImageError
from minipod.runtime.images.manifests import Descriptor, Platform, choose_platform

DIGITS = "0123456789abcdef"


def index(*platforms: str) -> list[Descriptor]:
    found = []
    for digit, text in zip(DIGITS, platforms, strict=False):
        system, architecture, *variant = text.split("/")
        found.append(Descriptor(f"sha256:{digit * 64}", 1, platform=Platform(architecture, system, *variant)))
    return found


@pytest.mark.parametrize(
    ("machine", "platforms", "chosen"),
    [
        ("x86_64", ["linux/arm64", "linux/amd64"], "linux/amd64"),
        ("x86_64", ["linux/amd64/v3", "linux/amd64"], "linux/amd64"),
        ("x86_64", ["windows/amd64", "unknown/unknown", "linux/amd64/v1"], "linux/amd64/v1"),
        ("aarch64", ["linux/arm/v7", "linux/arm64/v8"], "linux/arm64/v8"),
        ("armv7l", ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], "linux/arm/v7"),
        ("armv6l", ["linux/arm/v7", "linux/arm/v5", "linux/arm/v6"], "linux/arm/v6"),
        ("riscv64", ["linux/amd64", "linux/riscv64"], "linux/riscv64"),
        ("loongarch64", ["linux/loong64"], "linux/loong64"),
    ],
)
def test_the_best_for_the_machine(
    monkeypatch: pytest.MonkeyPatch, machine: str, platforms: list[str], chosen: str
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    assert str(choose_platform(index(*platforms), "here").platform) == chosen


def test_none_for_the_machine_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="x86_64"))
    words = "here: no image for linux/amd64; there is linux/amd64/v3, linux/arm64"
    with pytest.raises(ImageError, match=words):
        choose_platform(index("linux/arm64", "linux/amd64/v3", "unknown/unknown"), "here")
