"""Questions that are asked by creating an object which is not stored (layer 6, pure): who am I, may I.

Rules: registry/authorization, registry/authentication.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minipod.rest.identity import User, is_allowed
from minipod.rest.request_info import RequestInfo
from minipod.rest.status import ApiError

Object = dict[str, Any]

_ATTRIBUTES = ("verb", "group", "version", "namespace", "resource", "name", "subresource")


def self_subject_review(user: User, review: Object) -> Object:
    return {"userInfo": {"username": user.name, "groups": list(user.groups)}}


def self_subject_access_review(user: User, review: Object) -> Object:
    """Raises ApiError 422 where the question is neither about a resource nor about a path, or about both."""
    spec = review.get("spec") or {}
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (resource is None) == (path is None):
        message = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise ApiError(
            422, f'SelfSubjectAccessReview.authorization.k8s.io "" is invalid: spec: Invalid value: {message}'
        )
    if path is not None:
        info = RequestInfo(str(path.get("verb", "")), str(path.get("path", "")))
    else:
        asked = {name: str(value) for name, value in (resource or {}).items() if name in _ATTRIBUTES}
        info = RequestInfo(asked.pop("verb", ""), "", True, **asked)
    return {"allowed": is_allowed(user, info)}


def self_subject_rules_review(user: User, review: Object) -> Object:
    """What `kubectl auth can-i --list` shows."""
    everything = is_allowed(user, RequestInfo("*", "", True, "*", "*", "", "*"))
    resources = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}] if everything else []
    paths = [{"verbs": ["*"], "nonResourceURLs": ["*"]}] if everything else []
    return {"resourceRules": resources, "nonResourceRules": paths, "incomplete": False}


class Review:
    """`answer(user, review)` is the status."""

    def __init__(self, group: str, kind: str, answer: Callable[[User, Object], Object]) -> None:
        self.group = group
        self.version = "v1"
        self.kind = kind
        self.resource = f"{kind.lower()}s"
        self.answer = answer


REVIEWS = (
    Review("authentication.k8s.io", "SelfSubjectReview", self_subject_review),
    Review("authorization.k8s.io", "SelfSubjectAccessReview", self_subject_access_review),
    Review("authorization.k8s.io", "SelfSubjectRulesReview", self_subject_rules_review),
)


def review_of(info: RequestInfo) -> Review | None:
    wanted = (info.group, info.version, info.resource)
    return next((found for found in REVIEWS if (found.group, found.version, found.resource) == wanted), None)
