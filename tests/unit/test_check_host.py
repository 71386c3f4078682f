"""What `check` says of the process it is started from (unit)."""

from __future__ import annotations

from pathlib import Path

import pytest

from minipod.cli import check_host


@pytest.mark.parametrize(
    ("found", "ok", "detail"),
    [
        (False, True, "the mount namespace's own"),
        (True, True, "a chroot; every command in a pod is verified to be in the pod's root before it runs"),
        (None, None, "needs root to be asked"),
    ],
)
def test_a_chroot_is_named_and_stops_nothing(
    found: bool | None, ok: bool | None, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_host, "in_chroot", lambda: found)
    (finding,) = check_host.root_directory()
    assert (finding.ok, finding.detail, finding.needed) == (ok, detail, False)


def test_names_of_pods_are_said_to_be_missing_once_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """MissingClusterDNS, which a kubelet has for each pod."""
    file = tmp_path / "config.toml"
    monkeypatch.setenv("MINIPOD_CONFIG", str(file))
    for text, ok, detail in (
        ("", True, "below cluster.local"),
        ('cluster_dns = ["10.96.0.10"]', True, "asked of 10.96.0.10 (cluster_dns)"),
        ("names = false", False, "the configuration has names = false and no cluster_dns"),
    ):
        file.write_text(text)
        (finding,) = check_host.names()
        assert finding.ok is ok
        assert finding.detail.endswith(detail)
        assert not finding.is_fatal
    file.write_text("")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (finding,) = check_host.names()
    assert finding.is_fatal
    assert "python3-dnspython" in finding.remedy
