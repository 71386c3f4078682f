"""`minipod agent` (layer 6): becomes the node agent, in the foreground (for systemd), or stops and starts its pods."""

from __future__ import annotations

import argparse
import os
import sys

from minipod.cli.client import Client
from minipod.cli.options import paths_of
from minipod.errors import HostError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run the node agent in the foreground; otherwise it starts and exits by itself. stop-pods ends the containers "
        "of all pods, each with its grace period, and returns when none runs; the pods stay. They run again after "
        "start-pods and after the next boot of the host."
    )
    parser.add_argument("action", nargs="?", choices=("stop-pods", "start-pods"), help="what to do instead")
    parser.add_argument("--grace-period", type=int, metavar="S", help="stop-pods: no container gets more seconds")


def run(args: argparse.Namespace) -> int:
    if args.grace_period is not None and (args.action != "stop-pods" or args.grace_period < 0):
        raise UsageError("--grace-period is for stop-pods, in seconds from 0")
    if args.action == "stop-pods":
        return _stop_pods(Client.of(args, "agent"), args.grace_period)
    if args.action == "start-pods":
        Client.of(args, "agent").call({"verb": "resume"})
        return 0
    return _become_agent(args)


def _stop_pods(client: Client, grace_period: int | None) -> int:
    request = client.request_if_pods({"verb": "halt", "grace_period": grace_period})
    if request is None:
        return 0
    with request:
        while request.next() is not None:
            pass
        for pod in (request.result or {}).get("stopped", ()):
            print(f"pod/{pod} stopped")
    return 0


def _become_agent(args: argparse.Namespace) -> int:
    from minipod.cli.start import agent_command, agent_environment
    from minipod.kernel.sd_notify import VARIABLES

    if os.geteuid() != 0:
        raise HostError("minipod agent needs root: sudo minipod agent")
    command = agent_command(paths_of(args), args.config)
    service = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    sys.stdout.flush()
    os.execve(command[0], command, agent_environment() | service)
