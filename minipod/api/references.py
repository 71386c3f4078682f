"""Image references (layer 1): reads `busybox`, `host:5000/a/b:1@sha256:…` as Kubernetes does. Pure, looks nothing up.

The rules are those of distribution/reference (ParseNormalizedNamed, TagNameOnly), which the kubelet applies to
`spec.containers[].image` (pkg/util/parsers).
"""

from __future__ import annotations

import re

import msgspec

DEFAULT_DOMAIN = "docker.io"
OFFICIAL_PREFIX = "library/"
DEFAULT_TAG = "latest"
MAX_NAME_LENGTH = 255

#: bytes of hex in a digest, by algorithm (go-digest knows no others)
DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}

_ALNUM = r"[a-z0-9]+"
_COMPONENT = rf"{_ALNUM}(?:(?:[._]|__|-+){_ALNUM})*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

_REFERENCE = re.compile(
    rf"(?P<name>(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?",
    re.ASCII,
)
_IMAGE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}", re.ASCII)


class InvalidReference(ValueError):  # noqa: N818 - the kubelet's reason is InvalidImageName, an adjective too
    """The text is no image reference. `str()` is distribution/reference's own words."""


class Reference(msgspec.Struct, frozen=True):
    """A complete reference. `tag` and `digest` may both be set; the digest then decides what is meant."""

    domain: str  # docker.io, localhost:5000
    path: str  # library/busybox
    tag: str = ""
    digest: str = ""  # sha256:…

    @property
    def name(self) -> str:
        """The repository: `docker.io/library/busybox`."""
        return f"{self.domain}/{self.path}"

    def __str__(self) -> str:
        """`docker.io/library/busybox:latest`, the one spelling under which an image is kept."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"

    @property
    def familiar(self) -> str:
        """As people write it: without docker.io and library/."""
        text = str(self).removeprefix(f"{DEFAULT_DOMAIN}/")
        return text.removeprefix(OFFICIAL_PREFIX) if self.domain == DEFAULT_DOMAIN else text


def is_image_id(text: str) -> bool:
    """Whether `text` can only be an image's id: `sha256:` and 64 hex digits, or the digits alone."""
    return _IMAGE_ID.fullmatch(text) is not None


def is_sha256_digest(text: str) -> bool:
    return text.startswith("sha256:") and is_image_id(text)


def is_short(text: str) -> bool:
    """Whether the text names no registry, so that it is completed."""
    return not _host_of(text)


def parse_reference(text: str, default_domain: str = DEFAULT_DOMAIN) -> Reference:
    """The complete reference for the image in a manifest; tag `latest` where it has neither tag nor digest.

    `default_domain`: the registry that completes a short name. Raises InvalidReference.
    """
    if is_image_id(text) and not text.startswith("sha256:"):
        raise InvalidReference(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, rest = _split_domain(text, default_domain)
    path = rest.split("@")[0].split(":")[0]
    if path.lower() != path:
        raise InvalidReference(f"invalid reference format: repository name ({path}) must be lowercase")
    match = _REFERENCE.fullmatch(f"{domain}/{rest}")
    if match is None:
        raise InvalidReference("invalid reference format")
    if len(path) > MAX_NAME_LENGTH:
        raise InvalidReference(f"repository name must not be more than {MAX_NAME_LENGTH} characters")
    tag, digest = match["tag"] or "", match["digest"] or ""
    if digest:
        _check_digest(digest)
    return Reference(domain, path, tag or ("" if digest else DEFAULT_TAG), digest)


def _split_domain(text: str, default_domain: str) -> tuple[str, str]:
    first = _host_of(text)
    rest = text.removeprefix(f"{first}/") if first else text
    first = first or default_domain
    if first == "index.docker.io":
        first = DEFAULT_DOMAIN
    if first == DEFAULT_DOMAIN and "/" not in rest:
        rest = f"{OFFICIAL_PREFIX}{rest}"
    return first, rest


def _host_of(text: str) -> str:
    """The first component is a registry only where it looks like a host: a dot, a port, localhost, or capitals."""
    first, slash, _ = text.partition("/")
    looks_like_one = "." in first or ":" in first or first == "localhost" or first != first.lower()
    return first if slash and looks_like_one else ""


def _check_digest(digest: str) -> None:
    algorithm, _, value = digest.partition(":")
    length = DIGEST_LENGTHS.get(algorithm)
    if length is None:
        raise InvalidReference("unsupported digest algorithm")
    if len(value) != length:
        raise InvalidReference("invalid checksum digest length")
    if value != value.lower():
        raise InvalidReference("invalid checksum digest format")
