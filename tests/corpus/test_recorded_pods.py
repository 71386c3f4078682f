"""Loading, defaults and validation against the API server's own verdicts on 2,419 pods."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec

from minipod.api import types
from minipod.api.defaults import defaulted
from minipod.api.load import Document, load
from minipod.api.status import qos_class
from minipod.api.validation import validate_pod
from minipod.cli.show.yamlout import to_yaml
from tests.corpus.conftest import Case
from tests.unit.test_api_defaults import stored, stored_there
from tests.unit.test_plain_yaml import assert_agrees

Findings = set[tuple[str, str]]


def loaded(case: Case) -> Document:
    (document,) = load(json.dumps(case["pod"]))
    return document


def findings_of(case: Case) -> Findings:
    document = loaded(case)
    assert not document.errors, (case["line"], document.errors)
    return {(error.field, error.type) for error in validate_pod(defaulted(document.object), document.written_empty)}


def names_of(document: Document, kind: str) -> list[str]:
    return sorted(error.field for error in document.errors if error.type == kind)


def test_every_pod_that_can_be_decoded_has_the_findings_of_the_api_server(cases: list[Case]) -> None:
    differences = []
    for case in cases:
        if case["expect"] == "undecodable":
            continue
        ours = findings_of(case)
        theirs: Findings = {(error["field"], error["type"]) for error in case.get("errors", ())}
        if ours != theirs:
            missing, extra = sorted(theirs - ours), sorted(ours - theirs)
            differences.append(f"line {case['line']}: missing {missing}, too many {extra}")
    assert not differences, f"{len(differences)} pods differ:\n" + "\n".join(differences[:50])


def test_what_cannot_be_decoded_there_cannot_be_decoded_here(cases: list[Case]) -> None:
    differences: list[Any] = []
    for case in cases:
        if case["expect"] != "undecodable":
            continue  # those have no errors of loading: the test above
        document = loaded(case)
        if not document.errors:
            differences.append((case["line"], "no error"))
        elif "unknownFields" in case and names_of(document, "UnknownField") != sorted(case["unknownFields"]):
            differences.append((case["line"], case["unknownFields"], document.errors))
        elif ("wrongType" in case or "badQuantity" in case) and not names_of(document, "WrongType"):
            differences.append((case["line"], "no WrongType", document.errors))
    assert not differences


def test_every_valid_pod_is_stored_as_the_api_server_stores_it(valid: list[Case]) -> None:
    assert len(valid) == 500
    for case in valid:
        assert stored(defaulted(loaded(case).object)) == stored_there(case), case["line"]


def test_the_class_is_the_api_servers_for_every_valid_pod(valid: list[Case]) -> None:
    for case in valid:
        assert qos_class(msgspec.convert(case["defaulted"], types.Pod, strict=False)) == case["qosClass"], case["line"]


def test_plain_yaml_of_the_pods_is_read_as_by_libyaml(cases: list[Case]) -> None:
    some = itertools.islice(cases, 0, None, 8)  # all of them agree; libyaml needs five seconds to say so
    read = [assert_agrees(to_yaml(case["pod"])) for case in some]
    assert sum(read) > 0.8 * len(read)
