"""Replacing files (unit)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minipod.kernel.rename import replace


def test_a_file_takes_anothers_place_or_an_empty_one(tmp_path: Path) -> None:
    new, place = tmp_path / "new", tmp_path / "place"
    for text in ("first", "second", "third"):
        new.write_text(text)
        replace(str(new), str(place))
        assert (place.read_text(), os.listdir(tmp_path)) == (text, ["place"])


def test_what_is_not_there_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "place").write_text("old")
    with pytest.raises(FileNotFoundError):
        replace(str(tmp_path / "new"), str(tmp_path / "place"))
    assert (tmp_path / "place").read_text() == "old"
