"""inotify events as the kernel writes them."""

from __future__ import annotations

import select
import struct
from pathlib import Path

import pytest

from minipod.kernel import inotify

IN_Q_OVERFLOW = 0x4000


def test_events_of_a_folder_carry_the_entrys_name(tmp_path: Path) -> None:
    with inotify.Inotify() as watches:
        assert watches.read() == []
        wd = watches.add_watch(str(tmp_path), inotify.IN_CREATE | inotify.IN_MODIFY | inotify.IN_MOVED_TO)
        (tmp_path / "a").write_text("x")
        (tmp_path / "a").rename(tmp_path / "b")
        assert select.select([watches], [], [], 5)[0]
        events = watches.read()
    assert {event.wd for event in events} == {wd}
    assert [(event.name, event.mask) for event in events if event.mask != inotify.IN_MODIFY] == [
        ("a", inotify.IN_CREATE),
        ("b", inotify.IN_MOVED_TO),
    ]


def test_several_events_are_taken_apart() -> None:
    data = struct.pack("iIII8s", 1, 2, 3, 8, b"name") + struct.pack("iIII", -1, IN_Q_OVERFLOW, 0, 0)
    events = inotify.parse_events(data)
    assert [(event.wd, event.mask, event.cookie, event.name) for event in events] == [
        (1, 2, 3, "name"),
        (-1, IN_Q_OVERFLOW, 0, ""),
    ]


def test_a_watch_on_nothing_names_the_path() -> None:
    with inotify.Inotify() as watches, pytest.raises(FileNotFoundError, match="/nonexistent"):
        watches.add_watch("/nonexistent", inotify.IN_MODIFY)
