"""Validation against the API server's own verdicts on 2,019 pods (the others cannot be decoded at all)."""

from __future__ import annotations

import gzip
import json
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
