"""Unpacks layers by processes of their own (layer 3). Knows no store: blob and empty directory in, a diff id out."""

from __future__ import annotations

import errno
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from minipod.errors import ImageError
from minipod.runtime.images.errors import Stopped

PROGRAM = (
    "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); from minipod.runtime.images.unpack import main; main()"
)
#: real layers shrink to a third or a tenth; one of zeros to a thousandth, and there are such, but not large ones
MAX_RATIO = 100
ALWAYS_ALLOWED_BYTES = 1 << 30
STOP_POLL_S = 0.2


def unpack_layer(blob: Path, digest: str, folder: Path, keep_fds: Sequence[int], stop: threading.Event) -> str:
    """Unpacks `blob`, called `digest` in errors, into `folder`; returns the diff id.

    `keep_fds` are locks: the process inherits them, so should this one be killed, they are held until it has ended too.
    Raises ImageError, OSError, Stopped.
    """
    max_bytes = max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * blob.stat().st_size)
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", PROGRAM, import_path()]
    with (
        open(blob, "rb") as source,
        subprocess.Popen(
            [*command, str(folder), str(max_bytes)],
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=keep_fds,
            env={},
            cwd="/",
        ) as process,
    ):
        output, errors = _communicate(process, stop)
    answer = output.decode()
    if process.returncode == 0:
        return answer
    if not answer:
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise ImageError(f"layer {digest}: unpacking ended with {process.returncode}: {''.join(last)}")
    number, path, words = answer.split("\0", 2)
    place = f": {path}" if path else ""
    if int(number) in (errno.ENOSPC, errno.EDQUOT):
        raise OSError(int(number), f"{words}{place}")
    raise ImageError(f"layer {digest} cannot be unpacked{place}: {words}")


def _communicate(process: subprocess.Popen[bytes], stop: threading.Event) -> tuple[bytes, bytes]:
    try:
        while True:
            try:
                return process.communicate(timeout=STOP_POLL_S)
            except subprocess.TimeoutExpired:
                if stop.is_set():
                    raise Stopped from None
    except BaseException:
        process.kill()
        process.communicate()
        raise


def import_path() -> str:
    """Where the unpacking process finds minipod and the two libraries; -I and -S give it the standard library only."""
    found = [Path(__file__).parents[3]]
    for name in ("isal", "zstandard"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            found.append(Path(spec.origin).parents[1])
    return ":".join(dict.fromkeys(map(os.fspath, found)))
