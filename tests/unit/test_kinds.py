"""The table of kinds: every entry's rules are there and fit its objects."""

from __future__ import annotations

import pytest

from minipod.api.defaults import defaulted
from minipod.api.kinds import ALL_KINDS, WRITABLE_KINDS, Kind, kind_of, kind_of_word
from minipod.api.types import ObjectMeta
from minipod.api.validation import validate, validate_update


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
def test_the_rules_of_an_entry_are_there(kind: Kind) -> None:
    assert kind.struct.__name__ == kind.name
    empty = defaulted(kind.struct(metadata=ObjectMeta(name="a")))
    assert kind_of(empty) is kind
    assert all(error.field for error in (*validate(empty), *validate_update(empty, empty)))
    assert bool(empty.metadata.namespace) is kind.namespaced


@pytest.mark.parametrize("kind", WRITABLE_KINDS, ids=lambda kind: kind.name)
def test_what_users_create_has_columns_and_field_labels(kind: Kind) -> None:
    row = kind.table.row(defaulted(kind.struct(metadata=ObjectMeta(name="a"))), 0.0, wide=True)
    assert len(row) == len(kind.table.titles(wide=True))
    assert row[0] == "a"
    assert "metadata.name" in kind.fields
    assert kind.refused == ""


def test_what_users_write_for_a_kind_means_one_kind_only() -> None:
    words = [word for kind in ALL_KINDS for word in (kind.singular, kind.plural, *kind.short)]
    assert len(words) == len(set(words))
    assert kind_of_word("ConfigMaps") is kind_of_word("cm")
    assert kind_of_word("deployments") is None


def test_a_manifest_is_applied_with_its_pods_after_what_they_need() -> None:
    names = [kind.name for kind in WRITABLE_KINDS]
    assert names[0] == "Namespace"
    assert names[-1] == "Pod"
