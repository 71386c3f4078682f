"""Finds errors that say twice what failed: two layers have each put it in front of the cause."""

from __future__ import annotations

import re

_TWICE = re.compile(r"^(?:error:|failed ).*?\b((?:[a-z]+ ){2,}[a-z]+)\b.{0,80}?: \1\b", re.IGNORECASE)


def said_twice(text: str) -> list[str]:
    """The lines of stderr in which three words or more come again behind a colon."""
    return [line for line in text.splitlines() if _TWICE.search(line)]
