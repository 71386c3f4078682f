"""Files in folders that others can write to: no link, no FIFO, no way up (unit)."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from minipod.kernel.regular import make_regular, open_regular, opened_folder
from tests.leaks import descriptors


def contents(folder: Path, own: int, name: str) -> bytes:
    with opened_folder(str(folder), own) as folder_fd, open(open_regular(name, 0, folder_fd, name), "rb") as file:
        return file.read()


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "f").write_bytes(b"text")
    assert contents(tmp_path / "a" / "b", 2, "f") == b"text"


@pytest.mark.parametrize("linked", ["pods", "pods/pod", "pods/pod/c"])
def test_none_of_the_last_folders_may_be_a_link(tmp_path: Path, linked: str) -> None:
    """The one above them may: a system's administrator decides where /var/log is."""
    real = tmp_path / "real"
    (real / "pods" / "pod" / "c").mkdir(parents=True)
    (real / "pods" / "pod" / "c" / "f").write_bytes(b"secret")
    (tmp_path / "log").symlink_to(real)
    assert contents(tmp_path / "log" / "pods" / "pod" / "c", 3, "f") == b"secret"
    os.rename(real / linked, real / "elsewhere")
    (real / linked).symlink_to(real / "elsewhere")
    for make in (False, True):
        with (
            pytest.raises(OSError, match="is a link or no directory, which is not followed"),
            opened_folder(str(tmp_path / "log" / "pods" / "pod" / "c"), 3, make=make),
        ):
            pass


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../f", "/etc/passwd"])
def test_a_name_is_a_name(tmp_path: Path, name: str) -> None:
    with opened_folder(str(tmp_path), 0) as folder_fd, pytest.raises(OSError, match="is no file's name"):
        open_regular(name, 0, folder_fd, name)


def test_a_path_does_not_lead_up(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="is no directory of the path"), opened_folder(f"{tmp_path}/a/../b", 3, make=True):
        pass


def test_links_pipes_sockets_and_folders_are_refused_without_being_opened(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening, opened_folder(str(tmp_path), 1) as folder_fd:
        listening.bind(str(tmp_path / "socket"))
        before = descriptors()
        for name in ("link", "dangling", "fifo", "folder", "socket"):
            for flags in (os.O_RDONLY, os.O_WRONLY):
                with pytest.raises(OSError, match=f"{name}'"):
                    open_regular(name, flags, folder_fd, str(tmp_path / name))
                with pytest.raises(OSError, match=f"{name}'"):
                    make_regular(name, flags, 0o640, folder_fd, str(tmp_path / name))
        assert descriptors() == before
    assert not (tmp_path / "none").exists()


def test_what_is_missing_is_made(tmp_path: Path) -> None:
    with opened_folder(f"{tmp_path}/a/b/c", 3, make=True) as folder_fd:
        for text in (b"one", b"two"):
            fd = make_regular("f", os.O_WRONLY | os.O_APPEND, 0o640, folder_fd, "f")
            assert not os.get_inheritable(fd)
            os.write(fd, text)
            os.close(fd)
    assert (tmp_path / "a" / "b" / "c" / "f").read_bytes() == b"onetwo"
