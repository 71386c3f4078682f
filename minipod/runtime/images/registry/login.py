"""Logging in to a registry (layer 3): a name and password are checked there and kept where pulls look for them.

The file is podman's, skopeo's and buildah's too: `$REGISTRY_AUTH_FILE`, else the `auth.json` of the user's
configuration, which survives a boot (podman's own default does not).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

from minipod.api.references import Reference
from minipod.errors import NEGATIVE, ImageError, NotFoundError
from minipod.runtime.images.registry.client import LOG_IN, Repository
from minipod.runtime.images.registry.credentials import Credential
from minipod.runtime.images.registry.hosts import Registries, endpoints
from minipod.runtime.images.registry.http import Http, RegistryError


class LoginRefusedError(ImageError):
    """The registry does not take the name and the password."""

    exit_status = NEGATIVE


def auth_file(environment: dict[str, str]) -> Path:
    """The file that is written."""
    if environment.get("REGISTRY_AUTH_FILE"):
        return Path(environment["REGISTRY_AUTH_FILE"])
    home = environment.get("HOME") or os.path.expanduser("~")
    return Path(environment.get("XDG_CONFIG_HOME") or Path(home, ".config"), "containers/auth.json")


def check(domain: str, username: str, password: str, registries: Registries, environment: dict[str, str]) -> None:
    """Asks the registry itself, no mirror. Raises LoginRefusedError, ImageError where it does not answer.

    One that asks for no password takes any.
    """
    credential = Credential(username, password, source="login")
    endpoint = endpoints(registries, Reference(domain=domain, path=""))[-1]
    http = Http(registries, threading.Event(), environment)
    try:
        http.attempts(Repository(http, endpoint, "", iter((credential,))).ping)
    except RegistryError as error:
        kind = LoginRefusedError if error.status in (401, 403) else ImageError
        raise kind(f"login to {domain} as {username}: {str(error).removesuffix(f'; {LOG_IN}')}") from None
    finally:
        http.close()


def keep(domain: str, username: str, password: str, environment: dict[str, str]) -> Path:
    """Writes them into the file, readable to its owner only. Raises ImageError."""
    file = auth_file(environment)
    content = _read(file)
    encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
    content.setdefault("auths", {})[domain] = {"auth": encoded}
    _write(file, content)
    return file


def forget(domain: str, environment: dict[str, str]) -> Path:
    """Removes them from the file. Raises NotFoundError, ImageError."""
    file = auth_file(environment)
    content = _read(file)
    if content.get("auths", {}).pop(domain, None) is None:
        raise NotFoundError(f"not logged in to {domain}: {file} has no password for it")
    _write(file, content)
    return file


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ImageError(f"{file}: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("auths", {}), dict):
        raise ImageError(f"{file}: is no auth.json: an object with auths is expected")
    return content


def _write(file: Path, content: dict[str, Any]) -> None:
    """The whole file or nothing of it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd, name = tempfile.mkstemp(dir=file.parent, prefix=".auth-")
        try:
            with os.fdopen(fd, "w") as out:
                json.dump(content, out, indent=4)
            os.rename(name, file)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise ImageError(f"{file}: {error.strerror or error}") from None
