"""`python -m minipod` (layer 6): the command line without an installed entry point."""

from __future__ import annotations

import resource
import sys

# Python does not notice that a file was cut off: it would be all that later starts find of a module.
if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
    sys.dont_write_bytecode = True

from minipod.cli.main import entry

if __name__ == "__main__":
    entry()
