"""Images and programs that no builder has cleaned up: layers byte by byte, programs as tables of system calls."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from minipod.kernel import launcher
from minipod.kernel.launcher import Call
from minipod.kernel.libc import NUMBERS
from minipod.paths import Paths
from minipod.runtime.images.store import ImageStore
from tests.guard import marked_layer
from tests.layouts import Entry, archive, make_layout

AT_FDCWD = -100
RENAME_EXCHANGE = 2
#: of calls that minipod itself never makes
MORE_NUMBERS = {
    "x86_64": {
        "read": 0,
        "ioctl": 16,
        "shmget": 29,
        "shmat": 30,
        "pause": 34,
        "socket": 41,
        "mount": 165,
        "exit_group": 231,
        "openat": 257,
        "unshare": 272,
        "open_by_handle_at": 304,
    },
    "aarch64": {
        "ioctl": 29,
        "mount": 40,
        "openat": 56,
        "read": 63,
        "exit_group": 94,
        "unshare": 97,
        "shmget": 194,
        "shmat": 196,
        "socket": 198,
        "open_by_handle_at": 265,
    },
}


class EvilImages:
    """`evil("name", symlink("proc", "/x"))`: busybox with a layer of these entries over it, in the node's store."""

    def __init__(self, paths: Paths, folder: Path) -> None:
        self._store = ImageStore(paths)
        self._folder = folder

    def __call__(
        self, name: str, *entries: Entry, layers: Sequence[Sequence[Entry]] = (), config: dict[str, Any] | None = None
    ) -> str:
        """The image's reference. `layers`: further ones, above; `config` as in the image: User, WorkingDir, Env …"""
        reference = f"localhost/{name}:evil"
        above = [archive(each) for each in ([entries] if entries else []) + [list(each) for each in layers]]
        settings = {"Env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"], "Cmd": ["sh"], **(config or {})}
        layout = make_layout(
            self._folder / name, marked_layer(), *above, name=reference, config=settings, compress=False
        )
        self._store.load_layout(layout)
        return reference


def program(*calls: Call) -> bytes:
    """A static program that makes these system calls and ends with status 0, or 255 where one is refused."""
    with mock.patch.dict(NUMBERS, MORE_NUMBERS.get(platform.machine(), {})):
        return launcher.program([*calls, Call("exit_group", (0,))])


def swap_program(first: str, second: str, times: int = 500) -> bytes:
    """Exchanges two names so many times, whether it succeeds or not: run in a loop, the attacker of every race."""
    names = (first.encode() + b"\0", second.encode() + b"\0")
    swap = Call("renameat2", (AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE), otherwise=1)
    return program(*[swap] * times)


#: a container's command: swaps without end by `/swap`, and counts its rounds in a file
def swap_forever(rounds: str, swap: str = "/swap") -> str:
    return f"n=0; while :; do {swap}; n=$((n+1)); echo $n > {rounds}; done"
