"""Generated texts and pods: whatever comes in is read, checked and printed, or refused in words."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from minipod.api.check import check
from minipod.api.defaults import defaulted
from minipod.api.load import load
from minipod.api.validation import validate_pod
from minipod.cli.show.yamlout import to_yaml
from tests.corpus.conftest import Case
from tests.unit.test_plain_yaml import assert_agrees


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200), st.text("{}[]:,-&*!|>'\"#% \n\tax01", max_size=80)))
def test_any_text_gives_documents_or_errors(text: bytes | str) -> None:
    for document in check(text):
        assert document.object is not None or document.errors


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
mutations = st.lists(st.tuples(st.integers(0, 10**6), json_values), min_size=1, max_size=3)


def mutated(value: Any, at: int, by: Any) -> Any:
    """`value` with the `at`-th value in it replaced."""
    places: list[tuple[Any, Any]] = []

    def walk(one: Any) -> None:
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            places.append((one, key))
            walk(one[key])

    walk(value)
    if places:
        holder, key = places[at % len(places)]
        holder[key] = by
    return value


@given(st.integers(0, 39), mutations)
def test_a_pod_with_anything_in_it_is_checked_without_a_crash(
    valid: list[Case], number: int, changes: list[tuple[int, Any]]
) -> None:
    changed = copy.deepcopy(valid[number]["pod"])
    for at, by in changes:
        changed = mutated(changed, at, by)
    for document in check(json.dumps(changed)):
        assert document.object is not None or document.errors
        assert all("\n" not in error.message for error in document.errors)


PIECES = (
    *("a", "b", "on", "name", "1", "0.5", "1e3", "-", "- ", "-x", "--", ":", ": ", "#", " #", " ", "  ", "    "),
    *("\n", "\n  ", "\n- ", "\n  - ", "\n    ", "[", "]", "{", "}", ",", ", ", "'", '"', "''", "\\", "|", ">"),
    *("&a", "*a", "!", "?", "? ", "<<", "~", "null", "yes", "...", "---", "%", "@", "`", "=", ".", "/", "$(X)"),
    *("+", "_", "\t", "a: b", "a:\n", "c: ", "key:\n- x", "[a, b]", '["x", y]', "x: y\n", "z:\n  ", "k:\n  v: w\n"),
    *("{a: b, c: d}", "{", "[", "e: [", "f: {g: "),
)


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_any_text_is_read_as_by_libyaml_or_not_at_all(text: str) -> None:
    assert_agrees(text)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ODD = ["yes", "1e3", "0x1", "- a", "a: b", "", "~", "2026-01-02", "-1", "--- x", "null", "a #b", "1:2", "*a"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS | st.sampled_from(ODD),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXTS, children, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=5))
def test_every_object_survives_yaml(value: dict[str, Any]) -> None:
    assert yaml.safe_load(to_yaml(value)) == value


ODD_VALUES: tuple[Any, ...] = (
    "",
    "a/b",
    "../x",
    "metadata.labels['",
    "1e400",
    "1n",
    "9" * 200,
    "windows",
    "\x00",
    "٣",
    -1,
    2**31,
    [],
)


def put_somewhere(value: Any, place: Any, chance: random.Random) -> None:
    """Replaces one value deep in `place`."""
    key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
    if isinstance(place[key], dict | list) and place[key]:
        put_somewhere(value, place[key], chance)
    else:
        place[key] = value


def test_no_value_that_can_be_loaded_upsets_validation(cases: list[Case]) -> None:
    """Recorded pods with a value in the wrong place: validation must not raise, whatever it finds."""
    chance = random.Random(36)
    pods = [case["pod"] for case in cases if case["expect"] != "undecodable"]
    survived = 0
    for pod in copy.deepcopy(chance.sample(pods, 400)):
        put_somewhere(chance.choice(ODD_VALUES), pod["spec"], chance)
        (document,) = load(json.dumps(pod))
        if document.object is not None:
            validate_pod(defaulted(document.object), document.written_empty)
            survived += 1
    assert survived > 100
