"""`minipod diff`: what apply would change, and its exit statuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli_fakes import Object, Peer, fake_agent, minipod_command, pod


def secret(value: str, **metadata: object) -> Object:
    return {
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "default", **metadata},
        "data": {"k": value, "same": "c2FtZQ=="},
    }


class Differing:
    """An agent that has the first object and would have the second."""

    def __init__(self, before: Object | None, after: Object) -> None:
        self._before, self._after = before, after
        self.asked: Object = {}

    def apply(self, peer: Peer, request: Object) -> None:
        self.asked = request
        meta = self._after["metadata"]
        what = {"kind": self._after["kind"], "name": meta["name"], "namespace": "default", "result": "configured"}
        peer.send({"event": "applied", **what, "object": self._after})
        peer.ok()

    def get(self, peer: Peer, _: Object) -> None:
        if self._before is None:
            peer.fail("NotFound", 'secrets "s" not found')
            return
        peer.send({"event": "object", "type": "ADDED", "object": self._before})
        peer.ok()

    def run(self, folder: Path, *words: str) -> int:
        (folder / "m.yaml").write_text("kind: Secret\n")
        with fake_agent(folder) as agent:
            agent.handlers |= {"apply": self.apply, "get": self.get}
            return minipod_command(agent.paths, "diff", "-f", f"{folder}/m.yaml", *words)


def test_differences_are_exit_status_1_and_secrets_are_masked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    differing = Differing(secret("b2xk"), secret("bmV3", labels={"a": "b"}))
    assert differing.run(tmp_path) == 1
    out = capfd.readouterr().out
    assert "LIVE/v1.Secret.default.s" in out
    assert "-  k: '*** (before)'\n+  k: '*** (after)'\n   same: '***'\n" in out
    assert "+  labels:\n+    a: b\n" in out
    assert (differing.asked["mode"], differing.asked["dry_run"]) == ("apply", True)
    assert differing.run(tmp_path, "--show-secrets") == 1
    assert "-  k: b2xk\n+  k: bmV3\n   same: c2FtZQ==\n" in capfd.readouterr().out


def test_no_difference_is_exit_status_0_and_a_new_object_is_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert Differing(pod(), pod()).run(tmp_path) == 0
    assert capfd.readouterr().out == ""
    assert Differing(None, secret("bmV3")).run(tmp_path) == 1
    assert "+kind: Secret\n" in capfd.readouterr().out


def test_what_cannot_be_compared_is_more_than_1(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(Differing):
        def apply(self, peer: Peer, request: Object) -> None:
            peer.fail("Conflict", "no")

    assert Refusing(None, pod()).run(tmp_path) == 2
    monkeypatch.setenv("KUBECTL_EXTERNAL_DIFF", "/nonexistent/differ")
    assert Differing(pod(), pod("db")).run(tmp_path) == 2
    assert "install diffutils, or set KUBECTL_EXTERNAL_DIFF" in capfd.readouterr().err


def test_another_program_compares(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its arguments those that a shell or a file name could hide in are dropped, as by kubectl."""
    monkeypatch.setenv("KUBECTL_EXTERNAL_DIFF", "echo -u --x=1 /etc/passwd")
    assert Differing(pod(), pod()).run(tmp_path) == 0
    words = capfd.readouterr().out.split()
    assert words[:2] == ["-u", "--x=1"]
    assert [Path(word).name for word in words[2:]] == ["LIVE", "MERGED"]
