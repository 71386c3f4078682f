"""One finding about one field of a manifest (layer 1, pure). What decoding and validation both report."""

from __future__ import annotations

import msgspec


class FieldError(msgspec.Struct, frozen=True):
    """`field` is Kubernetes' path (`spec.containers[0].name`), `type` its error type (`FieldValueInvalid`), `message`
    begins with the standard words. `line` and `column` count from 1; 0 where the source is not known."""

    field: str
    type: str
    message: str
    line: int = 0
    column: int = 0
