"""Credentials for registries (layer 3): docker's and podman's files, credential helpers, pull secrets. Sends nothing.

Files are searched as podman and docker do, and in the order: pull secrets, $REGISTRY_AUTH_FILE (or podman's
auth.json), $DOCKER_CONFIG/config.json (or ~/.docker). What matches is chosen as the kubelet does
(pkg/credentialprovider/keyring.go): host with wildcards, the longest path first; all that match are tried.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from minipod.api.references import DEFAULT_DOMAIN, Reference
from minipod.config import read_settings
from minipod.errors import ImageError

DOCKER_KEY = "https://index.docker.io/v1/"
HELPER_NAME = re.compile(r"[A-Za-z0-9._-]+")
HELPER_TIMEOUT_S = 30.0
HELPER_NOTHING = "credentials not found in native keychain"
TOKEN_USER = "<token>"


class Credential(msgspec.Struct, frozen=True):
    """A user's name and password, or a refresh token. `source` says in errors where it is from."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    source: str = ""

    def __repr__(self) -> str:
        return f"Credential({self.username!r} from {self.source})"

    @property
    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class _Auth(msgspec.Struct, frozen=True, rename={"identity_token": "identitytoken"}):
    auth: str = ""
    username: str = ""
    password: str = ""
    identity_token: str = ""


class AuthFile(msgspec.Struct, frozen=True, rename={"creds_store": "credsStore", "cred_helpers": "credHelpers"}):
    """config.json, auth.json, and the data of a kubernetes.io/dockerconfigjson Secret."""

    auths: dict[str, _Auth] = {}
    creds_store: str = ""
    cred_helpers: dict[str, str] = {}


def parse_secret(data: bytes | str, source: str) -> AuthFile:
    """`.dockerconfigjson` of a Secret. Its helpers are not run: a Secret is a pod's, programs are the host's.

    Raises ImageError.
    """
    found = _decode(data, source)
    return AuthFile(auths=found.auths)


def parse_legacy_secret(data: bytes | str, source: str) -> AuthFile:
    """`.dockercfg` of a kubernetes.io/dockercfg Secret: the table of hosts alone. Raises ImageError."""
    try:
        return AuthFile(auths=msgspec.json.decode(data, type=dict[str, _Auth]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ImageError(f"{source}: {error}") from error


def credentials_for(
    reference: Reference, registry: str, secrets: Sequence[tuple[str, AuthFile]], environment: dict[str, str]
) -> Iterator[Credential]:
    """Each that may fit, best first; none at all for most public images. Raises ImageError for what cannot be read.

    `registry`: the host that is asked, which is a mirror's where one serves the image.
    """
    path = reference.path
    for source, file in secrets:
        yield from _matching(file, registry, path, source)
    for place in auth_files(environment):
        try:
            data = read_settings(str(place))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ImageError(f"{place}: {error.strerror}") from error
        file = _decode(data, str(place))
        helped = _from_helper(file, registry)
        if helped is not None:
            yield helped
        yield from _matching(file, registry, path, str(place))


def auth_files(environment: dict[str, str]) -> Iterator[Path]:
    """Those that may exist, first the one that counts most."""
    home = environment.get("HOME") or os.path.expanduser("~")
    if environment.get("REGISTRY_AUTH_FILE"):
        yield Path(environment["REGISTRY_AUTH_FILE"])
    else:
        runtime = environment.get("XDG_RUNTIME_DIR")
        yield Path(runtime, "containers/auth.json") if runtime else Path(f"/run/containers/{os.getuid()}/auth.json")
        yield Path(environment.get("XDG_CONFIG_HOME") or Path(home, ".config"), "containers/auth.json")
    yield Path(environment.get("DOCKER_CONFIG") or Path(home, ".docker"), "config.json")


def _decode(data: bytes | str, source: str) -> AuthFile:
    try:
        return msgspec.json.decode(data, type=AuthFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ImageError(f"{source}: {error}") from error


def _matching(file: AuthFile, registry: str, path: str, source: str) -> Iterator[Credential]:
    found = []
    for key, auth in file.auths.items():
        host, key_path = _split_key(key)
        if _host_matches(host, registry) and (not key_path or f"{path}/".startswith(f"{key_path}/")):
            found.append((key_path, host, auth))
    for _, host, auth in sorted(found, key=lambda item: (-len(item[0]), "*" in item[1])):
        credential = _credential(auth, f"{source}: {host}")
        if credential is not None:
            yield credential


def _split_key(key: str) -> tuple[str, str]:
    """`https://index.docker.io/v1/`, `host:5000`, `host/team/app` → host and path; docker's own names are docker.io."""
    host, _, path = key.partition("://")[2].partition("/") if "://" in key else key.partition("/")
    if path.strip("/") in ("v1", "v2"):
        path = ""
    if host in ("index.docker.io", "registry-1.docker.io", "docker.io"):
        host = DEFAULT_DOMAIN
    return host, path.strip("/")


def _host_matches(pattern: str, registry: str) -> bool:
    """Part by part, as in the kubelet: `*.example.com` is one level, and a port must be the same."""
    import fnmatch

    wanted, found = pattern.partition(":"), registry.partition(":")
    parts, names = wanted[0].split("."), found[0].split(".")
    return (
        wanted[2] == found[2]
        and len(parts) == len(names)
        and all(fnmatch.fnmatchcase(name, part) for name, part in zip(names, parts, strict=True))
    )


def _credential(auth: _Auth, source: str) -> Credential | None:
    username, password = auth.username, auth.password
    if auth.auth:
        try:
            username, _, password = base64.b64decode(auth.auth, validate=True).decode().partition(":")
        except ValueError:  # of base64, of UTF-8, of text that is not ASCII
            raise ImageError(f"{source}: auth is not base64 of user:password") from None
        password = password.rstrip("\0")
    if not username and not auth.identity_token:
        return None  # an empty entry: the password is with a helper
    return Credential(username, password, auth.identity_token, source)


def _from_helper(file: AuthFile, registry: str) -> Credential | None:
    name = file.cred_helpers.get(registry) or file.creds_store
    if registry == DEFAULT_DOMAIN and not file.cred_helpers.get(registry):
        name = file.cred_helpers.get(DOCKER_KEY) or file.creds_store
    return ask_helper(name, DOCKER_KEY if registry == DEFAULT_DOMAIN else registry) if name else None


class _Answer(msgspec.Struct, frozen=True, rename="pascal"):
    username: str = ""
    secret: str = ""


def ask_helper(name: str, server: str) -> Credential | None:
    """Runs `docker-credential-NAME get`; None where it knows nothing of this server. Raises ImageError."""
    import subprocess

    program = f"docker-credential-{name}"
    if not HELPER_NAME.fullmatch(name):
        raise ImageError(f"credential helper {name!r}: no program can have this name")
    try:
        ended = subprocess.run(
            [program, "get"], input=server.encode(), capture_output=True, timeout=HELPER_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise ImageError(
            f"credential helper {program} is not in PATH; install it, or remove it from the file"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"credential helper {program}: {error}") from error
    if ended.returncode != 0:
        words = (ended.stdout or ended.stderr).decode(errors="replace").strip()
        if HELPER_NOTHING in words:
            return None
        raise ImageError(f"credential helper {program}: {' '.join(words.split()) or ended.returncode}")
    try:
        answer = msgspec.json.decode(ended.stdout, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ImageError(f"credential helper {program}: {error}") from error
    if answer.username == TOKEN_USER:
        return Credential(identity_token=answer.secret, source=program)
    return Credential(answer.username, answer.secret, source=program) if answer.username else None
