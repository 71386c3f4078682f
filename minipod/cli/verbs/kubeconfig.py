"""`minipod kubeconfig` (layer 6): what kubectl and client libraries need to reach `minipod serve`."""

from __future__ import annotations

import argparse
import os
import sys

from minipod.cli.options import paths_of
from minipod.errors import HostError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print a kubeconfig for minipod serve, with a client certificate that may do everything, or with that of "
        "another user. export KUBECONFIG=$(minipod kubeconfig --path) is enough for kubectl."
    )
    parser.add_argument("--path", action="store_true", help="write it into the data directory, print its path only")
    parser.add_argument("--server", default="https://127.0.0.1:6443", metavar="URL", help="where minipod serve listens")
    parser.add_argument("--user", metavar="NAME", help="of another user than the administrator")
    parser.add_argument("--group", action="append", default=[], metavar="G", help="with --user: a group of the user")


def run(args: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        raise HostError("minipod kubeconfig needs root: sudo minipod kubeconfig")
    if args.user is not None and (not args.user or "/" in args.user):
        raise UsageError("kubeconfig: --user needs a name without /")
    if args.group and args.user is None:
        raise UsageError("kubeconfig: --group goes with --user")
    command = [sys.executable, "-P", "-m", "minipod.serve.kubeconfig", "--data-dir", paths_of(args).state]
    command += ["--server", args.server, *(["--path"] if args.path else [])]
    if args.user is not None:
        command += ["--user", args.user, *(part for group in args.group for part in ("--group", group))]
    sys.stdout.flush()
    os.execv(command[0], command)
