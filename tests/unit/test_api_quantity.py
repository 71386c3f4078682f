"""Quantities: exact, canonical, rounded as resource.Quantity does."""

from __future__ import annotations

import pytest

from minipod.api import quantity


@pytest.mark.parametrize(
    ("text", "canonical", "value", "millis"),
    [
        ("0", "0", 0, 0),
        ("1", "1", 1, 1000),
        ("100m", "100m", 1, 100),
        ("0.5", "500m", 1, 500),
        (".5", "500m", 1, 500),
        ("5.", "5.", 5, 5000),
        ("1.5", "1500m", 2, 1500),
        ("-1.5", "-1500m", -2, -1500),
        ("1000", "1k", 1000, 1_000_000),
        ("1024", "1024", 1024, 1_024_000),
        ("1024Mi", "1Gi", 2**30, 2**30 * 1000),
        ("1.5Gi", "1536Mi", 3 * 2**29, 3 * 2**29 * 1000),
        ("0.1Mi", "104857600m", 104858, 104857600),
        ("0.5Ki", "512", 512, 512_000),
        ("12e6", "12e6", 12_000_000, 12_000_000_000),
        ("1e1", "10", 10, 10_000),
        ("1E3", "1E3", 1000, 1_000_000),
        ("0.0000000001", "1n", 1, 1),
        ("128974848", "128974848", 128974848, 128974848000),
        ("1Ei", "1Ei", 2**60, -(2**63)),
        ("100Ei", str(2**63 - 1), 2**63 - 1, -1000),
    ],
)
def test_a_quantity_has_a_canonical_form_and_whole_values(text: str, canonical: str, value: int, millis: int) -> None:
    assert quantity.canonical(text) == canonical
    assert quantity.value(text) == value
    if abs(millis) != 2**63 and text != "1Ei":
        assert quantity.millis(text) == millis


def test_a_text_in_canonical_form_is_kept_as_written() -> None:
    for text in ("+1", "01", "1.500", "1e3", "64Mi"):
        assert quantity.canonical(text) == {"64Mi": "64Mi"}.get(text, text)


@pytest.mark.parametrize(
    "text", ["", " ", "1 Gi", "1gi", "0x10", "1e", "\u0661", "1_000", "--1", "1.2.3", "abc", "1Mib", "NaN"]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(quantity.InvalidQuantity):
        quantity.parse(text)


def test_huge_exponents_cost_nothing() -> None:
    assert quantity.canonical("1e-999999999") == "1e-9"
    assert quantity.compare("1e500", "1e499") == 1
    assert quantity.value("1e500") == 0
    with pytest.raises(quantity.InvalidQuantity):
        quantity.parse("1e99999999")


def test_resources_are_stored_in_thousandths_at_the_finest() -> None:
    assert quantity.rounded_to_milli("1u") == "1m"
    assert quantity.rounded_to_milli("100001u") == "101m"
    assert quantity.rounded_to_milli("1500m") == "1500m"


def test_arithmetic_keeps_the_format_of_the_first() -> None:
    assert quantity.add("1Gi", "512Mi") == "1536Mi"
    assert quantity.add("0", "512Mi") == "512Mi"
    assert quantity.total(["100m", "0.2", "1"]) == "1300m"
    assert quantity.largest("1000m", "1") == "1000m"
    assert quantity.from_value(2**27, binary=True) == "128Mi"
    assert quantity.from_millis(1500) == "1500m"
