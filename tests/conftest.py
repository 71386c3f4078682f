"""What all tests share: where the checkout is, and which tests need root."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.patience import SLOWNESS

CHECKOUT = Path(__file__).resolve().parent.parent
NEEDS_ROOT = ("node", "manifests")
TEST_LIMIT_S = 240


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root: run sudo scripts/test")
    for item in items:
        if item.path.relative_to(CHECKOUT / "tests").parts[0] in NEEDS_ROOT:
            item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test that hangs fails by itself, fixtures included, and the rest still runs."""

    def expired(*_: object) -> None:
        # no Exception, so that nothing under test takes it for an error of its own
        pytest.fail(f"{item.nodeid} took more than {TEST_LIMIT_S * SLOWNESS:.0f} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, TEST_LIMIT_S * SLOWNESS, 5)  # again, should a clean-up hang too
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def checkout() -> Path:
    return CHECKOUT
