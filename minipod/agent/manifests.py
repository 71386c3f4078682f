"""Decodes and checks the manifests of a request (layer 5). The rules are those of the API layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from minipod.agent.registry.selection import parse_selectors
from minipod.api import types
from minipod.api.check import DEFAULT_NAMESPACE, Document, check
from minipod.api.kinds import kind_named
from minipod.api.load import MAX_DOCUMENTS, MAX_FAULTY, FieldValidation
from minipod.api.load import load as load_text
from minipod.api.merge import without_server_fields
from minipod.api.selectors import matches_labels
from minipod.api.types import Pod
from minipod.errors import ManifestError
from minipod.runtime.offload import off_loop


class Manifest(msgspec.Struct, frozen=True):
    """One file as the command line read it; `name` is for messages. `made`: of words, so its lines mean nothing."""

    name: str
    text: str
    made: bool = False


class ManifestObject(msgspec.Struct, frozen=True):
    """An object of a manifest. `object`: with defaults, valid; `written`: the fields in the manifest, for `apply`.

    `file`: the name of its file, for messages.
    """

    object: Any
    written: dict[str, Any]
    file: str = "-"

    @property
    def kind(self) -> str:
        return str(self.object.kind)


class Manifests(msgspec.Struct, frozen=True):
    """The objects in the order of the manifest, and warnings about them."""

    objects: list[ManifestObject]
    warnings: list[str]

    @property
    def pods(self) -> list[Pod]:
        return [found.object for found in self.objects if isinstance(found.object, Pod)]

    @property
    def other_kinds(self) -> list[ManifestObject]:
        """The objects that are not pods."""
        return [found for found in self.objects if not isinstance(found.object, Pod)]


async def loaded(
    files: Sequence[Manifest],
    namespace: str | None,
    *,
    pods: bool = True,
    exists: Callable[[Pod], bool] = lambda _pod: False,
    validation: FieldValidation = "strict",
    selector: str = "",
) -> Manifests:
    """`load` in a thread, so that it delays neither probes nor other clients."""
    return await off_loop(load, files, namespace, pods=pods, exists=exists, validation=validation, selector=selector)


def load(
    files: Sequence[Manifest],
    namespace: str | None,
    *,
    pods: bool = True,
    exists: Callable[[Pod], bool] = lambda _pod: False,
    validation: FieldValidation = "strict",
    selector: str = "",
) -> Manifests:
    """All objects of all files, with defaults, validated. Raises ManifestError with all errors of all files, and
    UsageError for a wrong selector.

    `pods`: at least one must be a pod. `exists`: whether a pod exists, so that the manifest is an update of it.
    `validation`: what becomes of unknown and repeated fields. `selector`: only the objects with these labels.
    """
    labels, _ = parse_selectors(selector, "", ())
    objects: list[ManifestObject] = []
    warnings: list[str] = []
    findings: list[object] = []
    for file in files:
        if len(findings) > MAX_FAULTY or len(objects) > MAX_DOCUMENTS:
            many = f"{MAX_FAULTY} faults" if len(findings) > MAX_FAULTY else f"{MAX_DOCUMENTS} objects"
            findings.append(f"{file.name}: more than {many} in the files before; the rest is not read")
            break
        written = load_text(file.text, file.name, validation)
        checked = check(file.text, file.name, namespace or DEFAULT_NAMESPACE, validation)
        for document, raw in zip(checked, written, strict=True):
            if labels and document.object and not matches_labels(labels, document.object.metadata.labels):
                continue
            warnings += document.warnings
            faults = _findings(document, namespace, exists, file.made)
            findings += faults
            if not faults:
                objects.append(ManifestObject(document.object, _written(raw.object, document.object), file.name))
    if findings:
        summary = str(findings[0]) if len(findings) == 1 else f"{len(findings)} errors in the manifest"
        raise ManifestError(summary, findings)
    where = ", ".join(file.name for file in files) or "the request"
    if not objects and selector:
        raise ManifestError(f"no object in {where} has the labels {selector}")
    if not objects:
        raise ManifestError(f"no object in {where}" if not pods else f"no pod in {where}: nothing to run")
    if pods and not any(found.kind == "Pod" for found in objects):
        raise ManifestError(f"no pod in {where}: nothing to run; minipod apply keeps the objects that are there")
    return Manifests(objects, warnings)


def _written(raw: Any, whole: Any) -> dict[str, Any]:
    """The manifest as data, with the resulting namespace; a Secret's stringData is moved into its data."""
    if isinstance(raw, types.Secret):
        raw = msgspec.structs.replace(raw, data=whole.data, string_data={})
    raw = msgspec.structs.replace(
        raw, metadata=msgspec.structs.replace(raw.metadata, namespace=whole.metadata.namespace)
    )
    data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(raw))
    return without_server_fields(data)


def _findings(document: Document, namespace: str | None, exists: Callable[[Pod], bool], made: bool) -> list[str]:
    """`file:line:column: field: message`, as `minipod validate` prints them. `namespace`: the command line's."""
    findings = []
    errors = document.errors
    if isinstance(document.object, Pod) and exists(document.object):
        # Forbidden at creation only; the validation of updates checks whether one is added.
        errors = tuple(error for error in errors if error.field != "spec.ephemeralContainers")
    for error in map(document.placed, errors):
        place = f"{document.file}:{error.line}:{error.column}" if error.line and not made else document.file
        findings.append(": ".join(part for part in (place, error.field, error.message) if part))
    if findings:
        return findings
    own = document.object.metadata.namespace
    if namespace is not None and own != namespace and kind_named(document.kind).namespaced:
        objection = f'the namespace from the provided object "{own}" does not match the namespace "{namespace}"'
        return [f"{document.file}: {objection}. You must pass '--namespace={own}' to perform this operation."]
    return []
