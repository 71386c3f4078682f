"""How far a pull is (layer 6): a bar for each layer on a terminal, elsewhere a line now and then. Fetches nothing."""

from __future__ import annotations

import os
import sys
import threading
import time

from minipod.cli.show.output import write_painted
from minipod.cli.values import TYPE_CHECKING
from minipod.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minipod.runtime.images.ingest import LayerProgress


REDRAW_S = 0.1
FIRST_LINE_S, LINE_S = 5.0, 10.0
BAR = 30
ENDED = ("exists", "done")
UNITS = ("B", "kB", "MB", "GB", "TB")


class Layer:
    """A layer's progress as an agent reports it, with `LayerProgress`'s fields."""

    def __init__(self, digest: str, state: str, done_bytes: int, total_bytes: int) -> None:
        self.digest = digest
        self.state = state
        self.done_bytes = done_bytes
        self.total_bytes = total_bytes


class Lines:
    """Off a terminal: `say` gets a line after a few seconds, then each ten seconds, also from several threads."""

    def __init__(self, name: str, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._say = say
        self._clock = clock
        self._next = clock() + FIRST_LINE_S
        self._layers: dict[str, Layer | LayerProgress] = {}
        self._lock = threading.Lock()

    def __call__(self, progress: Layer | LayerProgress) -> None:
        with self._lock:
            self._layers[progress.digest] = progress
            if self._clock() >= self._next:
                self._next = self._clock() + LINE_S
                self._say(f"pulling {self._name}: {summary(list(self._layers.values()))}")

    def finish(self) -> None:
        """The caller says what came of it."""


def summary(layers: list[Layer | LayerProgress]) -> str:
    """`12.3MB of 45.6MB, 2 of 7 layers done`"""
    total = sum(layer.total_bytes for layer in layers)
    done = sum(layer.total_bytes if layer.state in ENDED else layer.done_bytes for layer in layers)
    ended = sum(layer.state in ENDED for layer in layers)
    return f"{human_size(done)} of {human_size(total)}, {ended} of {len(layers)} layers done"


class Pulls:
    """All pulls of one `run`, as the agent reports them. `say` prints a line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._bars = Bars(*os.get_terminal_size(2)) if os.isatty(2) else None
        self._lines: dict[str, Lines] = {}

    def show(self, key: str, image: str, layers: list[list[Any]]) -> None:
        """`key`: the container's. `layers`: digest, state, bytes done, bytes in all."""
        show: Bars | Lines | None = self._bars
        if show is None:
            show = self._lines.setdefault(key, Lines(image, self._say))
        for layer in layers:
            show(Layer(*layer))

    def ended(self, key: str) -> None:
        self._lines.pop(key, None)
        if self._bars is not None:
            self._bars.forget()

    def erase(self) -> None:
        if self._bars is not None:
            self._bars.erase()


class Bars:
    """Called from several threads; `finish` leaves the last state on the screen, `erase` nothing."""

    def __init__(self, width: int, height: int) -> None:
        self._width = (width or 80) - 1  # a pty may have no size
        self._room = max(2, (height or 24) - 1)  # the cursor cannot go back to what has left the screen
        self._layers: dict[str, Layer | LayerProgress] = {}
        self._began: dict[str, float] = {}
        self._drawn_lines = 0
        self._drawn_at = 0.0
        self._lock = threading.Lock()

    def __call__(self, progress: Layer | LayerProgress) -> None:
        with self._lock:
            self._layers[progress.digest] = progress
            now = time.monotonic()
            if progress.state == "downloading":
                self._began.setdefault(progress.digest, now)
            if now - self._drawn_at >= REDRAW_S:
                self._drawn_at = now
                self._draw()

    def finish(self) -> None:
        with self._lock:
            self._draw()

    def forget(self) -> None:
        """A pull has ended: those that have not say again how far they are."""
        self.erase()
        with self._lock:
            self._layers.clear()

    def erase(self) -> None:
        """Something else is to be printed: the next change draws them again, below it."""
        with self._lock:
            if self._drawn_lines:
                write_painted(f"\033[{self._drawn_lines}F\033[J", 2)
                sys.stderr.flush()
                self._drawn_lines = 0

    def _draw(self) -> None:
        up = f"\033[{self._drawn_lines}F" if self._drawn_lines else ""
        lines = [one_line(line)[: self._width] for line in self.lines()]
        write_painted(up + "".join(f"\033[2K{line}\n" for line in lines), 2)
        sys.stderr.flush()
        self._drawn_lines = len(lines)

    def lines(self) -> list[str]:
        """One for each layer; of more than there is room for those that move, and how many are done."""
        layers = list(self._layers.values())
        if len(layers) <= self._room:
            return [self.line(layer) for layer in layers]
        done = [layer for layer in layers if layer.state in ENDED]
        moving = sorted(
            (layer for layer in layers if layer.state not in ENDED), key=lambda layer: layer.state == "waiting"
        )
        shown = (moving + done[::-1])[: self._room - 1]
        return [*map(self.line, shown), f"{len(done)} of {len(layers)} layers done"]

    def line(self, layer: Layer | LayerProgress) -> str:
        """`0123456789ab  downloading  [=====>     ] 12.3MB/45.6MB`"""
        short = layer.digest.removeprefix("sha256:")[:12]
        total = human_size(layer.total_bytes)
        if layer.state != "downloading":
            return f"{short}  {layer.state:<11}  {total if layer.state != 'waiting' else ''}".rstrip()
        filled = BAR * layer.done_bytes // max(1, layer.total_bytes)
        bar = ("=" * filled + ">")[:BAR].ljust(BAR)
        elapsed = time.monotonic() - self._began.get(layer.digest, 0)
        speed = f"  {human_size(int(layer.done_bytes / elapsed))}/s" if elapsed > 1 else ""
        return f"{short}  {layer.state:<11}  [{bar}] {human_size(layer.done_bytes)}/{total}{speed}"


def human_size(size_bytes: int) -> str:
    """Decimal units with three significant figures, as docker and crictl print them: 2.23MB."""
    value, unit = float(size_bytes), 0
    while value >= 1000 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g}{UNITS[unit]}"
