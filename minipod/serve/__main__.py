"""`python -m minipod.serve` (layer 7): what the command line starts in the background."""

from __future__ import annotations

import sys

from minipod.serve.main import main

if __name__ == "__main__":
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # as in cli.main.entry
    sys.exit(main(sys.argv[1:]))
