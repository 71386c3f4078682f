"""Validation against the API server's own verdicts on 2,019 pods (the others cannot be decoded at all)."""

from __future__ import annotations

import gzip
import json
import random
from typing import Any

from minipod.api.defaults import defaulted
from minipod.api.load import load
from minipod.api.validation import validate_pod
from tests.conftest import CHECKOUT

CORPUS = CHECKOUT / "tests" / "data" / "pods-validation.jsonl.gz"

Findings = set[tuple[str, str]]


def findings_of(pod: dict[str, Any]) -> Findings:
    (document,) = load(json.dumps(pod))
    assert not document.errors, document.errors
    return {(error.field, error.type) for error in validate_pod(defaulted(document.object), document.written_empty)}


def test_every_pod_of_the_corpus_has_the_findings_of_the_api_server() -> None:
    differences = []
    with gzip.open(CORPUS, "rt") as lines:
        for number, line in enumerate(lines, 1):
            case = json.loads(line)
            if case["expect"] == "undecodable":
                continue
            ours = findings_of(case["pod"])
            theirs: Findings = {(error["field"], error["type"]) for error in case.get("errors", ())}
            if ours != theirs:
                differences.append(f"line {number}: missing {sorted(theirs - ours)}, too many {sorted(ours - theirs)}")
    assert not differences, f"{len(differences)} pods differ:\n" + "\n".join(differences[:50])


ODD_VALUES = ("", "a/b", "../x", "metadata.labels['", "1e400", "1n", "9" * 200, "windows", "\x00", "٣", -1, 2**31, [])


def put_somewhere(value: Any, place: Any, chance: random.Random) -> None:
    """Replaces one value deep in `place`."""
    key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
    if isinstance(place[key], dict | list) and place[key]:
        put_somewhere(value, place[key], chance)
    else:
        place[key] = value


def test_no_value_that_can_be_loaded_upsets_validation() -> None:
    """Corpus pods with a value in the wrong place: validation must not raise, whatever it finds."""
    chance = random.Random(36)
    with gzip.open(CORPUS, "rt") as lines:
        pods = [case["pod"] for case in map(json.loads, lines) if case["expect"] != "undecodable"]
    survived = 0
    for pod in chance.sample(pods, 400):
        put_somewhere(chance.choice(ODD_VALUES), pod["spec"], chance)
        (document,) = load(json.dumps(pod))
        if document.object is not None:
            validate_pod(defaulted(document.object), document.written_empty)
            survived += 1
    assert survived > 100
