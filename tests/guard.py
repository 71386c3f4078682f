"""Proof of a root before anything is destroyed in it: a file that only the tests' busybox image has.

Where isolation is broken, "in the pod" may be the host. So whatever a test removes, replaces or overwrites there is
either written as `guarded(command)`, or reached through the descriptor that `root_of(pid)` returns.
"""

from __future__ import annotations

import functools
import io
import os
import secrets
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from minipod.runtime.images import busybox
from minipod.runtime.images.index import DEFAULT_REFERENCE
from tests.layouts import make_layout

if TYPE_CHECKING:
    from tests.node_fixtures import Node

MARKER = f"/minipod-test-root-{secrets.token_hex(8)}"
NOT_THE_POD = 99


def guarded(command: str) -> str:
    """The shell command, which does nothing but end with `NOT_THE_POD` where the root is not the image's."""
    refuse = f"{{ echo 'the root is not the pod: nothing is destroyed' >&2; exit {NOT_THE_POD}; }}"
    return f"[ -f {MARKER} ] || {refuse}; {command}"


def root_of(pid: int) -> int:
    """A descriptor of the process's root directory, O_PATH, proved to be the pod's. The caller closes it."""
    root_fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY)
    try:
        os.stat(MARKER[1:], dir_fd=root_fd, follow_symlinks=False)
    except FileNotFoundError:
        os.close(root_fd)
        raise AssertionError(f"the root of process {pid} is not the pod's") from None
    return root_fd


def prove_copies(node: Node, pod: str, folder: Path) -> None:
    """Fails the test where `minipod cp` does not reach the image's root."""
    node("cp", f"{pod}:{MARKER}", folder / "proof")


@functools.cache
def marked_layer() -> bytes:
    """The default image's one layer with the marker in it."""
    binary = busybox.find_busybox()
    buffer = io.BytesIO(busybox.make_layer(binary.read_bytes(), busybox.list_applets(binary)))
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        tar.addfile(tarfile.TarInfo(MARKER[1:]))
    return buffer.getvalue()


def write_marked_busybox(path: Path) -> Path:
    """A layout of the default image with the marker."""
    config = {"Env": [f"PATH={busybox.PATH}"], "Cmd": ["sh"]}
    return make_layout(path, marked_layer(), name=DEFAULT_REFERENCE, config=config, compress=False)
