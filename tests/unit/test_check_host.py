"""What `check` says of the process it is started from (unit)."""

from __future__ import annotations

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
