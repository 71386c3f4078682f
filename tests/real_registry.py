"""Debian's docker-registry on loopback, open, with a password, or with tokens; and skopeo to fill it."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.patience import SLOWNESS

PROGRAM = shutil.which("docker-registry")
WAIT_S = 20.0 * SLOWNESS
USER, PASSWORD = "ann", "pa:ss word"
#: bcrypt of PASSWORD, the only kind that docker-registry takes
HTPASSWD = f"{USER}:$2b$05$minipodminipodminipodOopMphAwffeYoHhRJOg9blZO3iD0iayC\n"


class RealRegistry:
    """Where it listens, and a file with its password for `$REGISTRY_AUTH_FILE`; empty where it has none."""

    def __init__(self, host: str, auth_file: Path | None) -> None:
        self.host = host
        self.auth_file = auth_file

    def push(self, source: str, name: str, *options: str) -> None:
        """Copies what skopeo calls `source` to `name` here."""
        skopeo("copy", "--dest-tls-verify=false", *self.login("dest"), *options, source, f"docker://{self.host}/{name}")

    def digest(self, name: str) -> str:
        options = ["--tls-verify=false", *self.login(""), "--format", "{{.Digest}}"]
        return skopeo("inspect", *options, f"docker://{self.host}/{name}").strip()

    def login(self, side: str) -> list[str]:
        if self.auth_file is None:
            return []
        return [f"--{side}-creds={USER}:{PASSWORD}" if side else f"--creds={USER}:{PASSWORD}"]


def skopeo(*args: object) -> str:
    done = subprocess.run(["skopeo", *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def running(folder: Path, auth: str = "") -> Iterator[RealRegistry]:
    """`auth`: "", "htpasswd" or "token". Skips the test where Debian's packages are not installed."""
    if PROGRAM is None or shutil.which("skopeo") is None:
        pytest.skip("needs the packages docker-registry and skopeo")
    folder.mkdir(exist_ok=True)
    host = f"127.0.0.1:{_free_port()}"
    config: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": host},
    }
    with _auth(folder, auth) as settings:
        if settings:
            config["auth"] = settings
        (folder / "registry.yml").write_text(json.dumps(config))  # JSON is YAML
        command = [PROGRAM, "serve", str(folder / "registry.yml")]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
            try:
                _wait_for(host)
                yield RealRegistry(host, _auth_file(folder, host) if auth else None)
            finally:
                server.terminate()


@contextmanager
def _auth(folder: Path, kind: str) -> Iterator[dict[str, object]]:
    if kind == "htpasswd":
        (folder / "htpasswd").write_text(HTPASSWD)
        yield {"htpasswd": {"realm": "Test", "path": str(folder / "htpasswd")}}
    elif kind == "token":
        with _token_server(folder) as realm:
            settings = {"realm": realm, "service": "the registry", "issuer": "the issuer"}
            yield {"token": {**settings, "rootcertbundle": str(folder / "token.pem")}}
    else:
        yield {}


def _auth_file(folder: Path, host: str) -> Path:
    path = folder / "auth.json"
    word = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    path.write_text(json.dumps({"auths": {host: {"auth": word}}}))
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(host: str) -> None:
    name, _, port = host.partition(":")
    deadline = time.monotonic() + WAIT_S
    while True:
        with suppress(OSError):
            socket.create_connection((name, int(port))).close()
            return
        assert time.monotonic() < deadline, "the registry does not come up"
        time.sleep(0.05)


# ---- Docker's token authentication (distribution's docs/spec/auth)


@contextmanager
def _token_server(folder: Path) -> Iterator[str]:
    """Gives tokens to USER; the registry knows its certificate."""
    key, certificate = folder / "token.key", folder / "token.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens"]
    subprocess.run([*request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    der = base64.b64encode(subprocess.run(
        ["openssl", "x509", "-in", certificate, "-outform", "DER"], check=True, capture_output=True
    ).stdout).decode()  # fmt: skip
    wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != wanted:
                self._answer(401, {"details": "incorrect username or password"})
                return
            query = parse_qs(urlsplit(self.path).query)
            self._answer(200, {"token": _token(key, der, query["service"][0], query.get("scope", []))})

        def _answer(self, status: int, value: object) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/token"
        finally:
            server.shutdown()
            thread.join()


def _token(key: Path, certificate: str, service: str, scopes: list[str]) -> str:
    access = []
    for scope in scopes:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        access.append({"type": kind, "name": name, "actions": actions.split(",")})
    now = int(time.time())
    claims = {"iss": "the issuer", "sub": USER, "aud": service, "nbf": now - 60, "exp": now + 600, "access": access}
    header = {"typ": "JWT", "alg": "RS256", "x5c": [certificate]}
    text = f"{_base64(json.dumps(header).encode())}.{_base64(json.dumps(claims).encode())}"
    sign = ["openssl", "dgst", "-sha256", "-sign", str(key)]
    signature = subprocess.run(sign, input=text.encode(), check=True, capture_output=True).stdout
    return f"{text}.{_base64(signature)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
