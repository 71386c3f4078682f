"""`minipod patch`, without an agent (unit)."""

from __future__ import annotations

import pytest

from minipod.cli.verbs.patch import conditions
from minipod.errors import UsageError


def test_conditions_are_what_a_patch_of_the_status_says() -> None:
    assert conditions('{"status": {"conditions": [{"type": "a/b", "status": "True"}]}}') == [
        {"type": "a/b", "status": "True"}
    ]


@pytest.mark.parametrize(
    "patch",
    [
        '{"spec": {}}',
        '{"status": {"phase": "Failed"}}',
        '{"status": {"conditions": []}}',
        '{"status": {"conditions": [{"type": "a"}], "phase": "Failed"}}',
        "[]",
    ],
)
def test_a_patch_of_anything_else_names_what_does_it(patch: str) -> None:
    with pytest.raises(UsageError, match=r"only status\.conditions can be patched.*minipod edit"):
        conditions(patch)


def test_a_patch_is_json() -> None:
    with pytest.raises(UsageError, match="not JSON"):
        conditions("status: {}")
