"""A volume's sub path while its container exchanges folders for links."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from pathlib import Path

from minipod.plan.rootfs import _open_source


def test_a_sub_path_that_is_swapped_for_a_link_never_leads_outside(tmp_path: Path) -> None:
    """CVE-2017-1002101, CVE-2021-25741: a container exchanges the folder for a link while it is being looked up."""
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    (volume / "real").mkdir(parents=True)
    os.symlink(outside, volume / "link")
    os.symlink("../outside", volume / "up")
    secret = os.stat(outside).st_ino
    done = threading.Event()

    def swap() -> None:
        names = itertools.cycle(("real", "link", "up"))
        while not done.is_set():
            name = next(names)
            try:
                os.rename(volume / name, volume / "sub")
                os.rename(volume / "sub", volume / name)
            except OSError:
                continue

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        opened = 0
        for number in range(3000):
            try:
                fd = _open_source(str(volume), "sub" if number % 2 else "sub/below")
            except OSError:
                continue
            opened += 1
            found = os.fstat(fd)
            assert found.st_ino != secret
            assert os.readlink(f"/proc/self/fd/{fd}").startswith(str(volume))
            os.close(fd)
            for made in (volume / "sub" / "below", volume / "sub"):
                with contextlib.suppress(OSError):
                    os.rmdir(made)
    finally:
        done.set()
        attacker.join()
    assert opened
    assert os.listdir(outside) == []
