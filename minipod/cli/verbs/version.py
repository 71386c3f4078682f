"""`minipod version` (layer 6): the versions of the client and of the agent that runs."""

from __future__ import annotations

import argparse

from minipod import __version__
from minipod.cli.client import Client
from minipod.errors import MinipodError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print the versions of client and agent."
    parser.add_argument("--client", action="store_true", help="only the client's")
    parser.add_argument("-o", "--output", metavar="FORMAT", help="yaml or json")


def run(args: argparse.Namespace) -> int:
    if args.output not in (None, "json", "yaml"):
        raise UsageError("--output must be 'yaml' or 'json'")
    found: dict[str, str] = {"clientVersion": __version__}
    if not args.client:
        found["agentVersion"] = agent_version(args)
    if args.output:
        from minipod.cli.show.formats import printer

        print(printer(args.output)(found, False), end="")
        return 0
    print(f"Client Version: {__version__}")
    if not args.client:
        print(f"Agent Version: {found['agentVersion']}")
    return 0


def agent_version(args: argparse.Namespace) -> str:
    """The running agent's answer; none is started for this."""
    client = Client.of(args, "version")
    try:
        channel = client.try_connect()
        if channel is None:
            return "<not running>"
        channel.close()
        _, result = client.call({"verb": "status"})
    except MinipodError as error:
        return f"<unknown: {error}>"
    return str(result.get("version", "<unknown>"))
