"""Image references, read as distribution/reference and the kubelet read them."""

from __future__ import annotations

import pytest

from minipod.api.references import InvalidReference, is_image_id, parse_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("library/busybox", "docker.io/library/busybox:latest"),
        ("user/app", "docker.io/user/app:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ("HOST/app", "HOST/app:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        (f"busybox:1@{DIGEST}", f"docker.io/library/busybox:1@{DIGEST}"),
        ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest"),
        ("sha256:" + "a" * 64, "docker.io/library/sha256:" + "a" * 64),
    ],
)
def test_a_reference_is_completed(text: str, complete: str) -> None:
    assert str(parse_reference(text)) == complete


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "invalid reference format"),
        ("NGINX", "must be lowercase"),
        ("docker.io/Library/x", "must be lowercase"),
        ("a" * 64, "64-byte hexadecimal"),
        ("busy box", "invalid reference format"),
        ("busybox:", "invalid reference format"),
        ("busybox@", "invalid reference format"),
        ("busybox:" + "t" * 129, "invalid reference format"),
        ("/busybox", "invalid reference format"),
        ("../etc", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("busybox\n", "invalid reference format"),
        ("bu\u0455ybox", "invalid reference format"),
        ("x/" + "b" * 255, "must not be more than 255 characters"),
        ("busybox@sha256:" + "a" * 32, "invalid checksum digest length"),
        ("busybox@sha256:" + "A" * 64, "invalid checksum digest format"),
        ("busybox@md5:" + "a" * 32, "unsupported digest algorithm"),
    ],
)
def test_what_is_no_reference_is_refused_in_the_registry_s_words(text: str, words: str) -> None:
    with pytest.raises(InvalidReference, match=words):
        parse_reference(text)


def test_the_familiar_name_leaves_out_what_everybody_knows() -> None:
    assert parse_reference("docker.io/library/busybox").familiar == "busybox:latest"
    assert parse_reference("user/app:1").familiar == "user/app:1"
    assert parse_reference("quay.io/user/app").familiar == "quay.io/user/app:latest"


def test_an_image_id_is_64_ascii_hex_digits() -> None:
    assert is_image_id(DIGEST)
    assert is_image_id("a" * 64)
    assert not is_image_id("a" * 63)
    assert not is_image_id("\u0661" * 64)
    assert not is_image_id("a" * 64 + "\n")
