"""What all tests share: where the checkout is, and which tests need root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
NEEDS_ROOT = ("node", "manifests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root: run sudo scripts/test")
    for item in items:
        if item.path.relative_to(CHECKOUT / "tests").parts[0] in NEEDS_ROOT:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def checkout() -> Path:
    return CHECKOUT
