"""What `check` says of holes of the kernel, by the names that kernels have (unit)."""

from __future__ import annotations

import pytest

from minipod.cli.check_kernel import HOLES, is_fixed, known_holes, version_of

PIPE, COPY = HOLES


@pytest.mark.attack(row=57)
@pytest.mark.parametrize(
    ("release", "version", "signature", "pipe", "copy"),
    [
        ("5.10.0-28-amd64", "#1 SMP Debian 5.10.209-2 (2024-01-31)", "", True, None),
        ("5.10.0-9-amd64", "#1 SMP Debian 5.10.70-1 (2021-09-30)", "", False, None),
        ("5.15.0-100-generic", "#110-Ubuntu SMP", "Ubuntu 5.15.0-100.110-generic 5.15.143", True, None),
        ("5.15.0-18-generic", "#18-Ubuntu SMP", "Ubuntu 5.15.0-18.18-generic 5.15.12", False, None),
        ("5.14.0-427.13.1.el9_4.x86_64", "#1 SMP PREEMPT_DYNAMIC", "", None, None),
        ("5.7.19", "#1 SMP", "", True, None),
        ("6.6.136", "#1 SMP", "", True, False),
        ("6.6.137", "#1 SMP", "", True, True),
        ("6.18.21-fc", "#1 SMP", "", True, False),
        ("6.18.44-fc-v857", "#1 SMP PREEMPT_DYNAMIC @0", "", True, True),
        ("7.0.0-1-amd64", "#1 SMP", "", True, True),
        ("strange", "", "", None, None),
    ],
)
def test_a_kernel_s_name_says_whether_a_hole_is_fixed_where_it_can(
    release: str, version: str, signature: str, pipe: bool | None, copy: bool | None
) -> None:
    found = version_of(release, version, signature)
    assert (is_fixed(PIPE, found), is_fixed(COPY, found)) == (pipe, copy)


@pytest.mark.attack(row=55)
@pytest.mark.attack(row=57)
def test_check_names_both_holes() -> None:
    assert [(finding.name, finding.detail, finding.needed) for finding in known_holes()] == [
        ("fix of Dirty Pipe", "CVE-2022-0847", False),
        ("fix of Copy Fail", "CVE-2026-31431", False),
    ]
