"""Pulling from a registry on loopback: what may come, who is asked, and as whom."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import ImageError
from minipod.runtime.images.manifests import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, architecture
from minipod.runtime.images.registry.hosts import RegistryOptions
from minipod.runtime.images.store import ImageStore
from tests import registry as fake
from tests.layouts import archive, entry, folder, make_layout
from tests.pulling import HELLO, get, left_over, login, motd
from tests.registry import Registry, Request

# ---- what may come


def test_an_image_is_pulled_and_found_by_its_name_and_digest(store: ImageStore, registry: Registry) -> None:
    pulled = get(store, registry)
    assert (pulled.changed, motd(pulled), pulled.image.config.cmd) == (True, "hello\n", ("cat", "/etc/motd"))
    assert store.resolve(f"{registry.host}/test") == pulled.image
    assert store.resolve(f"{registry.host}/test@{pulled.image.digest}") == pulled.image
    assert left_over(store) == []


def test_an_unchanged_tag_is_one_question(store: ImageStore, registry: Registry) -> None:
    first = get(store, registry)
    registry.seen.clear()
    second = get(store, registry)
    assert (second.changed, second.image) == (False, first.image)
    assert [(request.command, request.kind) for request in registry.seen] == [("HEAD", "manifests")]


@pytest.mark.parametrize("status", [405, 404, 200])
def test_a_registry_that_answers_no_head_is_asked_for_the_whole_manifest(
    store: ImageStore, registry: Registry, status: int
) -> None:
    def no_head(request: Request) -> bool:
        if request.command == "HEAD":
            request.answer(status)
        return request.command == "HEAD"

    registry.rules.append(no_head)
    assert get(store, registry).changed
    blobs = len(registry.requests("blobs"))
    again = get(store, registry)
    assert not again.changed
    assert motd(again) == "hello\n"
    assert len(registry.requests("blobs")) == blobs + 1  # the configuration


def test_a_tag_that_moved_on_is_fetched(store: ImageStore, registry: Registry, tmp_path: Path) -> None:
    get(store, registry)
    registry.add(make_layout(tmp_path / "new", archive([folder("etc"), entry("etc/motd", b"new\n")])))
    assert motd(get(store, registry)) == "new\n"
    assert len(store.list()) == 2


def test_a_digest_that_is_there_asks_nobody(store: ImageStore, registry: Registry) -> None:
    digest = get(store, registry).image.digest
    registry.seen.clear()
    assert not get(store, registry, f"test@{digest}").changed
    assert registry.seen == []


def test_only_new_layers_are_fetched(store: ImageStore, registry: Registry, tmp_path: Path) -> None:
    get(store, registry)
    registry.add(make_layout(tmp_path / "two", HELLO, archive([entry("new")])), "two")
    registry.seen.clear()
    get(store, registry, "two")
    assert len(registry.requests("blobs")) == 2  # its configuration and its second layer


@pytest.mark.parametrize(("index_type", "type_"), [(OCI_INDEX, OCI_MANIFEST), (DOCKER_LIST, DOCKER_MANIFEST)])
def test_an_index_leads_to_this_platform(store: ImageStore, registry: Registry, index_type: str, type_: str) -> None:
    digest = registry.tags["test", "latest"]
    size = len(registry.content[digest][1])
    other = {"mediaType": type_, "digest": "sha256:" + "0" * 64, "size": 1}
    right = {"mediaType": type_, "digest": digest, "size": size}
    platforms = [
        {**other, "platform": {"os": "linux", "architecture": "mips"}},
        {**other, "platform": {"os": "unknown", "architecture": "unknown"}},
        {**right, "platform": {"os": "linux", "architecture": architecture()}},
    ]
    index = registry.put({"schemaVersion": 2, "manifests": platforms}, index_type, "multi")
    pulled = get(store, registry, "multi")
    assert (pulled.image.digest, motd(pulled)) == (index, "hello\n")
    assert store.resolve(f"{registry.host}/multi@{index}") == store.resolve(f"{registry.host}/multi@{digest}")
    assert not get(store, registry, "multi").changed


def test_a_missing_platform_says_what_there_is(store: ImageStore, registry: Registry) -> None:
    other = {"digest": "sha256:" + "0" * 64, "size": 1, "platform": {"os": "linux", "architecture": "mips"}}
    registry.put({"schemaVersion": 2, "manifests": [other]}, OCI_INDEX, "multi")
    with pytest.raises(ImageError, match=rf"no image for linux/{architecture()}; there is linux/mips"):
        get(store, registry, "multi")


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_layers_come_compressed_or_not(store: ImageStore, registry: Registry, tmp_path: Path, compression: str) -> None:
    import zstandard

    data = {"none": HELLO, "gzip": gzip.compress(HELLO), "zstd": zstandard.compress(HELLO)}[compression]
    ending = "" if compression == "none" else f"+{compression}"
    layer_type = f"application/vnd.oci.image.layer.v1.tar{ending}"
    layout = make_layout(
        tmp_path / "l", data, compress=False, layer_type=layer_type, diff_ids=[f"sha256:{_sha(HELLO)}"]
    )
    registry.add(layout, "packed")
    assert motd(get(store, registry, "packed")) == "hello\n"


def _sha(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


# ---- who is asked, and as whom


def test_basic_authentication_by_a_pull_secret(store: ImageStore, registry: Registry) -> None:
    registry.rules.append(fake.basic("joe", "secret"))
    assert get(store, registry, secrets=login(registry.host, "joe", "secret")).changed


def test_a_token_for_anybody(store: ImageStore, registry: Registry) -> None:
    registry.rules.append(fake.bearer({"": ""}))
    assert get(store, registry).changed


def test_a_token_for_a_user_from_docker_s_file(store: ImageStore, registry: Registry, tmp_path: Path) -> None:
    registry.rules.append(fake.bearer({"joe": "secret"}))
    (tmp_path / "config.json").write_text(json.dumps(login(f"https://{registry.host}/v2/", "joe", "secret")))
    assert get(store, registry, environment={"DOCKER_CONFIG": str(tmp_path)}).changed


def test_registry_auth_file_and_a_path_in_it(store: ImageStore, registry: Registry, tmp_path: Path) -> None:
    registry.rules.append(fake.basic("joe", "secret"))
    entries: dict[str, Any] = {}
    for place, user, password in ((registry.host, "no", "no"), (f"{registry.host}/test", "joe", "secret")):
        entries |= login(place, user, password)["auths"]
    (tmp_path / "auth.json").write_text(json.dumps({"auths": entries}))
    assert get(store, registry, environment={"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}).changed


def test_every_credential_that_fits_is_tried(store: ImageStore, registry: Registry, tmp_path: Path) -> None:
    registry.rules.append(fake.bearer({"joe": "secret"}))
    (tmp_path / "config.json").write_text(json.dumps(login(registry.host, "joe", "secret")))
    wrong = login(registry.host, "old", "password")
    assert get(store, registry, secrets=wrong, environment={"DOCKER_CONFIG": str(tmp_path)}).changed


def test_a_credential_helper_is_asked(
    store: ImageStore, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text('#!/bin/sh\ncat >/dev/null\necho \'{"Username": "joe", "Secret": "secret"}\'\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {registry.host: "test"}}))
    registry.rules.append(fake.basic("joe", "secret"))
    assert get(store, registry, environment={"DOCKER_CONFIG": str(tmp_path)}).changed


def test_an_identity_token_becomes_an_access_token(store: ImageStore, registry: Registry) -> None:
    def token(request: Request) -> bool:
        if not request.path.startswith("/token"):
            return False
        form = request.rfile.read(int(request.headers["Content-Length"])).decode()
        assert "grant_type=refresh_token" in form
        assert "refresh_token=r3fresh" in form
        request.answer(200, b'{"access_token": "t0ken"}')
        return True

    registry.rules += [token, fake.bearer({})]
    assert get(store, registry, secrets={"auths": {registry.host: {"identitytoken": "r3fresh"}}}).changed


@pytest.mark.attack(row=35)
def test_refused_users_are_shown_the_registry_s_words_and_no_password(store: ImageStore, registry: Registry) -> None:
    registry.rules.append(fake.bearer({"joe": "secret"}))
    with pytest.raises(ImageError, match="unauthorized: incorrect username or password") as caught:
        get(store, registry, secrets=login(registry.host, "eve", "pa55word"))
    assert "pa55word" not in str(caught.value)
    with pytest.raises(ImageError, match="401 unauthorized"):
        get(store, registry)


@pytest.mark.attack(row=35)
def test_credentials_stay_home(store: ImageStore, registry: Registry) -> None:
    """Blobs are redirected to another host, as clouds do; it must not see who asked."""
    with fake.running() as elsewhere:
        elsewhere.content = registry.content

        def away(request: Request) -> None:
            request.answer(307, b"", {"Location": f"http://{elsewhere.host}/v2/test/blobs/{request.what}"})

        registry.rules += [fake.bearer({"joe": "secret"}), fake.on("blobs", away)]
        assert get(store, registry, secrets=login(registry.host, "joe", "secret")).changed
        assert [request.headers.get("Authorization") for request in elsewhere.seen] == [None, None]


@pytest.mark.attack(row=34)
def test_redirects_in_circles_end(store: ImageStore, registry: Registry) -> None:
    registry.rules.append(fake.on("blobs", lambda request: request.answer(307, b"", {"Location": request.path})))
    with pytest.raises(ImageError, match="more than 10 redirects"):
        get(store, registry)


@pytest.mark.attack(row=35)
def test_a_redirect_to_a_file_is_refused(store: ImageStore, registry: Registry) -> None:
    registry.rules.append(fake.on("blobs", lambda r: r.answer(307, b"", {"Location": "file:///etc/shadow"})))
    with pytest.raises(ImageError, match="which is no address"):
        get(store, registry)


def test_mirrors_come_first_and_may_be_down(store: ImageStore, registry: Registry) -> None:
    registry.tags["hub/library/nginx", "1"] = registry.tags["test", "latest"]
    mirrors = ("http://127.0.0.1:1", f"http://{registry.host}/hub")
    options = {"docker.io": RegistryOptions(mirrors=mirrors, mirrors_only=True)}
    pulled = get(store, registry, "nginx:1", host="docker.io", options=options)
    assert pulled.image.reference == "docker.io/library/nginx:1"
    assert {request.name for request in registry.seen} == {"hub/library/nginx"}


def test_a_mirror_without_the_image_leaves_it_to_the_registry(store: ImageStore, registry: Registry) -> None:
    with fake.running() as mirror:
        options = {registry.host: RegistryOptions(mirrors=(f"http://{mirror.host}",))}
        assert get(store, registry, options=options).changed


def test_short_names_are_completed_in_the_order_of_the_settings(
    store: ImageStore, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "registries.toml"
    monkeypatch.setenv("MINIPOD_REGISTRIES", str(settings))
    with fake.running() as empty:
        settings.write_text(f'short_names = ["{empty.host}", "{registry.host}"]')
        assert store.resolve("test") is None
        pulled = store.fetch("test")
        assert pulled.image.reference == f"{registry.host}/test:latest"
        assert empty.requests("manifests") == ["latest"]
        assert store.resolve("test") == store.resolve(f"{registry.host}/test") == store.find("test")
        with pytest.raises(ImageError, match=f"{empty.host}/none.*404.*; .*{registry.host}/none.*404"):
            store.fetch("none")
    assert store.tag("test", "other:1").reference == f"{empty.host}/other:1"
    settings.write_text("short_names = []")
    with pytest.raises(ImageError, match="short_names: must name a registry"):
        store.resolve("test")


def test_a_proxy_is_asked_for_the_whole_address(store: ImageStore, registry: Registry) -> None:
    with fake.running() as proxy:
        proxy.content, proxy.tags = registry.content, registry.tags

        def strip(request: Request) -> bool:
            assert request.path.startswith("http://registry.test:80/")
            return False

        class Proxied(Request):
            def do_GET(self) -> None:  # noqa: N802
                seen.append(self.path)
                self.path = self.path.removeprefix("http://registry.test")
                super().do_GET()

            do_HEAD = do_GET  # noqa: N815

        seen: list[str] = []
        proxy.RequestHandlerClass = Proxied
        options = {"registry.test": RegistryOptions(plain_http=True, proxy=f"http://{proxy.host}")}
        assert get(store, registry, host="registry.test", options=options).changed
        assert all(path.startswith("http://registry.test/v2/test/") for path in seen)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    files = (tmp_path / "cert.pem", tmp_path / "key.pem")
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", files[0], "-keyout", files[1]),
        ],
        check=True,
        capture_output=True,
    )
    return files


@pytest.mark.attack(row=35)
def test_tls_wants_a_certificate_that_is_trusted(
    store: ImageStore, registry: Registry, certificate: tuple[Path, Path]
) -> None:
    with fake.running(tls=certificate) as secure:
        secure.content, secure.tags = registry.content, registry.tags

        def tls(**options: object) -> dict[str, RegistryOptions]:
            return {secure.host: RegistryOptions(plain_http=False, **options)}  # type: ignore[arg-type]

        with pytest.raises(ImageError, match=r"certificate is not trusted: .*give its CA in /etc/minipod/registries"):
            get(store, secure, options=tls())
        assert get(store, secure, options=tls(ca=str(certificate[0]))).changed
        assert not get(store, secure, options=tls(insecure=True)).changed


@pytest.mark.attack(row=35)
def test_plain_http_where_tls_is_expected_says_so(store: ImageStore, registry: Registry) -> None:
    with pytest.raises(ImageError, match=r"speaks plain HTTP; .*plain_http = true"):
        get(store, registry, options={registry.host: RegistryOptions(plain_http=False)})
