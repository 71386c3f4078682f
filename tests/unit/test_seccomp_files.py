"""A Localhost profile's file: what is no profile is an error with a reason, at once, and never no filter (unit)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from minipod.errors import ContainerError
from minipod.paths import Paths
from minipod.plan.process.seccomp_profile import Profile
from minipod.runtime.seccomp import compiled_filter
from minipod.runtime.seccomp_compile import compile_profile

VALID = b'{"defaultAction": "SCMP_ACT_ALLOW"}'


def written(text: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(text)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "No such file or directory: localhostProfile is a path below"),
        (os.mkfifo, "is no regular file"),
        (os.mkdir, "is no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "is no regular file"),
        (lambda path: path.symlink_to("/dev/tty"), "is no regular file|No such device"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (written(b""), "Input data was truncated"),
        (written(b"{"), "Input data was truncated"),
        (written(b"null"), "Expected `object`, got `null`"),
        (written(b'{"x":' + b"[" * 100_000), "is nested too deeply"),
        (written(b'{"x":' * 100_000), "is nested too deeply"),
        (written(VALID + b" " * (1 << 20)), "is larger than 1 MiB"),
        (written(b'{"defaultAction": "SCMP_ACT_\xff"}'), "invalid|decode"),
    ],
    ids=["missing", "FIFO", "directory", "device", "terminal", "loop", "empty", "truncated", "null", "deep list",
         "deep object", "huge", "no UTF-8"],
)  # fmt: skip
def test_what_is_no_profile_is_an_error(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "profile.json"
    make(path)
    with pytest.raises(ContainerError, match=message) as caught:
        compiled_filter(str(path), frozenset(), Paths(str(tmp_path), str(tmp_path)))
    assert caught.value.reason == "CreateContainerError"
    assert str(path) in str(caught.value)


def test_the_file_is_closed_whatever_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = os.listdir("/proc/self/fd")
    for name in ("fifo", "missing", "."):
        with pytest.raises(ContainerError):
            compiled_filter(f"{tmp_path}/{name}", frozenset(), Paths(str(tmp_path), str(tmp_path)))
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_program_that_the_kernel_would_not_take_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minipod.runtime.seccomp_compile.shortened", lambda *_: bytes(8 * 4097))
    with pytest.raises(ValueError, match="4097 instructions; the kernel takes 4096: use fewer rules"):
        compile_profile(Profile(("X86_64",)))


def test_a_valid_profile_is_compiled_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(VALID)
    assert compiled_filter(str(path), frozenset(), Paths(str(tmp_path), str(tmp_path)))
