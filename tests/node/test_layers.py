"""Files in layers that are not mounted: what overlayfs would show, and nothing of the host."""

from __future__ import annotations

import os
import random
import stat
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from minipod.kernel import mount as kmount
from minipod.kernel.layers import read_in_layers, read_in_root
from tests.patience import SLOWNESS

LIMIT = 100

pytestmark = pytest.mark.vm


def whiteout(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def opaque(path: Path) -> None:
    os.setxattr(path, "trusted.overlay.opaque", b"y")


def in_layers(layers: Sequence[Path], path: str = "/etc/passwd") -> str:
    """What is there, or the error's number."""
    try:
        return read_in_layers([str(layer) for layer in layers], path, LIMIT).decode()
    except OSError as error:
        return f"errno {error.errno}"


def in_root(root_fd: int, path: str = "/etc/passwd") -> str:
    try:
        return read_in_root(root_fd, path, LIMIT).decode()
    except OSError as error:
        return f"errno {error.errno}"


def make_tree(folder: Path, chance: random.Random, depth: int = 0) -> None:
    for name in ("a", "b", "c"):
        path = folder / name
        match chance.choice(("none", "none", "file", "folder", "folder", "link", "whiteout")):
            case "file":
                path.write_text(str(path))
            case "folder" if depth < 2:
                path.mkdir()
                make_tree(path, chance, depth + 1)
                if chance.random() < 0.3:
                    opaque(path)
            case "link":
                path.symlink_to(chance.choice(("a", "b/c", "../b", "/a/b", "../../../c", "./a/../b/./c", "/", "..")))
            case "whiteout":
                whiteout(path)


def test_every_stack_of_layers_is_seen_as_the_kernel_shows_it(tmp_path: Path) -> None:
    chance, paths = random.Random(4), [f"{x}/{y}/{z}" for x in "abc" for y in "abc" for z in "abc"]
    target, seen = tmp_path / "mounted", set()
    target.mkdir()
    for number in range(60):
        layers = [tmp_path / f"{number}.{layer}" for layer in range(3)]
        for layer in layers:
            layer.mkdir()
            make_tree(layer, chance)
        kmount.overlay_read_only(tuple(map(str, layers)), str(target), 0)
        root_fd = os.open(target, os.O_PATH | os.O_DIRECTORY)
        try:
            for path in (*paths, "a", "b/a", "c/../b", "/"):
                expected = in_root(root_fd, path)
                assert in_layers(layers, path) == expected, f"{path} in {layers}"
                seen.add(expected[:8])
        finally:
            os.close(root_fd)
            kmount.umount(str(target))
    assert {"errno 2", "errno 20", "errno 22", "errno 40"} < seen  # ENOENT, ENOTDIR, EINVAL, ELOOP; and files


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    (tmp_path / "layer" / "etc").mkdir(parents=True)
    return tmp_path / "layer"


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "socket"])
def test_what_is_no_regular_file_is_refused_without_waiting(layer: Path, kind: str) -> None:
    place = layer / "etc" / "passwd"
    match kind:
        case "fifo":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case "device":
            os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero has no end
        case "socket":
            os.mknod(place, stat.S_IFSOCK | 0o666)
    root_fd = os.open(layer, os.O_PATH)
    assert in_layers([layer]) == in_root(root_fd) == "errno 22"
    os.close(root_fd)


def test_a_file_beyond_the_limit_is_refused_and_not_cut_off(layer: Path) -> None:
    place = layer / "etc" / "passwd"
    place.write_text("x" * LIMIT)
    assert in_layers([layer]) == "x" * LIMIT
    place.write_text("x" * (LIMIT + 1))
    assert in_layers([layer]) == "errno 27"
    os.truncate(place, 5 << 30)
    assert in_layers([layer]) == "errno 27"


@pytest.mark.parametrize(
    "target", ["{}", "../../../../../../../../{}", "/proc/self/environ", "../../../../proc/self/environ"]
)
def test_a_link_leads_nowhere_out_of_the_layers(layer: Path, tmp_path: Path, target: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (layer / "etc" / "passwd").symlink_to(target.format(str(secret).lstrip("/") if "/{}" in target else secret))
    assert in_layers([layer]) == "errno 2"
    inside = layer / str(secret).lstrip("/")
    inside.parent.mkdir(parents=True)
    inside.write_text("inside")
    assert in_layers([layer]) == ("inside" if "{}" in target else "errno 2")


def test_a_mount_of_the_host_in_a_folder_is_not_read(layer: Path) -> None:
    (layer / "etc" / "passwd").write_text("below")
    kmount.mount("tmpfs", str(layer / "etc"), "tmpfs", 0, "size=64k")
    try:
        (layer / "etc" / "passwd").write_text("over it")
        assert in_layers([layer]) == "errno 18"
    finally:
        kmount.umount(str(layer / "etc"))


def test_links_that_lead_along_thousands_of_names_through_hundreds_of_layers_cost_no_time(
    layer: Path, tmp_path: Path
) -> None:
    layers = []
    for number in range(300):
        layers.append(tmp_path / str(number))
        (layers[-1] / "d").mkdir(parents=True)
    for number in range(40):
        (layer / "etc" / f"l{number}").symlink_to("../d/" + "../d/" * 700 + f"../etc/l{number + 1}")
    (layer / "etc" / "passwd").symlink_to("l0")
    began = time.monotonic()
    assert in_layers([*layers, layer]) == "errno 40"
    assert time.monotonic() - began < 2 * SLOWNESS
