"""How an NFS export is asked for: versions, options, errors."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from minipod.errors import VolumeError
from minipod.kernel import mount as kmount
from minipod.plan.volumes.nfs import MountNfs, split_options, ways


def test_the_newest_version_is_asked_for_first_and_the_last_goes_without_locks() -> None:
    tried = list(ways("10.0.0.1", "10.0.0.2", ()))
    assert [options[0] for _, options in tried] == ["vers=4.2", "vers=4.1", "vers=4.0", "vers=3"]
    assert tried[0] == ("nfs4", ["vers=4.2", "addr=10.0.0.1", "clientaddr=10.0.0.2"])
    assert tried[-1] == ("nfs", ["vers=3", "addr=10.0.0.1", "mountaddr=10.0.0.1", "nolock"])


@pytest.mark.parametrize(("option", "fstype"), [("nfsvers=3", "nfs"), ("vers=4.1", "nfs4")])
def test_a_version_that_is_asked_for_is_the_only_one(option: str, fstype: str) -> None:
    ((found, options),) = ways("a", "b", (option, "soft"))
    assert found == fstype
    assert options[0] == f"vers={option.partition('=')[2]}"
    assert options[-1] == "soft"


def test_flags_of_the_mount_are_not_the_clients_business() -> None:
    flags, options = split_options(("noatime,hard", "nosuid", "_netdev", "timeo=600", "rw"))
    assert flags == kmount.MS_NOATIME | kmount.MS_NOSUID
    assert options == ("hard", "timeo=600")


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([errno.ENODEV] * 4, "this kernel has no NFS client"),
        ([errno.EPROTONOSUPPORT, errno.EACCES], "mount of 127.0.0.1:/x: Permission denied"),
        ([errno.ECONNREFUSED] * 4, "mount of 127.0.0.1:/x: Connection refused"),
        ([errno.ENOENT, errno.ENOENT, errno.ENOENT, errno.EPROTONOSUPPORT], "No such file or directory"),
    ],
)
def test_the_reported_failure_is_the_most_specific(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[int], message: str
) -> None:
    waiting = iter(answers)

    def refuse(*_: object) -> None:
        code = next(waiting)
        raise OSError(code, "no")

    monkeypatch.setattr(kmount, "mount", refuse)
    with pytest.raises(VolumeError, match=message):
        MountNfs("v", "127.0.0.1", "/x", str(tmp_path / "n")).execute()
    assert next(waiting, None) is None
