"""`python -m minipod` (layer 6): the command line without an installed entry point."""

from __future__ import annotations

from minipod.cli.main import entry

if __name__ == "__main__":
    entry()
