"""Volumes while somebody looks: readers in the middle of an update."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from minipod.plan.volumes.configuration import File
from minipod.runtime import atomic


def test_a_reader_never_sees_half_of_an_update_in_a_thousand_swaps(tmp_path: Path) -> None:
    def write(number: int) -> None:
        file = File(str(number).encode(), 0o644)
        atomic.write(str(tmp_path), {"a": file, "sub/b": file})

    write(0)
    done = threading.Event()
    torn: list[Any] = []
    looks = 0

    def read() -> None:
        nonlocal looks
        while not done.is_set():
            try:
                fd = os.open(tmp_path / "..data", os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue  # the folder that the link named is gone by now
            try:
                pair = []
                for name in ("a", "sub/b"):
                    file = os.open(name, os.O_RDONLY, dir_fd=fd)
                    pair.append(os.read(file, 100))
                    os.close(file)
            except FileNotFoundError:
                continue  # replaced and removed meanwhile: seen as a whole or not at all
            finally:
                os.close(fd)
            looks += 1
            if pair[0] != pair[1]:
                torn.append(pair)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(1, 1001):
            write(number)
    finally:
        done.set()
        reader.join()
    assert torn == []
    assert looks > 100
    assert [(tmp_path / name).read_text() for name in ("a", "sub/b")] == ["1000", "1000"]
