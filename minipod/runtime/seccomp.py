"""Compiled seccomp filters (layer 3)."""

from __future__ import annotations

from minipod.paths import Paths


def compiled_filter(profile: str, capabilities: frozenset[str], paths: Paths) -> bytes:
    """The BPF program of a profile (struct sock_filter …); empty for no filter."""
    return b""
