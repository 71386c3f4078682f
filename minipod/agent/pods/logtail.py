"""Reads the end of a container's log (layer 5), for messages that explain a failure."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from minipod.kernel.regular import open_regular, opened_folder
from minipod.paths import LOG_FOLDERS
from minipod.runtime.offload import within

P = ParamSpec("P")
T = TypeVar("T")

TAIL_BYTES = 16_384
MAX_LINE = 200
ANSWER_S = 2.0  # a failure is not reported later than this because of its explanation


async def read(look: Callable[Concatenate[str, P], T], path: str, *args: P.args, **kwargs: P.kwargs) -> T | None:
    """`last_lines` or `tail_text` in a thread; None where the file system of the logs does not answer."""
    try:
        return await within(ANSWER_S, "the logs' file system", look, path, *args, **kwargs)
    except TimeoutError:
        return None


def last_lines(directory: str, count: int = 3) -> list[str]:
    """The last lines of the newest file in a container's log directory, without CRI's prefix; [] without one."""
    try:
        with opened_folder(directory, LOG_FOLDERS) as folder_fd:
            names = os.listdir(folder_fd)
    except OSError:
        return []
    numbers = [int(name[:-4]) for name in names if name.endswith(".log") and name[:-4].isdecimal()]
    if not numbers:
        return []
    texts = (text.strip() for text in _texts(f"{directory}/{max(numbers)}.log"))
    return [text[:MAX_LINE] for text in texts if text][-count:]


def tail_text(path: str, max_lines: int, max_bytes: int) -> str:
    """The end of a log, limited in lines and bytes (kuberuntime readLastStringFromContainerLogs)."""
    text = "\n".join(_texts(path)[-max_lines:])
    return (text + "\n" if text else "").encode()[-max_bytes:].decode("utf-8", "ignore")


def _texts(path: str) -> list[str]:
    """The texts of the last lines of a CRI log: `<time> stdout|stderr P|F <text>` without the first three fields."""
    try:
        folder, name = os.path.split(path)
        with (
            opened_folder(folder, LOG_FOLDERS) as folder_fd,
            open(open_regular(name, os.O_RDONLY, folder_fd, path), "rb") as file,
        ):
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read(TAIL_BYTES).split(b"\n")
    except OSError:
        return []
    if size > TAIL_BYTES:
        del lines[0]  # incomplete: it began before the part that was read
    fields = (line.split(b" ", 3) for line in lines if line)
    return [field[3].decode("utf-8", "replace") for field in fields if len(field) == 4]
