"""What a request to the Kubernetes API is about, what it accepts, who asks, and what an error becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from minipod.rest import discovery
from minipod.rest.accept import accepted
from minipod.rest.identity import ANONYMOUS, User, check_allowed, is_allowed, tokens_of, user_of
from minipod.rest.request_info import RequestInfo, request_info
from minipod.rest.reviews import self_subject_access_review
from minipod.rest.status import ApiError, agent_error

ADMIN = User("root", ("system:masters", "system:authenticated"))
KNOWN = User("jane", ("devs", "system:authenticated"))


@pytest.mark.parametrize(
    ("method", "path", "watch", "expected"),
    [
        ("GET", "/api/v1/pods", False, ("list", "", "", "pods", "", "")),
        ("GET", "/api/v1/pods", True, ("watch", "", "", "pods", "", "")),
        ("GET", "/api/v1/namespaces/a/pods/b", False, ("get", "", "a", "pods", "b", "")),
        ("GET", "/api/v1/namespaces/a/pods/b/log", False, ("get", "", "a", "pods", "b", "log")),
        ("POST", "/api/v1/namespaces/a/pods", False, ("create", "", "a", "pods", "", "")),
        ("PUT", "/api/v1/namespaces/a/configmaps/b", False, ("update", "", "a", "configmaps", "b", "")),
        ("DELETE", "/api/v1/namespaces/a/pods", False, ("deletecollection", "", "a", "pods", "", "")),
        ("GET", "/api/v1/namespaces", False, ("list", "", "", "namespaces", "", "")),
        ("GET", "/api/v1/namespaces/a", False, ("get", "", "", "namespaces", "a", "")),
        ("PUT", "/api/v1/namespaces/a/status", False, ("update", "", "", "namespaces", "a", "status")),
        ("POST", "/apis/authorization.k8s.io/v1/x", False, ("create", "authorization.k8s.io", "", "x", "", "")),
    ],
)
def test_a_path_names_what_the_request_is_about(method: str, path: str, watch: bool, expected: tuple[str, ...]) -> None:
    found = request_info(method, path, watch)
    assert found.is_resource
    assert (found.verb, found.group, found.namespace, found.resource, found.name, found.subresource) == expected


def test_other_paths_are_no_resources() -> None:
    for path in ("/", "/version", "/api", "/api/v1", "/apis/apps/v1", "/openapi/v3/api/v1"):
        assert not request_info("GET", path, False).is_resource


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@pytest.mark.parametrize(
    ("header", "form", "kind"),
    [
        ("", "object", ""),
        ("*/*", "object", ""),
        ("application/vnd.kubernetes.protobuf,application/json", "object", ""),
        (f"{TABLE},application/json", "Table", "Table"),
        (f"application/json;as=Table;v=v1;g=other,{TABLE}", "Table", "Table"),
        ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "PartialObjectMetadata", ""),
        (f"{AGGREGATED},application/json", "object", "APIGroupDiscoveryList"),
    ],
)
def test_the_first_acceptable_form_is_served(header: str, form: str, kind: str) -> None:
    found = accepted(header)
    assert found.form == form
    assert kind in ("", found.kind)


def test_a_form_that_is_not_served_is_not_acceptable() -> None:
    with pytest.raises(ApiError) as raised:
        accepted("application/vnd.kubernetes.protobuf")
    assert raised.value.code == 406


def certificate(name: str, *groups: str) -> dict[str, Any]:
    return {"subject": (*((("organizationName", group),) for group in groups), (("commonName", name),))}


def test_a_client_is_known_by_certificate_or_token() -> None:
    tokens = tokens_of('t0ken,robot,7,"ci,dev"\n# a comment\n')
    assert user_of(certificate("jane", "devs"), "", {}) == KNOWN
    assert user_of(None, "Bearer t0ken", tokens) == User("robot", ("ci", "dev", "system:authenticated"))
    assert user_of(None, "", tokens) == ANONYMOUS
    for wrong in ("Bearer t0ke", "Bearer t0ken1", "bearer x"):
        with pytest.raises(ApiError) as raised:
            user_of(None, wrong, tokens)
        assert raised.value.code == 401


def test_a_token_file_with_a_line_that_lacks_a_field_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2"):
        tokens_of("a,b,c\nd,e\n")


@pytest.mark.parametrize(
    ("user", "info", "expected"),
    [
        (ADMIN, RequestInfo("delete", "", True, "", "v1", "a", "pods", "b"), True),
        (KNOWN, RequestInfo("list", "", True, "", "v1", "a", "pods"), False),
        (KNOWN, RequestInfo("get", "/api/v1"), True),
        (KNOWN, RequestInfo("get", "/openapi/v3"), True),
        (KNOWN, RequestInfo("post", "/version"), False),
        (KNOWN, RequestInfo("create", "", True, "authentication.k8s.io", "v1", "", "selfsubjectreviews"), True),
        (ANONYMOUS, RequestInfo("get", "/version"), True),
        (ANONYMOUS, RequestInfo("get", "/livez"), True),
        (ANONYMOUS, RequestInfo("get", "/api"), False),
        (ANONYMOUS, RequestInfo("get", "/versionx"), False),
        (ANONYMOUS, RequestInfo("create", "", True, "authentication.k8s.io", "v1", "", "selfsubjectreviews"), False),
    ],
)
def test_who_may_do_what(user: User, info: RequestInfo, expected: bool) -> None:
    assert is_allowed(user, info) is expected


def test_a_refusal_is_in_the_api_servers_words() -> None:
    with pytest.raises(ApiError) as raised:
        check_allowed(KNOWN, RequestInfo("create", "", True, "", "v1", "a", "pods", "b", "exec"))
    assert str(raised.value) == (
        'pods "b" is forbidden: User "jane" cannot create resource "pods/exec" in API group "" in the namespace "a"'
    )


def test_a_review_answers_what_the_authorizer_would() -> None:
    asked = {"spec": {"resourceAttributes": {"verb": "create", "resource": "pods", "fieldSelector": {}}}}
    assert self_subject_access_review(ADMIN, asked) == {"allowed": True}
    assert self_subject_access_review(KNOWN, asked) == {"allowed": False}
    with pytest.raises(ApiError):
        self_subject_access_review(ADMIN, {"spec": {}})


@pytest.mark.parametrize(
    ("error", "code", "reason", "message"),
    [
        ({"kind": "NotFound", "message": 'pods "x" not found'}, 404, "NotFound", 'pods "x" not found'),
        ({"kind": "AlreadyExists", "message": "m"}, 409, "AlreadyExists", "m"),
        ({"kind": "Conflict", "message": "m"}, 409, "Conflict", "m"),
        ({"kind": "Expired", "message": "m"}, 410, "Expired", "m"),
        ({"kind": "Usage", "message": "m"}, 400, "BadRequest", "m"),
        ({"kind": "Host", "message": "m"}, 503, "ServiceUnavailable", "m"),
        ({"kind": "Manifest", "message": "m", "code": 422}, 422, "Invalid", "m"),
        (
            {"kind": "Manifest", "message": 'Pod "x" is invalid: a', "causes": [["UnknownField", "spec.imag", "u"]]},
            400,
            "BadRequest",
            'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.imag"',
        ),
        (
            {"kind": "Manifest", "message": 'Pod "x" is invalid: a', "causes": [["FieldValueRequired", "spec.a", "R"]]},
            422,
            "Invalid",
            'Pod "x" is invalid: spec.a: R',
        ),
    ],
)
def test_an_error_of_the_agent_becomes_a_status(error: dict[str, Any], code: int, reason: str, message: str) -> None:
    found = agent_error(error, "pods", "x")
    assert (found.code, found.reason, str(found)) == (code, reason, message)
    assert json.loads(found.body)["code"] == code


def test_the_causes_of_an_invalid_object_are_in_the_status() -> None:
    causes = [["FieldValueRequired", "spec.a", "Required value"], ["FieldValueInvalid", "spec.b", "no"]]
    found = agent_error({"kind": "Manifest", "message": 'Pod "x" is invalid: …', "causes": causes}, "pods", "x")
    assert str(found) == 'Pod "x" is invalid: [spec.a: Required value, spec.b: no]'
    assert found.status["details"]["causes"][1] == {"reason": "FieldValueInvalid", "message": "no", "field": "spec.b"}


def test_discovery_names_everything_that_is_served() -> None:
    resources = {entry["name"]: entry for entry in discovery.resource_list()["resources"]}
    assert resources["pods"]["shortNames"] == ["po"]
    assert "create" not in resources["events"]["verbs"]
    assert resources["pods/exec"]["verbs"] == ["create", "get"]
    groups = discovery.aggregated("v2")["items"][0]["versions"][0]["resources"]
    assert {entry["resource"] for entry in groups} == {name for name in resources if "/" not in name}
    assert discovery.group_path("/apis/apps/v1") is None
    assert discovery.group_path("/apis/authorization.k8s.io/v1") is not None


def test_openapi_refers_to_schemas_that_exist() -> None:
    document = json.loads(discovery.openapi_v1())
    text = json.dumps(document)
    schemas = document["components"]["schemas"]
    wanted = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert wanted <= {*schemas}
    identity = {"group": "", "version": "v1", "kind": "Pod"}
    paths = [path["patch"] for path in document["paths"].values()]
    assert any(path["x-kubernetes-group-version-kind"] == identity for path in paths)
