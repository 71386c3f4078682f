"""A short storm of each kind, of the same seeds every time; `scripts/faults` draws others."""

from __future__ import annotations

import pytest

from tests import leaks
from tests.faults import storms
from tests.faults.__main__ import words_of
from tests.faults.instance import Instance
from tests.faults.schedule import draw

#: those of which every round passes; a shortage is one round, as a moment in it matters less
STORMS_AND_ROUNDS = {
    "commands": 2,
    "stops": 2,
    "versions": 2,
    "disk": 2,
    "inodes": 1,
    "descriptors": 2,
    "memory": 1,
    "threads": 1,
    "hung": 1,
}
DEADLY = ("agent", "spawner", "in-turn", "both", "mixed", "commands", "stops")
SLOT = 200


def weather(storm: str, session: leaks.Session, images: str) -> None:
    """Rounds of one kind of storm: nothing is found in any of them, nothing is left after them."""
    instance = Instance(SLOT, images, draw("ci", (storm,)).host)
    session.folders |= instance.session.folders
    session.instances |= instance.session.instances
    try:
        for number in range(STORMS_AND_ROUNDS[storm]):
            report = storms.play(instance, draw(f"ci.{number}", (storm,)))
            assert not report.findings, words_of(report, (storm,))
            assert report.kills or storm not in DEADLY, "nothing was there to kill"
    finally:
        left = instance.end()
    assert left == []


@pytest.mark.parametrize("storm", sorted(STORMS_AND_ROUNDS))
def test_nothing_is_lost_in_a_storm(storm: str, session: leaks.Session, leak_check: None, image_folder: str) -> None:
    weather(storm, session, image_folder)
