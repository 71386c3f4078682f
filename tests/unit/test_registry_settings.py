"""Which hosts serve an image, and as whom they are asked: pure."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from minipod.api.references import parse_reference
from minipod.errors import ImageError
from minipod.runtime.images.registry.client import read_challenges
from minipod.runtime.images.registry.credentials import credentials_for, parse_legacy_secret, parse_secret
from minipod.runtime.images.registry.hosts import (
    Registries,
    RegistryOptions,
    endpoints,
    load_registries,
    proxy_for,
)


def urls(name: str, **tables: RegistryOptions) -> list[str]:
    found = endpoints(Registries(registry=tables), parse_reference(name))
    return [f"{at.url}/{at.prefix}" for at in found]


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("nginx", "https://registry-1.docker.io/"),
        ("quay.io/a/b", "https://quay.io/"),
        ("quay.io:444/a", "https://quay.io:444/"),
        ("localhost:5000/a", "http://localhost:5000/"),
        ("127.0.0.1/a", "http://127.0.0.1/"),
        ("[::1]:5000/a", "http://[::1]:5000/"),
    ],
)
def test_registry_is_https_unless_it_is_this_host(name: str, url: str) -> None:
    assert urls(name) == [url]


def test_mirrors_come_before_the_registry_with_their_own_prefix() -> None:
    options = RegistryOptions(mirrors=("https://m.example/hub", "http://10.0.0.1:5000/v2/x/"))
    assert urls("nginx", **{"docker.io": options}) == [
        "https://m.example/hub",
        "http://10.0.0.1:5000/x",
        "https://registry-1.docker.io/",
    ]


@pytest.mark.parametrize("mirror", ["ftp://x", "https://", "https://u:p@x/", "https://x:99999999", "https://x/?q"])
def test_a_mirror_that_is_no_address_is_named(mirror: str) -> None:
    with pytest.raises(ImageError, match=r"registries\.toml: .*mirror"):
        urls("nginx", **{"docker.io": RegistryOptions(mirrors=(mirror,))})


def test_the_file_is_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "registries.toml"
    path.write_text('attempts = 2\n[registry."docker.io"]\nmirrors = ["http://m"]\n')
    assert load_registries(str(path)).registry["docker.io"].mirrors == ("http://m",)
    path.write_text('[registry."docker.io"]\nmirror = "http://m"\n')
    with pytest.raises(ImageError, match=r"unknown field `mirror`"):
        load_registries(str(path))
    path.write_text("[")
    with pytest.raises(ImageError, match=str(path)):
        load_registries(str(path))


@pytest.mark.parametrize(
    ("host", "no_proxy", "used"),
    [
        ("quay.io", "", True),
        ("quay.io", "quay.io", False),
        ("cdn.quay.io", ".quay.io", False),
        ("cdn.quay.io", "quay.io", False),
        ("notquay.io", "quay.io", True),
        ("10.1.2.3", "10.0.0.0/8", False),
        ("11.1.2.3", "10.0.0.0/8", True),
        ("quay.io", "a, *", False),
        ("localhost", "", False),
        ("127.0.0.1", "", False),
    ],
)
def test_proxies_are_those_of_the_environment(host: str, no_proxy: str, used: bool) -> None:
    environment = {"https_proxy": "http://p:1", "NO_PROXY": no_proxy}
    assert proxy_for("https", host, RegistryOptions(), environment) == ("http://p:1" if used else "")


def test_a_proxy_of_the_table_counts_more() -> None:
    assert proxy_for("https", "quay.io", RegistryOptions(proxy=""), {"HTTPS_PROXY": "http://p"}) == ""


def entry(user: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:x".encode()).decode()}


def users(name: str, auths: dict[str, dict[str, str]]) -> list[str]:
    reference = parse_reference(name)
    file = parse_secret(json.dumps({"auths": auths}), "s")
    return [found.username for found in credentials_for(reference, reference.domain, [("s", file)], {"HOME": "/none"})]


@pytest.mark.parametrize(
    ("name", "key", "fits"),
    [
        ("nginx", "https://index.docker.io/v1/", True),
        ("nginx", "docker.io", True),
        ("quay.io/a/b", "quay.io", True),
        ("quay.io/a/b", "https://quay.io", True),
        ("quay.io/a/b", "quay.io/a", True),
        ("quay.io/a/b", "quay.io/a/b", True),
        ("quay.io/ab/c", "quay.io/a", False),
        ("quay.io:444/a", "quay.io", False),
        ("quay.io:444/a", "quay.io:444", True),
        ("eu.gcr.io/a", "*.gcr.io", True),
        ("a.eu.gcr.io/a", "*.gcr.io", False),
        ("gcr.io.evil.com/a", "gcr.io", False),
        ("evilgcr.io/a", "*gcr.io", True),
        ("quay.io/a", "docker.io", False),
    ],
)
def test_passwords_fit_hosts_and_paths_as_in_the_kubelet(name: str, key: str, fits: bool) -> None:
    assert users(name, {key: entry("joe")}) == (["joe"] if fits else [])


def test_the_longest_path_comes_first_and_all_are_tried() -> None:
    keys = {"quay.io": entry("all"), "quay.io/a/b": entry("exact"), "quay.io/a": entry("team"), "*.io": entry("any")}
    assert users("quay.io/a/b", keys) == ["exact", "team", "all", "any"]


def test_older_secrets_are_the_table_alone() -> None:
    file = parse_legacy_secret(json.dumps({"quay.io": entry("joe")}), "s")
    assert list(file.auths) == ["quay.io"]


@pytest.mark.parametrize("data", ["", "[]", '{"auths": 1}', "\0"])
def test_a_secret_that_is_none_is_named(data: str) -> None:
    with pytest.raises(ImageError, match="secret login: "):
        parse_secret(data, "secret login")


def test_a_broken_entry_is_named_without_its_content() -> None:
    with pytest.raises(ImageError, match="is not base64 of user:password") as caught:
        users("quay.io/a", {"quay.io": {"auth": "geheim!"}})
    assert "geheim" not in str(caught.value)


def test_a_secret_s_helpers_are_not_run() -> None:
    assert parse_secret('{"credsStore": "evil", "auths": {}}', "s").creds_store == ""


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Bearer realm="https://a/t",service="b",scope="c:d:e,f"', ("bearer", "https://a/t", "b", "c:d:e,f")),
        ("Bearer realm=https://a/t , service=b", ("bearer", "https://a/t", "b", None)),
        ('Basic realm="x"', ("basic", "x", None, None)),
        ("BEARER", None),
    ],
)
def test_challenges_are_read(header: str, found: tuple[str, ...] | None) -> None:
    read = [(scheme, p.get("realm"), p.get("service"), p.get("scope")) for scheme, p in read_challenges([header])]
    assert read == ([found] if found else [])
