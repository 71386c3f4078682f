"""Generated values: quantities, references, variables, log lines, addresses."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from hypothesis import assume, given
from hypothesis import strategies as st

from minipod.api import quantity
from minipod.api.references import InvalidReference, parse_reference
from minipod.plan.env import expand
from minipod.runtime.ipam import revoke
from minipod.streams import crilog
from tests.unit.test_ipam import SMALL, fill, offsets

amounts = st.builds(
    lambda number, suffix: f"{number}{suffix}",
    st.one_of(st.integers(-(10**15), 10**15), st.decimals(-(10**6), 10**6, places=3).map(lambda d: f"{d:f}")),
    st.sampled_from(["", "m", "k", "M", "Ki", "Mi", "e2", "E-1"]),
)


@given(amounts)
def test_the_canonical_form_is_the_same_amount_and_stays(text: str) -> None:
    canonical = quantity.canonical(text)
    assert quantity.equal(canonical, text)
    assert quantity.value(canonical) == quantity.value(text)
    assert quantity.canonical(canonical) == canonical


@given(amounts, amounts)
def test_sums_and_comparisons_do_not_depend_on_the_order(a: str, b: str) -> None:
    # beyond int64 a sum with a binary suffix is capped when it is read again, as in Kubernetes
    assume(abs(quantity.value(a)) + abs(quantity.value(b)) < 2**62)
    assert quantity.equal(quantity.add(a, b), quantity.add(b, a))
    assert quantity.compare(quantity.add(a, b), a) == quantity.compare(b, "0")
    assert quantity.compare(a, b) == -quantity.compare(b, a)


@given(st.text(max_size=20))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    with contextlib.suppress(quantity.InvalidQuantity):
        quantity.canonical(text)


def expanded_step_by_step(text: str, variables: Mapping[str, str]) -> str:
    """The rule again, one character after the other."""
    if not text:
        return ""
    if text.startswith("$$"):
        return "$" + expanded_step_by_step(text[2:], variables)
    if text.startswith("$(") and ")" in text:
        name, _, rest = text[2:].partition(")")
        return variables.get(name, f"$({name})") + expanded_step_by_step(rest, variables)
    width = 2 if text[0] == "$" else 1
    return text[:width] + expanded_step_by_step(text[width:], variables)


@given(st.text(alphabet="$()AB ", max_size=24))
def test_whatever_is_written_expands_by_the_rule(written: str) -> None:
    variables = {"A": "1", "B": "$(A)", "": "empty", "A(": "odd"}
    assert expand(written, variables) == expanded_step_by_step(written, variables)


@given(st.lists(st.binary(max_size=40).map(lambda text: text.replace(b"\n", b"")), max_size=20))
def test_any_bytes_survive(texts: list[bytes]) -> None:
    data = b"".join(b"2026-01-02T03:04:05.123456789Z stderr F " + text + b"\n" for text in texts)
    assert crilog.plain_text(data) == b"".join(text + b"\n" for text in texts)


@given(st.text(alphabet="aZ09.:/@_-[] \n", max_size=40))
def test_a_complete_reference_stays_as_it_is(text: str) -> None:
    try:
        complete = str(parse_reference(text))
    except InvalidReference:
        return
    assert str(parse_reference(complete)) == complete


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=60))
def test_no_two_sandboxes_ever_share_an_address(steps: list[tuple[bool, int]]) -> None:
    leases = SMALL
    for take, number in steps:
        sandbox_id = str(number)
        if not take:
            leases = revoke(leases, sandbox_id)
        elif sandbox_id not in leases.sandboxes and len(leases.sandboxes) < 5:
            leases = fill(leases, sandbox_id)
        assert len(set(offsets(leases))) == len(leases.sandboxes)
        assert all(2 <= offset <= 6 for offset in offsets(leases))
