"""Merging documents along the schema (layer 1, pure): `apply`'s three ways, strategic merge, JSON merge and JSON patch.

All work on plain data as JSON has it, and change no argument. `difference` holds the three ways of `apply`, `api.patch`
is the face for patches. Which lists are merged, and by which key, is in `rules.py`, generated from Kubernetes' OpenAPI
document; list types and map keys are there too, for server-side apply.
"""

from __future__ import annotations

from typing import Any

#: set by the server alone; a manifest that was written by `get -o yaml` has them
_SERVER_FIELDS = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink")


def without_server_fields(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest without its status and what creation writes into metadata."""
    metadata = {key: value for key, value in manifest.get("metadata", {}).items() if key not in _SERVER_FIELDS}
    return {**{key: value for key, value in manifest.items() if key != "status"}, "metadata": metadata}
