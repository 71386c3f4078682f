"""`minipod attach` (layer 6): this terminal, or our standard streams, at a container that runs. Starts nothing."""

from __future__ import annotations

import argparse

from minipod.cli.attaching import attach
from minipod.cli.client import Client
from minipod.cli.options import namespace_of, one_pod
from minipod.cli.pods import check_container, default_container, get_pod
from minipod.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Attach to a running container: see its output, type its input."
    parser.usage = "minipod attach POD [-c CONTAINER] [-i] [-t]"
    parser.add_argument("words", nargs="*", metavar="POD", help="the pod: NAME or pod/NAME")
    parser.add_argument("-c", "--container", metavar="C", help="the container; default: the annotated or first one")
    parser.add_argument("-i", "--stdin", action="store_true", help="pass standard input to the container")
    parser.add_argument("-t", "--tty", action="store_true", help="standard input is a terminal")
    parser.add_argument("-q", "--quiet", action="store_true", help="print only what the container prints")


def run(args: argparse.Namespace) -> int:
    if len(args.words) != 1:
        raise UsageError("attach: give one pod: minipod attach POD -it")
    client, name = Client.of(args, "attach"), one_pod(args.words[0])
    pod = get_pod(client, namespace_of(args), name)
    container = args.container or default_container(pod, notify=not args.quiet)
    return attach(client, namespace_of(args), name, check_container(pod, container), args.stdin, quiet=args.quiet)
