"""From the files of a request to checked pods (layer 5). What is right and wrong is the API layer's."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from minipod.api.check import DEFAULT_NAMESPACE, Document, check
from minipod.api.types import Pod
from minipod.errors import ManifestError


class Manifest(msgspec.Struct, frozen=True):
    """One file as the command line read it; `name` is for messages."""

    name: str
    text: str


class Manifests(msgspec.Struct, frozen=True):
    pods: list[Pod]
    warnings: list[str]


def load(files: Sequence[Manifest], namespace: str | None) -> Manifests:
    """All pods of all files, defaulted and valid. Raises ManifestError with every finding of every file."""
    pods: list[Pod] = []
    warnings: list[str] = []
    findings: list[object] = []
    for file in files:
        for document in check(file.text, file.name, namespace or DEFAULT_NAMESPACE):
            warnings += document.warnings
            findings += _findings(document, namespace)
            if isinstance(document.object, Pod):
                pods.append(document.object)
    if findings:
        summary = str(findings[0]) if len(findings) == 1 else f"{len(findings)} errors in the manifest"
        raise ManifestError(summary, findings)
    if not pods:
        raise ManifestError(f"no pod in {', '.join(file.name for file in files) or 'what was given'}: nothing to run")
    return Manifests(pods, warnings)


def _findings(document: Document, namespace: str | None) -> list[str]:
    """`file:line:column: field: message`, as `minipod validate` prints them. `namespace`: the command line's."""
    findings = []
    for error in map(document.placed, document.errors):
        place = f"{document.file}:{error.line}:{error.column}" if error.line else document.file
        findings.append(": ".join(part for part in (place, error.field, error.message) if part))
    if findings:
        return findings
    if not isinstance(document.object, Pod):
        return [f"{document.file}: kind {document.kind}: minipod run takes only pods so far"]
    own = document.object.metadata.namespace
    if namespace is not None and own != namespace:
        objection = f'the namespace from the provided object "{own}" does not match the namespace "{namespace}"'
        return [f"{document.file}: {objection}. You must pass '--namespace={own}' to perform this operation."]
    return []
