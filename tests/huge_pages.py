"""Huge pages for a test: a pod that requests some is placed only where the host has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NUMBER = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")


@contextmanager
def huge_pages(count: int = 4) -> Iterator[None]:
    """So many more pages of 2 MiB, for agents that start from now on; without memory for them the test is skipped."""
    if not NUMBER.exists():
        pytest.skip("no pages of 2 MiB here")
    before = int(NUMBER.read_text())
    NUMBER.write_text(str(before + count))
    try:
        if int(NUMBER.read_text()) < before + count:
            pytest.skip("this host has no memory for huge pages")
        yield
    finally:
        NUMBER.write_text(str(before))
