"""Labels and annotations that are set and removed one by one (layer 1, pure): kubectl's rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from minipod.errors import ConflictError


def changed(
    field: str, before: Mapping[str, str], new: Mapping[str, str], removed: Sequence[str], overwrite: bool
) -> dict[str, str]:
    """The keys and values after the change. `field`: labels or annotations.

    Raises ConflictError where it would overwrite a value.
    """
    taken = [f"'{key}' already has a value ({before[key]})" for key in new if before.get(key, new[key]) != new[key]]
    if taken and not overwrite:
        raise ConflictError(_refusal(field, taken))
    after = {**before, **new}
    for key in removed:
        after.pop(key, None)
    return after


def _refusal(field: str, taken: list[str]) -> str:
    if field == "annotations":
        return f"--overwrite is false but found the following declared annotation(s): {'; '.join(taken)}"
    each = [f"{text}, and --overwrite is false" for text in taken]
    return each[0] if len(each) == 1 else f"[{', '.join(each)}]"


def outcome(field: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """What became of the object, in kubectl's word."""
    if field == "annotations":
        return "annotated"
    added = any(before.get(key) != value for key, value in after.items())
    removed = bool(before.keys() - after.keys())
    if added and removed:
        return "modified"
    return "labeled" if added else "unlabeled" if removed else "not labeled"
