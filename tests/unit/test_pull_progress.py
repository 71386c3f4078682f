"""The bars of `minipod image pull`."""

from __future__ import annotations

import pytest

from minipod.cli.show.pull_progress import Bars, human_size
from minipod.runtime.images.ingest import LayerProgress


def layer(number: int, state: str, done: int = 0) -> LayerProgress:
    return LayerProgress(f"sha256:{number:064}", state, done, 100)


def test_each_layer_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars(80, 24)
    for progress in (layer(1, "exists"), layer(2, "downloading", 50), layer(3, "waiting")):
        bars(progress)
    bars.finish()
    assert [line.split()[1] for line in bars.lines()] == ["exists", "downloading", "waiting"]
    assert "[===============>              ] 50B/100B" in capsys.readouterr().err


def test_more_layers_than_the_screen_has_lines(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars(40, 5)
    for number in range(10):
        bars(layer(number, "done" if number < 7 else "waiting" if number == 7 else "unpacking"))
    bars.finish()
    assert [line.split()[1] for line in bars.lines()[:-1]] == ["unpacking", "unpacking", "waiting"]
    assert bars.lines()[-1] == "7 of 10 layers done"
    for line in capsys.readouterr().err.splitlines():
        assert len(line.removeprefix("\033[4F").removeprefix("\033[2K")) < 40


def test_a_terminal_without_a_size(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars(0, 0)
    bars(layer(1, "downloading", 1))
    bars.finish()
    assert "downloading" in capsys.readouterr().err


@pytest.mark.parametrize(("size", "text"), [(0, "0B"), (999, "999B"), (2_234_000, "2.23MB"), (149_287_172, "149MB")])
def test_sizes_as_docker_prints_them(size: int, text: str) -> None:
    assert human_size(size) == text
