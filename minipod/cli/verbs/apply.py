"""`minipod apply` (layer 6): sends manifests to the agent, which creates what is not there and changes what differs."""

from __future__ import annotations

import argparse

from minipod.api.kinds import kind_named
from minipod.cli.client import Client
from minipod.cli.files import read_files
from minipod.cli.show.output import warn
from minipod.cli.values import Object
from minipod.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Create or change the objects of the manifests: pods, configmaps, secrets, claims, volumes, namespaces. "
        "Pods are left with the agent."
    )
    configure_files(parser)


def configure_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="manifests, YAML or JSON; - is stdin")
    parser.add_argument("-f", "--filename", action="append", default=[], metavar="FILE", help="the same as FILE")
    parser.add_argument("-o", "--output", choices=("name",), metavar="name", help="name: print only KIND/NAME")
    parser.add_argument(
        "--dry-run", choices=("none", "server"), default="none", metavar="MODE", help="server: change nothing"
    )


def run(args: argparse.Namespace) -> int:
    names = args.files + args.filename
    if not names:
        raise UsageError("apply: which manifest? use for example: minipod apply -f objects.yaml")
    return send(args, read_files(names), "apply")


def send(args: argparse.Namespace, files: list[dict[str, str]], mode: str, word: str = "") -> int:
    """Have the agent `apply`, `create` or `replace` what the files hold, and print what became of it.

    `word`: what a replacement is called.
    """
    message: Object = {
        "verb": "apply",
        "files": files,
        "namespace": args.namespace,
        "mode": mode,
        "dry_run": args.dry_run == "server",
    }
    with Client.of(args, mode).request(message) as request:
        while (event := request.next()) is not None:
            if event["event"] == "warning":
                warn(event["message"])
            elif event["event"] == "applied":
                event["result"] = word if word and event["result"] == "replaced" else event["result"]
                print(result_line(event, args.output, message["dry_run"]), flush=True)
    return 0


def result_line(event: Object, output: str | None, dry_run: bool = False) -> str:
    """`configmap/settings created`, in kubectl's words."""
    name = f"{kind_named(event['kind']).singular}/{event['name']}"
    if output == "name":
        return name
    return f"{name} {event['result']}" + (" (server dry run)" if dry_run else "")
