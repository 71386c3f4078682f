"""Colours for a terminal (layer 6): none where the output is no terminal or NO_COLOR is set."""

from __future__ import annotations

import os

from minipod.terminal import escaped

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


class Style:
    """Paints text for one descriptor."""

    def __init__(self, fd: int) -> None:
        dumb = os.environ.get("TERM", "dumb") == "dumb"
        self.enabled = os.isatty(fd) and not os.environ.get("NO_COLOR") and not dumb

    def paint(self, text: str, *codes: int) -> str:
        if not self.enabled:
            return escaped(text)
        return f"\x1b[{';'.join(map(str, codes))}m{escaped(text)}\x1b[0m"

    def container(self, text: str, index: int) -> str:
        """The colour of the container with this index."""
        return self.paint(text, _COLOURS[index % len(_COLOURS)])

    def dim(self, text: str) -> str:
        return self.paint(text, 2)

    def good(self, text: str) -> str:
        return self.paint(text, 32)

    def bad(self, text: str) -> str:
        return self.paint(text, 31)
