"""From the files of a request to checked pods (layer 5). What is right and wrong is the API layer's."""

from __future__ import annotations

import msgspec

from minipod.api.check import check
from minipod.api.types import Pod
from minipod.errors import ManifestError


class Manifest(msgspec.Struct, frozen=True):
    """One file as the command line read it; `name` is for messages."""

    name: str
    text: str


class Manifests(msgspec.Struct, frozen=True):
    pods: list[Pod]
    warnings: list[str]
