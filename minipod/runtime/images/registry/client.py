"""The registry protocol (layer 3): manifests, blobs, tokens. distribution-spec, and Docker's token authentication.

Speaks to one endpoint about one repository; which endpoint, and what to do with the bytes, is `pull`'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from urllib.parse import urlencode

import msgspec

from minipod.runtime.images.manifests import MANIFEST_TYPES, MAX_JSON_BYTES, Descriptor
from minipod.runtime.images.registry.credentials import Credential
from minipod.runtime.images.registry.hosts import Endpoint
from minipod.runtime.images.registry.http import RETRIED, Http, RegistryError, Response, address_of

CLIENT_ID = "minipod"
LOG_IN = "log in (minipod image login) or give the pod imagePullSecrets"
# Possessive, and from the beginnings of words only: what a registry sends is read in one go, however long it is.
CHALLENGE = re.compile(r'(?<![A-Za-z])([A-Za-z]++)\s++((?:[A-Za-z_]++\s*+=\s*+(?:"[^"]*+"|[^\s",]++)\s*+,?\s*+)*+)')
PARAMETER = re.compile(r'(?<![A-Za-z_])([A-Za-z_]++)\s*+=\s*+(?:"([^"]*+)"|([^\s",]++))')


class _ErrorItem(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Errors(msgspec.Struct, frozen=True):
    errors: list[_ErrorItem] | None = None
    details: str = ""


class _Token(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""


class Repository:
    """One repository at one endpoint. Many threads may use it."""

    def __init__(self, http: Http, endpoint: Endpoint, path: str, credentials: Iterator[Credential]) -> None:
        self.endpoint = endpoint
        self.path = f"{endpoint.prefix}/{path}" if endpoint.prefix else path
        self.where = f"{endpoint.registry}/{self.path}".rstrip("/")
        self._http = http
        self._base = f"{endpoint.url}/v2/{self.path}".rstrip("/")  # an empty path: the registry as a whole
        self._credentials = credentials
        self._credential: Credential | None = None
        self._refused: Credential | None = None
        self._header = ""
        self._renewed = False  # the token was asked for once more, after it had been refused
        self._challenges: Mapping[str, Mapping[str, str]] = {}
        self._lock = threading.Lock()

    def ping(self) -> None:
        """Whether the endpoint takes the credential (distribution-spec, /v2/). Raises RegistryError."""
        with self._get("", {}) as response:
            response.read()

    def manifest_digest(self, tag: str) -> str:
        """What the tag stands for now, asked without fetching it; empty where the registry does not say."""
        with self._get(f"manifests/{tag}", {"Accept": ", ".join(MANIFEST_TYPES)}, "HEAD") as response:
            response.read()
            return response.headers.get("Docker-Content-Digest", "")

    def manifest(self, tag_or_digest: str) -> tuple[Descriptor, bytes]:
        """A manifest or an index, with the digest of what came. Raises RegistryError."""
        with self._get(f"manifests/{tag_or_digest}", {"Accept": ", ".join(MANIFEST_TYPES)}) as response:
            data = response.read(MAX_JSON_BYTES)
            promised = response.headers.get("Docker-Content-Digest", "")
            media_type = response.headers.get_content_type()
        if ":" in tag_or_digest:
            promised = tag_or_digest
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if promised.startswith("sha256:") and promised != digest:
            raise RegistryError(f"{self.where}: manifest {promised} is damaged: it has {digest}", retry=True)
        return Descriptor(digest, len(data), media_type), data

    def blob(self, digest: str, offset: int = 0) -> Response:
        """The blob's bytes from `offset`; with status 200 it begins at 0."""
        return self._get(f"blobs/{digest}", {"Range": f"bytes={offset}-"} if offset else {})

    # ---- inside

    def _get(self, what: str, headers: Mapping[str, str], method: str = "GET") -> Response:
        """The answer if it is 200 or 206, otherwise RegistryError. Authenticates where it is asked to."""
        url = f"{self._base}/{what}"
        for _ in range(8):  # each credential once, a token that ran out once more
            header = self._header
            response = self._http.request(method, url, self.endpoint, {**headers, **_authorization(header)})
            if response.status in (200, 206):
                self._renewed = False
                return response
            with response:
                error = self._error(response, what, method)
            if response.status in (401, 403) and response.url.startswith(f"{self.endpoint.url}/"):
                if self._authenticate(response, header):
                    continue
                used = f" as {self._refused.username or 'token'} ({self._refused.source})" if self._refused else ""
                raise RegistryError(f"{error}{used}; {LOG_IN}", status=response.status)
            raise error
        raise error

    def _authenticate(self, response: Response, used: str) -> bool:
        """A new header for the next request; False where nothing is left to try."""
        with self._lock:
            if self._header != used:
                return True  # another thread was faster
            challenges = dict(read_challenges(response.headers.get_all("WWW-Authenticate") or []))
            if self._credential is not None or self._header:  # what we had was refused
                if response.status == 401 and self._header.startswith("Bearer") and not self._renewed:
                    self._renewed = True
                    self._header = self._token(challenges["bearer"]) if "bearer" in challenges else ""
                    return bool(self._header)
                self._refused = self._credential
                self._credential = next(self._credentials, None)
                if self._credential is None:
                    return False
            elif response.status == 401:
                self._credential = next(self._credentials, None)
            else:
                return False
            self._renewed = False
            self._challenges = challenges or self._challenges
            if "bearer" in self._challenges:
                self._header = self._token(self._challenges["bearer"])
            elif "basic" in self._challenges and self._credential is not None:
                self._header = self._credential.basic
            else:
                return False
            return self._header != used

    def _token(self, challenge: Mapping[str, str]) -> str:
        """A bearer token (distribution-spec's companion auth/token.md, auth/oauth.md). Raises RegistryError."""
        realm = challenge.get("realm", "")
        parts = address_of(realm)
        if parts is None:
            raise RegistryError(f"{self.endpoint.registry}: asks for a token from {realm[:200]!r}, which is no address")
        if self.endpoint.scheme == "https" and parts.scheme == "http":
            raise RegistryError(
                f"{self.endpoint.registry}: asks to send the password over plain http, to {realm[:200]!r}"
            )
        scope = challenge.get("scope") or (f"repository:{self.path}:pull" if self.path else "")
        query = {"service": challenge["service"]} if challenge.get("service") else {}
        query |= {"scope": scope} if scope else {}
        credential = self._credential
        if credential is not None and credential.identity_token:
            form = {**query, "grant_type": "refresh_token", "refresh_token": credential.identity_token}
            body = urlencode({**form, "client_id": CLIENT_ID}).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            response = self._http.request("POST", realm, self.endpoint, headers, body)
        else:
            headers = _authorization(credential.basic if credential is not None else "")
            separator = "&" if parts.query else "?"
            url = f"{realm}{separator}{urlencode(query)}"
            response = self._http.request("GET", url, self.endpoint, headers)
        with response:
            if response.status != 200:
                error = self._error(response, "token", "GET")
                if response.status not in (401, 403):
                    raise error
                used = f" ({credential.source})" if credential is not None else ""
                self._credential = next(self._credentials, None)
                if self._credential is not None:
                    return self._token(challenge)
                raise RegistryError(f"{error}{used}; {LOG_IN}", status=response.status)
            try:
                found = msgspec.json.decode(response.read(), type=_Token)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise RegistryError(f"{self.endpoint.registry}: no proper token: {error}") from error
        token = found.token or found.access_token
        if not token or not token.isascii() or not token.isprintable():
            raise RegistryError(f"{self.endpoint.registry}: no proper token")
        return f"Bearer {token}"

    def _error(self, response: Response, what: str, method: str) -> RegistryError:
        """With the registry's own messages; anything else in the answer (HTML of a proxy …) is left out."""
        reason = ""
        if method != "HEAD":
            with contextlib.suppress(RegistryError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                answer = msgspec.json.decode(response.read(1 << 16), type=_Errors)
                items = answer.errors or []
                reason = "; ".join(
                    f"{item.code.lower().replace('_', ' ')}: {item.message}".strip(": ") for item in items
                )
                reason = (reason or answer.details)[:500]
        status = response.status
        words = f"{status} {_reason(status)}" + (f": {reason}" if reason else "")
        return RegistryError(
            f"{self.where}: {what}: {words}" if what else f"{self.where}: {words}",
            status=status,
            retry=status in RETRIED,
            wait_s=_retry_after(response.headers.get("Retry-After", "")),
        )


def _reason(status: int) -> str:
    import http

    with contextlib.suppress(ValueError):
        return http.HTTPStatus(status).phrase.lower()
    return "unknown status"


def _retry_after(text: str) -> float:
    """Seconds; a date is not honoured, as no registry sends one."""
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _authorization(header: str) -> dict[str, str]:
    return {"Authorization": header} if header else {}


def read_challenges(headers: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Scheme in lower case and parameters of each WWW-Authenticate (RFC 9110, 11.6.1)."""
    for header in headers:
        for scheme, parameters in CHALLENGE.findall(header):
            found = {name.lower(): quoted or plain for name, quoted, plain in PARAMETER.findall(parameters)}
            yield scheme.lower(), found
