"""The attacker of every race: a pod that exchanges a folder and a link as fast as it can, and counts its rounds."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from tests import guard
from tests.attacks.conftest import AttackedNode
from tests.attacks.evil import EvilImages, swap_forever, swap_program
from tests.builders import container, manifest, mount, pod
from tests.layouts import entry
from tests.patience import SLOWNESS
from tests.volume_pods import claim, wait_for

SWAPS_A_ROUND = 500
ROUNDS = 2000
TIME_S = 20 * SLOWNESS


class Swapper:
    """A pod `swapper` with the claim `data` at /v: there it swaps `d`, a folder, with `link`, a link to `target`.

    `folder`: where the claim's volume is on the host, for attacks that are made in the test's own process.
    """

    def __init__(self, node: AttackedNode, evil: EvilImages, target: object, prepare: str = "") -> None:
        self._node = node
        image = evil("swapper", entry("swap", swap_program("/v/d", "/v/link", SWAPS_A_ROUND), mode=0o755))
        begin = f"mkdir /v/d; ln -s {target} /v/link; {prepare}; {swap_forever('/v/.rounds')}"
        attacker: dict[str, Any] = {
            **container("c", begin, image=image), "volumeMounts": [mount("data", "/v")]
        }  # fmt: skip
        volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
        node("run", "-d", "--timeout", "20s", "-", input=manifest(claim(), pod("swapper", attacker, volumes=[volume])))
        self.folder = next(Path(node.paths.state, "pv").iterdir())
        wait_for(lambda: self.rounds() > 0)
        self._before = self.rounds()

    def rounds(self) -> int:
        try:
            return int((self.folder / ".rounds").read_text() or 0)
        except FileNotFoundError:
            return 0

    def open_folder(self, name: str) -> int:
        """A descriptor (O_PATH) of a file in the folder, by whichever of the names it has at the moment."""
        while True:
            with contextlib.suppress(OSError):
                folder_fd = os.open(self.folder / "d", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    return os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder_fd)
                finally:
                    os.close(folder_fd)

    def open_root(self) -> int:
        """A descriptor of the pod's root, proved to be its."""
        pids = Path(f"/sys/fs/cgroup{'' if Path('/sys/fs/cgroup/cgroup.procs').exists() else '/pids'}")
        places = (pids / self._node.paths.cgroup_root.lstrip("/")).rglob("cgroup.procs")
        return guard.root_of(next(int(pid) for place in places for pid in place.read_text().split()))

    def assert_raced(self, seen: set[str]) -> None:
        """`seen`: how single attempts ended. A race in which all end the same way has shown nothing."""
        assert self.rounds() > self._before, "the swapper stood still"
        assert len(seen) > 1, f"every attempt ended in the same way: {seen}"


def attempts(minimum: int = ROUNDS) -> Any:
    """0, 1, 2 … until there were enough, or the time is up."""
    deadline = time.monotonic() + TIME_S
    number = 0
    while number < minimum and time.monotonic() < deadline:
        yield number
        number += 1
