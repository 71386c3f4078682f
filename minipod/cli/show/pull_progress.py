"""The bars of `minipod image pull` (layer 6): a line for each layer on a terminal. Fetches nothing."""

from __future__ import annotations

import sys
import threading
import time

from minipod.cli.show.output import write_painted
from minipod.cli.values import TYPE_CHECKING
from minipod.terminal import one_line

if TYPE_CHECKING:
    from minipod.runtime.images.ingest import LayerProgress

REDRAW_S = 0.1
BAR = 30
ENDED = ("exists", "done")
UNITS = ("B", "kB", "MB", "GB", "TB")


class Bars:
    """Called from several threads; `finish` leaves the last state on the screen."""

    def __init__(self, width: int, height: int) -> None:
        self._width = (width or 80) - 1  # a pty may have no size
        self._room = max(2, (height or 24) - 1)  # the cursor cannot go back to what has left the screen
        self._layers: dict[str, LayerProgress] = {}
        self._began: dict[str, float] = {}
        self._drawn_lines = 0
        self._drawn_at = 0.0
        self._lock = threading.Lock()

    def __call__(self, progress: LayerProgress) -> None:
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

    def line(self, layer: LayerProgress) -> str:
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
