"""`minipod patch` and what it reads, without an agent (unit)."""

from __future__ import annotations

import pytest

from minipod.cli.manifests import parsed
from minipod.errors import UsageError


@pytest.mark.parametrize("text", ['{"a": {"b": null}}', "a: {b: null}", "a:\n  b:\n"])
def test_a_patch_is_json_or_yaml(text: str) -> None:
    assert parsed(text, "the patch") == {"a": {"b": None}}


def test_a_date_is_text_as_for_kubernetes() -> None:
    assert parsed("at: 2026-11-30T10:00:00Z", "the patch") == {"at": "2026-11-30T10:00:00Z"}


@pytest.mark.parametrize("text", ["{", "a: [", "a: 1\n---\nb: 2\n", ""])
def test_what_is_no_document_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^the patch: "):
        parsed(text, "the patch")
