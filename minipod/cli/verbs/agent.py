"""`minipod agent` (layer 6): becomes the node agent, in the foreground (for systemd)."""

from __future__ import annotations

import argparse
import os
import sys

from minipod.cli.options import paths_of
from minipod.errors import HostError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run the node agent in the foreground; otherwise it starts and exits by itself."


def run(args: argparse.Namespace) -> int:
    from minipod.cli.start import agent_command, agent_environment
    from minipod.kernel.sd_notify import VARIABLES

    if os.geteuid() != 0:
        raise HostError("minipod agent needs root: sudo minipod agent")
    command = agent_command(paths_of(args), args.config)
    sys.stdout.flush()
    service = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    os.execve(command[0], command, agent_environment() | service)
