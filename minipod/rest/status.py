"""Errors as the API server answers them (layer 6, pure): `Status` objects with reason, code, causes and its words.

Rules: apimachinery's api/errors/errors.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
#: faults of decoding, which the API server reports as bad requests
_UNDECODABLE = {"UnknownField": "unknown field", "DuplicateKey": "duplicate field"}
_MALFORMED = ("WrongType", "Syntax")


class ApiError(Exception):
    """Becomes a Status. `details`: those of the Status."""

    def __init__(self, code: int, message: str, reason: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason or REASONS.get(code, "Unknown")
        self.details = dict(details or {})

    @property
    def status(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
        }
        if self.details:
            body["details"] = self.details
        return {**body, "code": self.code}

    @property
    def body(self) -> bytes:
        return msgspec.json.encode(self.status) + b"\n"


def success(details: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": dict(details)}


def not_found(resource: str, name: str) -> ApiError:
    return ApiError(404, f'{resource} "{name}" not found', details={"name": name, "kind": resource})


def no_such_path() -> ApiError:
    return ApiError(404, "the server could not find the requested resource")


def agent_error(error: Mapping[str, Any], resource: str, name: str) -> ApiError:
    """What the agent's `error` is to a client of the API."""
    kind, message = str(error.get("kind", "Internal")), str(error.get("message", ""))
    details: dict[str, Any] = {"name": name, "kind": resource} if name else {"kind": resource}
    match kind:
        case "NotFound":
            return ApiError(404, message, details=details)
        case "AlreadyExists":
            return ApiError(409, message, "AlreadyExists", details)
        case "Conflict":
            return ApiError(409, message, details=details)
        case "Expired":
            return ApiError(410, message)
        case "Usage":
            return ApiError(400, message)
        case "Manifest":
            return _manifest_error(error, message, details)
        case "Host":
            return ApiError(503, message)
    return ApiError(500, f"Internal error occurred: {message}")


def _manifest_error(error: Mapping[str, Any], message: str, details: dict[str, Any]) -> ApiError:
    if (code := error.get("code")) is not None:
        return ApiError(int(code), message)
    causes: Sequence[Sequence[str]] = error.get("causes") or []
    kinds = {cause[0] for cause in causes}
    if kinds & {*_MALFORMED} or not causes:
        return ApiError(400, message)
    if undecodable := [cause for cause in causes if cause[0] in _UNDECODABLE]:
        faults = ", ".join(f'{_UNDECODABLE[type_]} "{field}"' for type_, field, _ in undecodable)
        kind = message.partition(" ")[0]
        return ApiError(400, f'{kind} in version "v1" cannot be handled as a {kind}: strict decoding error: {faults}')
    details["causes"] = [{"reason": type_, "message": text, "field": field} for type_, field, text in causes]
    texts = [f"{field}: {text}" for _, field, text in causes]
    shown = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    head = message.partition(" is invalid: ")[0]
    return ApiError(422, f"{head} is invalid: {shown}", details=details)
