"""Whether this kernel has holes known to reach from one container into others (layer 6). Asks it nothing but its name.

Distributions fix holes without changing the number that `uname -r` shows: what cannot be known is reported as unknown.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from minipod.cli.finding import Finding

Version = tuple[int, int, int]


class Hole(NamedTuple):
    """`since` and `fixed` are Linux's own releases; `stable`: the first fixed one of a series that was mended too."""

    name: str
    cve: str
    since: tuple[int, int]
    fixed: tuple[int, int]
    stable: dict[tuple[int, int], int]


#: both write to page cache, which all containers of a layer share
HOLES = (
    Hole("Dirty Pipe", "CVE-2022-0847", (5, 8), (5, 17), {(5, 10): 102, (5, 15): 25, (5, 16): 11}),
    Hole("Copy Fail", "CVE-2026-31431", (4, 14), (7, 0), {(6, 6): 137, (6, 18): 22, (6, 19): 12}),
)


def known_holes() -> list[Finding]:
    version = version_of(os.uname().release, os.uname().version, _signature())
    return [
        Finding(
            f"fix of {hole.name}",
            is_fixed(hole, version),
            hole.cve,
            "a container writes to page cache that others share",
            "update the kernel, or ask the distribution about this number",
            needed=False,
        )
        for hole in HOLES
    ]


def version_of(release: str, version: str, signature: str) -> Version | None:
    """The release of Linux that this kernel was made from. `signature`: Ubuntu's /proc/version_signature.

    None where only the distribution knows: `5.14.0-427.el9` has a zero for whatever was added since.
    """
    for text in (signature.rpartition(" ")[2], version.partition("Debian ")[2], release):
        found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
        if found:
            return int(found[1]), int(found[2]), int(found[3])
    return None


def is_fixed(hole: Hole, version: Version | None) -> bool | None:
    """None: cannot be known from the version."""
    if version is None:
        return None
    series, patch = version[:2], version[2]
    if series < hole.since or series >= hole.fixed:
        return True
    if series not in hole.stable or patch == 0:
        return None
    return patch >= hole.stable[series]


def _signature() -> str:
    try:
        return Path("/proc/version_signature").read_text().strip()
    except OSError:
        return ""
