"""`minipod edit` where the changes cannot be made: they are kept, and the error says what to type (unit)."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

from tests.unit.cli_fakes import Object, Peer, fake_agent, minipod_command


def test_changes_that_cannot_be_made_are_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("KUBE_EDITOR", "sed -i s/image:.busybox/image:\\ other/")

    def refuse(peer: Peer, _request: Object) -> None:
        peer.fail("Manifest", 'Pod "web" is invalid: spec: Forbidden: spec.hostname: cannot be changed', 2)

    with fake_agent(tmp_path) as agent:
        agent.handlers["edit"] = refuse
        assert minipod_command(agent.paths, "edit", "pod", "web") == 2
    (kept,) = folder.iterdir()
    assert "image: other" in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600
    stored, error = capfd.readouterr().err.splitlines()
    assert stored == f'A copy of your changes has been stored to "{kept}"'
    assert re.fullmatch(rf".*Forbidden: .*: minipod replace --force -f {kept}", error)
