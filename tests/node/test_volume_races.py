"""Volumes while somebody works against them: links swapped in for folders, readers in the middle of an update."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import ContainerError
from minipod.plan.volumes.configuration import File
from minipod.plan.volumes.sub_path import MakeSubPath, open_source
from minipod.runtime import atomic


@pytest.mark.attack(row=23)
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
                path = "sub" if number % 2 else "sub/below"
                MakeSubPath(volume="v", container="c", source=str(volume), sub_path=path).execute()
                fd = open_source(str(volume), path)
            except (OSError, ContainerError):
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
