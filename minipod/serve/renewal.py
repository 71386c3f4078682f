"""An agent whose event loop finds no memory begins anew (layer 7): as after a kill -9, the next one takes over.

What fails in a request or in a thread is reported, and tried again. What fails in the loop itself leaves events
unhandled that nothing comes back to; only the next agent compares what is stored with what runs.
"""

from __future__ import annotations

import os
from typing import NoReturn

from minipod.cli.start import agent_command
from minipod.serve.options import Options

_STATUS = 3


class Renewal:
    """Made while there is memory. `is_service`: a service manager starts the next agent."""

    def __init__(self, options: Options, is_service: bool) -> None:
        more = ("--auto",) if options.auto else ()
        self._command = agent_command(options.paths, options.config, *more)
        self._environment = dict(os.environ)
        self._is_service = is_service

    def begin(self) -> NoReturn:
        """Locks and connections close with this program; containers, output and state are not in it."""
        try:
            if not self._is_service:
                os.execve(self._command[0], self._command, self._environment)
        finally:
            os._exit(_STATUS)
