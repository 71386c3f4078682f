"""What a real API server answered to the pods of tests/data, read once; how long hypothesis searches."""

from __future__ import annotations

import gzip
import json
import os
from typing import Any

import hypothesis
import pytest

from tests.conftest import CHECKOUT

CORPUS = CHECKOUT / "tests" / "data" / "pods-validation.jsonl.gz"

EXAMPLES = int(os.environ.get("MINIPOD_TEST_EXAMPLES", "40"))
# A busy machine is no failure; what CI runs is the same every time, what a developer runs continues to search, and
# MINIPOD_TEST_EXAMPLES=5000 makes it search for long.
hypothesis.settings.register_profile(
    "minipod",
    deadline=None,
    derandomize="CI" in os.environ,
    max_examples=EXAMPLES,
)
hypothesis.settings.load_profile("minipod")

Case = dict[str, Any]


@pytest.fixture(scope="session")
def cases() -> list[Case]:
    """A pod, the verdict on it, and what was stored of it; `line` is its place in the file. Not to be changed."""
    with gzip.open(CORPUS, "rt") as lines:
        return [{"line": number, **json.loads(line)} for number, line in enumerate(lines, 1)]


@pytest.fixture(scope="session")
def valid(cases: list[Case]) -> list[Case]:
    return [case for case in cases if case["expect"] == "valid"]
