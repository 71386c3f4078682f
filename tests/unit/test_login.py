"""`minipod image login` and `logout`: what is asked of the registry, what is kept where pulls find it."""

from __future__ import annotations

import io
import json
import stat
import sys
from pathlib import Path

import pytest

from minipod.api.references import parse_reference
from minipod.cli.logins import domain_of
from minipod.cli.main import guarded
from minipod.errors import UsageError
from minipod.runtime.images.registry.credentials import credentials_for
from tests.registry import Rule, basic, bearer, running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("rule", [basic("me", "secret"), bearer({"me": "secret"})])
def test_a_login_is_checked_and_kept_for_pulls(
    rule: Rule, home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home / ".config" / "containers" / "auth.json"
    with running() as registry:
        registry.rules.append(rule)
        monkeypatch.setattr(sys, "stdin", io.StringIO("wrong\n"))
        assert guarded(["login", registry.host, "-u", "me", "--password-stdin"]) == 1
        assert f"error: login to {registry.host} as me: {registry.host}" in capfd.readouterr().err
        assert not file.exists()
        file.parent.mkdir(parents=True)
        file.write_text('{"auths": {"other": {"auth": "eA=="}}, "credHelpers": {"x": "y"}}')
        monkeypatch.setattr(sys, "stdin", io.StringIO("secret\n"))
        assert guarded(["image", "login", f"http://{registry.host}/", "-u", "me", "--password-stdin"]) == 0
    assert capfd.readouterr().out == f"logged in to {registry.host} as me ({file})\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = json.loads(file.read_text())
    assert (set(kept["auths"]), kept["credHelpers"]) == ({"other", registry.host}, {"x": "y"})
    reference = parse_reference(f"{registry.host}/test")
    (found,) = credentials_for(reference, registry.host, (), {"HOME": str(home)})
    assert (found.username, found.password) == ("me", "secret")
    assert guarded(["logout", registry.host]) == 0
    assert set(json.loads(file.read_text())["auths"]) == {"other"}
    assert guarded(["logout", registry.host]) == 1
    assert [entry.name for entry in file.parent.iterdir()] == ["auth.json"]


def test_a_registry_that_does_not_answer_keeps_nothing(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with running() as registry:
        host = registry.host
    (home / "registries.toml").write_text("attempts = 1\n")
    assert guarded(["login", host, "-u", "me", "-p", "x"]) == 3
    assert f"login to {host} as me" in capfd.readouterr().err
    assert not (home / ".config").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["login", "-u", "me"], "no terminal to ask on"),
        (["login", "--password-stdin"], "--password-stdin goes with --username"),
        (["login", "-u", "me", "-p", "x", "--password-stdin"], "cannot be used together"),
        (["login", "host/path", "-u", "me", "-p", "x"], "is no registry"),
    ],
)
def test_wrong_use_is_said(
    words: list[str], message: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert guarded(words) == 2
    assert message in capfd.readouterr().err


def test_docker_hub_has_one_name() -> None:
    assert {domain_of(text) for text in ("docker.io", "https://index.docker.io/v1/", "registry-1.docker.io")} == {
        "docker.io"
    }
    with pytest.raises(UsageError):
        domain_of("")
