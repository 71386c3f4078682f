"""The containers of a pod by name, as messages list them (layer 1, pure)."""

from __future__ import annotations

from collections.abc import Iterable


def listed(regular: Iterable[str], init: Iterable[str], ephemeral: Iterable[str]) -> str:
    """`a, b, i (init), d (ephem)`: kubectl's order and marks (podcmd.AllContainerNames)."""
    return ", ".join([*regular, *(f"{name} (init)" for name in init), *(f"{name} (ephem)" for name in ephemeral)])


def not_valid(container: str, pod: str, known: str) -> str:
    """The API server's words for a container that a pod does not have, and those that it has (`listed`)."""
    return f"container {container} is not valid for pod {pod}: it has {known}"
