"""Everything that is done with a manifest (layer 1, pure): load, defaults, validation, support.

Shared by run, plan and validate.
"""

from __future__ import annotations

from msgspec.structs import replace

from minipod.api import types
from minipod.api import validation as rules
from minipod.api.defaults import DEFAULT_NAMESPACE, defaulted
from minipod.api.load import Document, FieldValidation, load
from minipod.api.support import findings

MAX_ERRORS = 1_000  # reported for one document
_GENERATED_SUFFIX = 5
_GENERATED_BASE = 63 - _GENERATED_SUFFIX

__all__ = ["DEFAULT_NAMESPACE", "Document", "check"]


def check(
    text: bytes | str,
    file: str = "-",
    namespace: str = DEFAULT_NAMESPACE,
    validation: FieldValidation = "strict",
    support: bool = True,
    now: str | None = None,
) -> list[Document]:
    """Every document of a text, defaulted, with all its errors; never raises because of what the text holds.

    `namespace`: for objects that name none. `validation`: see `load`. `support`: what
    Kubernetes accepts and minipod cannot do is an error too (type `Unsupported`); without, it is a warning.
    `now`: the RFC 3339 time that creation records.
    """
    documents = load(text, file, validation)
    for document in documents:
        if document.object is not None:
            _check(document, namespace, support, now)
    return documents


def _check(document: Document, namespace: str, support: bool, now: str | None) -> None:
    written: types.Object = document.object
    document.object = defaulted(written, namespace, now)
    errors = [*document.errors, *rules.validate(_named(document.object), document.written_empty)]
    support_findings = findings(written)
    warnings = [*document.warnings, *support_findings.warnings]
    if support:
        errors += support_findings.errors
    else:
        warnings += [f"{error.field}: {error.message}" for error in support_findings.errors]
    if len(errors) > MAX_ERRORS:
        warnings.append(f"{len(errors) - MAX_ERRORS} more errors are not shown")
    document.errors = tuple(document.placed(error) for error in errors[:MAX_ERRORS])
    document.warnings = tuple(warnings)


def _named(manifest: types.Object) -> types.Object:
    """With a name such as generateName will give it: the API server makes it before it validates (names.go)."""
    metadata: types.ObjectMeta | None = getattr(manifest, "metadata", None)
    if metadata is None or metadata.name or not metadata.generate_name:
        return manifest
    name = metadata.generate_name[:_GENERATED_BASE] + "x" * _GENERATED_SUFFIX
    return replace(manifest, metadata=replace(metadata, name=name))
