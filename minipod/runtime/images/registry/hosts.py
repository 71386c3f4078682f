"""Which hosts serve an image, and how they are spoken to (layer 3): `/etc/minipod/registries.toml`. Opens nothing else.

[registry."docker.io"]
mirrors = ["https://mirror.example", "http://127.0.0.1:5000/dockerhub"]
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import msgspec

from minipod.api.references import DEFAULT_DOMAIN, Reference
from minipod.config import read_settings
from minipod.errors import ImageError

FILE = "/etc/minipod/registries.toml"
DOCKER_HOST = "registry-1.docker.io"
PORTS = {"http": 80, "https": 443}


class RegistryOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[registry."host:port"]` table, for a registry or for a mirror."""

    mirrors: tuple[str, ...] = ()  # http(s)://host[:port][/prefix], asked in this order before the registry
    mirrors_only: bool = False  # never ask the registry itself
    plain_http: bool | None = None  # not set: only where the host is this one
    insecure: bool = False  # TLS, with any certificate
    ca: str = ""  # a PEM file, trusted besides the system's
    client_certificate: str = ""
    client_key: str = ""
    proxy: str | None = None  # not set: HTTPS_PROXY, HTTP_PROXY, NO_PROXY; empty: none


class Registries(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file, every key optional."""

    short_names: tuple[str, ...] = (DEFAULT_DOMAIN,)  # registries that complete a name without one, in this order
    registry: dict[str, RegistryOptions] = {}
    connect_timeout_s: float = 10.0
    stall_timeout_s: float = 30.0  # without a byte
    min_bytes_per_s: int = 1024  # over the time of a stall
    attempts: int = 5
    max_wait_s: float = 20.0  # between two attempts, whatever the registry asks for


class Endpoint(msgspec.Struct, frozen=True):
    """Where requests go. `prefix`: what stands before the image's name in the path of a mirror."""

    scheme: str
    host: str
    port: int
    prefix: str
    registry: str  # whose credentials count: the name people use
    options: RegistryOptions

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == PORTS[self.scheme] else f":{self.port}")


def load_registries(path: str | None = None) -> Registries:
    """From `path`, `MINIPOD_REGISTRIES` or /etc/minipod/registries.toml. Raises ImageError for a file that is wrong."""
    chosen = path or os.environ.get("MINIPOD_REGISTRIES") or FILE
    try:
        text = read_settings(chosen).decode()
        import tomllib

        found = msgspec.convert(tomllib.loads(text), Registries)
        if not found.short_names:
            raise ValueError("short_names: must name a registry")
        return found
    except FileNotFoundError:
        if chosen != FILE:
            raise ImageError(f"{chosen}: no such file") from None
        return Registries()
    except (OSError, ValueError, RecursionError) as error:  # of TOML, of UTF-8, of msgspec
        raise ImageError(f"{chosen}: {error}") from error


def endpoints(registries: Registries, reference: Reference) -> list[Endpoint]:
    """Mirrors first, then the registry itself. Raises ImageError for a mirror that is no URL."""
    options = registries.registry.get(reference.domain, RegistryOptions())
    found = [_mirror(registries, url, reference.domain) for url in options.mirrors]
    if not options.mirrors_only:
        found.append(_registry(reference.domain, options))
    if not found:
        raise ImageError(f'registries.toml: registry."{reference.domain}": mirrors_only without mirrors')
    return found


def _registry(domain: str, options: RegistryOptions) -> Endpoint:
    parts = urlsplit(f"//{domain}")
    host = DOCKER_HOST if domain == DEFAULT_DOMAIN else parts.hostname or domain
    plain = is_loopback(host) if options.plain_http is None else options.plain_http
    scheme = "http" if plain else "https"
    return Endpoint(scheme, host, parts.port or PORTS[scheme], "", domain, options)


def _mirror(registries: Registries, url: str, domain: str) -> Endpoint:
    try:
        parts = urlsplit(url if "//" in url else f"https://{url}")
        port = parts.port
    except ValueError as error:
        raise ImageError(f'registries.toml: registry."{domain}": mirror {url!r}: {error}') from None
    if parts.scheme not in PORTS or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ImageError(f'registries.toml: registry."{domain}": mirror {url!r} is not http(s)://host[:port][/prefix]')
    name = parts.hostname if port is None else f"{parts.hostname}:{port}"
    options = registries.registry.get(name, RegistryOptions())
    prefix = parts.path.strip("/").removeprefix("v2").lstrip("/")
    return Endpoint(parts.scheme, parts.hostname, port or PORTS[parts.scheme], prefix, name, options)


def is_loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


def proxy_for(scheme: str, host: str, options: RegistryOptions, environment: dict[str, str]) -> str:
    """The proxy's URL, empty for none; the environment is read as Go's net/http does."""
    if options.proxy is not None:
        return options.proxy

    def value(name: str) -> str:
        return environment.get(name) or environment.get(name.lower(), "")

    if is_loopback(host) or any(_covers(rule.strip().lower(), host.lower()) for rule in value("NO_PROXY").split(",")):
        return ""
    return value("HTTPS_PROXY" if scheme == "https" else "HTTP_PROXY")


def _covers(rule: str, host: str) -> bool:
    """One entry of NO_PROXY: `*`, a domain with all below it, an address, a network."""
    if not rule:
        return False
    if "/" in rule:
        import ipaddress

        try:
            return ipaddress.ip_address(host) in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    rule = rule.removeprefix("*") if rule != "*" else rule
    return rule == "*" or host == rule.lstrip(".") or host.endswith("." + rule.lstrip("."))
