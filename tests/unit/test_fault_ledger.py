"""The harness of faults by itself: rounds are repeated by their seeds, and the ledger sees what is wrong."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.faults import ledger, pods
from tests.faults.ledger import EXIT, LINES, PHASE, RESTARTS, Attempt, Seen
from tests.faults.pods import KINDS, Container, Pod
from tests.faults.schedule import AGENT, APPLY, KILL, SHORTAGES, SPAWNER, STARTED, STORMS, TERM, Step, draw

RETRY = Pod("retry", "r", (Container("main", (5, 0), 2),), "OnFailure")


def ended(code: int, reason: str = "Completed") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason}}


def seen(phase: str = "Succeeded", restarts: int = 1, **shown: Any) -> Seen:
    """A pod of RETRY as it must be when it has ended; `shown`: what its container shows instead."""
    main = {"name": "main", "restartCount": restarts, "state": ended(0), "lastState": ended(5), **shown}
    attempts = [Attempt(2, 5, ["main 0 1", "main 0 2"]), Attempt(2, 0, ["main 1 1", "main 1 2"])]
    return Seen({"phase": phase, "containerStatuses": [main]}, {"main": attempts})


def kinds(found: Seen) -> list[str]:
    return [finding.kind for finding in ledger.findings(RETRY, found)]


def test_a_pod_that_is_as_it_must_be_has_no_finding() -> None:
    assert kinds(seen()) == []
    assert ledger.pending(RETRY, seen()) == ""


def test_what_is_wrong_is_found_by_its_kind() -> None:
    assert kinds(seen(phase="Failed")) == [PHASE]
    assert kinds(seen(restarts=2)) == [RESTARTS]
    assert kinds(seen(state=ended(137, "ContainerStatusUnknown"))) == [EXIT]
    assert kinds(seen(lastState=ended(128, "StartError"))) == [EXIT]


@pytest.mark.parametrize(
    ("logged", "words"),
    [
        (["main 1 1"], "the last 1 of 2 lines"),
        ([], "the last 2 of 2 lines"),
        (["main 1 2"], "line 1 is 'main 1 2'"),
        (["main 1 1", "main 1 1", "main 1 2"], "line 2 is 'main 1 1'"),
        (["main 1 1", "ma", "main 1 2"], "line 2 is 'ma'"),
        (["main 1 1", "main 1 2", "main 1 3"], "3 lines, 2 were written"),
        (None, "has no log"),
    ],
)
def test_lines_that_are_lost_doubled_or_torn_are_found(logged: list[str] | None, words: str) -> None:
    found = seen()
    found.attempts["main"][1].logged = logged
    (finding,) = ledger.findings(RETRY, found)
    assert finding.kind == LINES
    assert words in finding.text


def test_an_attempt_that_was_ended_from_outside_is_found_though_the_pod_succeeds() -> None:
    found = seen(restarts=2)
    found.attempts["main"].insert(0, Attempt(1, None, ["main 0 1"]))
    assert EXIT in kinds(found)
    assert RESTARTS in kinds(found)


def test_what_goes_on_may_have_written_more_than_was_recorded_and_not_less() -> None:
    server = Pod("server", "s", (Container("main"),), "Always")
    status = {"name": "main", "restartCount": 0, "state": {"running": {}}}
    shown: dict[str, Any] = {"phase": "Running", "containerStatuses": [status]}
    more, fewer = (
        Seen(shown, {"main": [Attempt(2, None, [f"main 0 {n + 1}" for n in range(count)])]}) for count in (3, 1)
    )
    assert ledger.findings(server, more) == []
    assert [finding.kind for finding in ledger.findings(server, fewer)] == [LINES]


def test_a_record_is_read_as_it_is_written() -> None:
    assert ledger.attempt_of("1\n2\nexit 7\n") == Attempt(2, 7)
    assert ledger.attempt_of("") == Attempt(0, None)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_pod_has_an_end_that_the_ledger_can_wait_for(kind: str) -> None:
    pod = KINDS[kind]("p", random.Random(1))
    assert pod.phase() in ("Running", "Succeeded", "Failed")
    made = pod.manifest("/truth")
    assert made["spec"]["containers"]
    assert pods.TRUTH in str(made)
    assert len({container.name for container in pod.containers}) == len(pod.containers)


def test_a_seed_repeats_its_round_and_another_makes_another() -> None:
    assert draw("a.1") == draw("a.1")
    assert draw("a.1") != draw("a.2")
    assert draw("a.1", ("both",)).storm == "both"


def killed(steps: tuple[Step, ...]) -> set[str]:
    return {step.target for step in steps if step.do in (KILL, TERM) and step.target in (AGENT, SPAWNER)}


def test_only_the_storm_that_is_named_both_kills_both_at_once() -> None:
    for storm in STORMS:
        victims = {frozenset(killed(draw(f"s{number}", (storm,)).steps)) for number in range(40)}
        both = {frozenset({AGENT, SPAWNER})}
        assert (both <= victims) == (storm in ("both", "in-turn")), storm


def test_a_shortage_begins_when_all_pods_have_and_what_comes_in_it_is_doomed() -> None:
    for storm in SHORTAGES:
        made = draw("s", (storm,))
        assert made.host == "small"
        started = next(step.at_s for step in made.steps if step.do == STARTED)
        late = {step.target for step in made.steps if step.do == APPLY and step.at_s > started}
        assert late
        assert late <= {pod.name for pod in made.pods if pod.doomed}
