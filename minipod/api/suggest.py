"""What a misspelt or misplaced field was probably meant to be (layer 1, pure). Loaded only when something is wrong."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache

from minipod.api import types
from minipod.api.schema import fields_of
from minipod.api.text import path_text


def suggestion(struct: type[types.Object], key: str, path: tuple[object, ...]) -> str:
    """`did you mean "command"?`, where else the field lives, or nothing."""
    known = list(fields_of(struct))
    folded = {name.lower(): name for name in known}
    if key.lower() in folded:
        return f'did you mean "{folded[key.lower()]}"? (names are case-sensitive)'
    squeezed = key.replace("_", "").replace("-", "").lower()
    if squeezed in folded:
        return f'did you mean "{folded[squeezed]}"?'
    if close := get_close_matches(key, known, n=1, cutoff=0.75):
        return f'did you mean "{close[0]}"?'
    place = _elsewhere().get(key)
    if place and place != path_text(path):
        return f"it belongs into {place}"
    if len(known) <= 8:
        return "known here: " + ", ".join(known)
    return ""


@cache
def _elsewhere() -> dict[str, str]:
    """{field: where it lives}, for the fields that are often put one level too high or too low."""
    places = (
        (types.ObjectMeta, "metadata"),
        (types.PodSecurityContext, "spec.securityContext"),
        (types.SecurityContext, "spec.containers[].securityContext"),
        (types.Container, "spec.containers[]"),
        (types.PodSpec, "spec"),
    )
    return {field: place for struct, place in places for field in fields_of(struct)}


def kind_suggestion(kind: str, known: list[str]) -> str:
    folded = {name.lower(): name for name in known}
    if name := folded.get(kind.lower()) or folded.get(kind.lower().rstrip("s")):
        return f'; did you mean "{name}"?'
    if close := get_close_matches(kind, known, n=1, cutoff=0.7):
        return f'; did you mean "{close[0]}"?'
    return ""
