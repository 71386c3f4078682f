"""Which form of an answer a client accepts (layer 6, pure). Rules: apiserver's endpoints/handlers/negotiation."""

from __future__ import annotations

from typing import Literal, NamedTuple

from minipod.rest.status import ApiError

Form = Literal["object", "Table", "PartialObjectMetadata"]
_JSON = ("application/json", "*/*", "application/*")


class Accepted(NamedTuple):
    """`form`: of objects; `group_version`: of the form, or of discovery, where the client names one."""

    form: Form = "object"
    kind: str = ""
    group_version: str = ""


def clauses(header: str) -> list[tuple[str, dict[str, str]]]:
    """Media types with their parameters, best first: in the order of the header, as Kubernetes' clients send it."""
    found = []
    for clause in header.split(","):
        media, *parameters = (part.strip() for part in clause.split(";"))
        if media:
            found.append((media.lower(), dict(pair.partition("=")[::2] for pair in parameters)))
    return found


def accepted(header: str) -> Accepted:
    """The first that can be served. Raises ApiError 406."""
    if not header:
        return Accepted()
    for media, parameters in clauses(header):
        if media not in _JSON:
            continue
        form = parameters.get("as", "")
        if not form:
            return Accepted()
        wanted = form.removesuffix("List") if form.startswith("PartialObjectMetadata") else form
        if wanted in ("Table", "PartialObjectMetadata") and parameters.get("g") == "meta.k8s.io":
            return Accepted(wanted, form, "v1")  # type: ignore[arg-type]
        if form == "APIGroupDiscoveryList" and parameters.get("v") in ("v2", "v2beta1"):
            return Accepted("object", form, parameters["v"])
    raise ApiError(406, "only the following media types are accepted: application/json, application/yaml")
