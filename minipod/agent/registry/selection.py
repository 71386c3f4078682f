"""Which objects a list or a watch selects (layer 5, pure): by place (kind, namespace, name), labels and fields.

Rules: apiserver's storage/selection_predicate.go and storage/cacher/cache_watcher.go. Knows no store and no connection.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from minipod.api import selectors
from minipod.api.selectors import FieldTerm, Requirement
from minipod.errors import UsageError

Place = tuple[str, str | None, str | None]
"""Kind, namespace and name; None: any."""


def places_of(kind: str, namespace: str, name: str) -> tuple[Place, ...]:
    """All places that select an object with this kind, namespace and name."""
    return (kind, namespace, name), (kind, namespace, None), (kind, None, None), (kind, None, name)


class Selection(msgspec.Struct, frozen=True):
    """An object is selected when one of `places` means it and it has all `labels` and `fields`.

    `uid`: only the object with this uid, where it is not empty.
    """

    places: frozenset[Place]
    labels: tuple[Requirement, ...] = ()
    fields: tuple[FieldTerm, ...] = ()
    uid: str = ""

    @classmethod
    def of(cls, *kinds: str, namespace: str | None = None, name: str | None = None, uid: str = "") -> Selection:
        return cls(frozenset((kind, namespace, name) for kind in kinds), uid=uid)

    def means(self, kind: str, namespace: str, name: str) -> bool:
        """Whether a place selects the object, labels and fields aside."""
        return not self.places.isdisjoint(places_of(kind, namespace, name))

    def matches(self, thing: Any) -> bool:
        """Whether an object of a fitting place has the labels, the fields and the uid."""
        if self.uid and thing.metadata.uid != self.uid:
            return False
        if self.labels and not selectors.matches_labels(self.labels, thing.metadata.labels):
            return False
        return not self.fields or selectors.matches_fields(self.fields, lambda path: field_of(thing, path))


def parse_selectors(
    labels: str, fields: str, known_fields: tuple[str, ...]
) -> tuple[tuple[Requirement, ...], tuple[FieldTerm, ...]]:
    """The texts of `-l` and `--field-selector`. Raises UsageError for a wrong text and for a field not in the list."""
    try:
        requirements, terms = selectors.parse_labels(labels), selectors.parse_fields(fields)
    except selectors.InvalidSelector as error:
        raise UsageError(str(error)) from None
    for term in terms:
        if term.path not in known_fields:
            raise UsageError(f"field label not supported: {term.path}; supported are {', '.join(known_fields)}")
    return requirements, terms


def field_of(thing: Any, path: str) -> str:
    """A field of an object as a field selector compares it; empty where it has none."""
    if path == "source":  # of an event (pkg/registry/core/event/strategy.go ToSelectableFields)
        return str(thing.source.component or thing.reporting_component)
    for name in path.split("."):
        thing = getattr(thing, _attributes(thing.__class__).get(name, ""), "")
    return str(thing).lower() if isinstance(thing, bool) else str(thing or "")


@functools.cache
def _attributes(struct: type[Any]) -> dict[str, str]:
    """The attributes of a struct by the names that its fields have in JSON."""
    if not issubclass(struct, msgspec.Struct):
        return {}
    return {field.encode_name: field.name for field in msgspec.structs.fields(struct)}
