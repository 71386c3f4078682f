"""A short storm of each kind, of the same seeds every time; `scripts/faults` draws others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests import leaks
from tests.faults import storms
from tests.faults.__main__ import words_of
from tests.faults.instance import Instance
from tests.faults.schedule import ALL, draw

ROUNDS = {"agent": 3, "spawner": 2}  # of each other kind one
TOGETHER = 4  # instances at the same time: a round mostly waits
SLOT = 200


def weather(storm: str, slot: int, images: str, session: leaks.Session) -> tuple[int, list[str]]:
    """Rounds of one kind of storm on an instance of its own: kills; what is wrong in a round or left after them."""
    instance = Instance(slot, images, draw("ci", (storm,)).host)
    session.folders |= instance.session.folders
    session.instances |= instance.session.instances
    reports = [storms.play(instance, draw(f"ci.{number}", (storm,))) for number in range(ROUNDS.get(storm, 1))]
    wrong = [f"{storm}:\n{words_of(report, (storm,))}" for report in reports if report.findings]
    return sum(report.kills for report in reports), wrong + instance.end()


def test_nothing_is_lost_in_a_storm(session: leaks.Session, leak_check: None, image_folder: str) -> None:
    with ThreadPoolExecutor(TOGETHER) as pool:
        began = [pool.submit(weather, storm, SLOT + number, image_folder, session) for number, storm in enumerate(ALL)]
        results = [each.result() for each in began]
    wrong = [words for _, found in results for words in found]
    assert not wrong, "\n".join(wrong)
    assert sum(kills for kills, _ in results) > 10, "there was nothing to kill"
