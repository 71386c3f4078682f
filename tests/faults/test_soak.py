"""A short soak; `scripts/faults --soak 10000` is a long one."""

from __future__ import annotations

from tests import leaks
from tests.faults.instance import Instance
from tests.faults.soak import Figures, compare, soak

SLOT = 201


def test_nothing_grows_with_the_pods_that_have_been(
    session: leaks.Session, leak_check: None, image_folder: str
) -> None:
    instance = Instance(SLOT, image_folder)
    session.folders |= instance.session.folders
    session.instances |= instance.session.instances
    try:
        assert soak(instance, 160) == []
    finally:
        print(instance.log_tail())
        left = instance.end()
    assert left == []


def test_a_descriptor_or_a_megabyte_too_many_is_found() -> None:
    before, after = Figures(30000, 9000, 40, 12, 9, 900, 0), Figures(40000, 9000, 41, 12, 9, 900, 0)
    assert [finding.text.split()[0] for finding in compare(before, after)] == ["agent_kib", "descriptors"]
    assert compare(before, before) == []
