"""Label and field selectors."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest

from minipod.api import selectors, types

LABELS = {"app": "web", "tier": "front", "n": "5"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier=front", True),
        ("app!=web", False),
        ("other!=x", True),
        ("app in (web, db)", True),
        ("app notin (web)", False),
        ("app", True),
        ("!app", False),
        ("!other, app", True),
        ("n>4", True),
        ("n<5", False),
        ("app=", False),
    ],
)
def test_label_selectors_select(text: str, matches: bool) -> None:
    assert selectors.matches_labels(selectors.parse_labels(text), LABELS) is matches


@pytest.mark.parametrize("text", ["=", "a b", "a,,b", "a in web", "n>x", "!a=b", "a=b,"])
def test_what_is_no_label_selector_is_refused(text: str) -> None:
    with pytest.raises(selectors.InvalidSelector):
        selectors.parse_labels(text)


def test_a_label_selector_struct_selects_the_same_way() -> None:
    wanted = types.LabelSelectorRequirement(key="tier", operator="NotIn", values=("back",))
    selector = types.LabelSelector(match_labels={"app": "web"}, match_expressions=(wanted,))
    requirements = selectors.from_label_selector(selector)
    assert requirements is not None
    assert selectors.matches_labels(requirements, LABELS)
    assert selectors.from_label_selector(None) is None


def test_field_selectors_select() -> None:
    values = {"status.phase": "Running", "metadata.name": "a,b"}
    terms = selectors.parse_fields(r"status.phase=Running,metadata.name=a\,b,spec.nodeName!=x")
    assert selectors.matches_fields(terms, lambda path: values.get(path, ""))
    assert not selectors.matches_fields(selectors.parse_fields("status.phase!=Running"), values.__getitem__)
    with pytest.raises(selectors.InvalidSelector):
        selectors.parse_fields("status.phase")


SPACES = " " * (selectors.MAX_LENGTH - 2)


@pytest.mark.parametrize("parse", [selectors.parse_labels, selectors.parse_fields])
@pytest.mark.parametrize("text", ["a," * (selectors.MAX_LENGTH // 2), f"a,{SPACES}", f"a{SPACES}!", f"a=b,{SPACES}"])
def test_a_long_selector_takes_no_time(parse: Callable[[str], object], text: str) -> None:
    before = time.process_time()
    with contextlib.suppress(selectors.InvalidSelector):
        parse(text)
    assert time.process_time() - before < 2  # with every way to share the spaces: minutes


@pytest.mark.parametrize("parse", [selectors.parse_labels, selectors.parse_fields])
def test_a_selector_without_end_is_refused_in_a_few_words(parse: Callable[[str], object]) -> None:
    with pytest.raises(selectors.InvalidSelector, match="longer than 64 KiB") as caught:
        parse("a=b," * (1 << 20))
    assert len(str(caught.value)) < 500
