"""`minipod serve` (layer 6): becomes the process of the Kubernetes API, in the foreground."""

from __future__ import annotations

import argparse
import os
import sys

from minipod.cli.options import paths_of
from minipod.errors import HostError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Serve the Kubernetes API of this host over HTTPS, for kubectl and client libraries: in the foreground, until "
        "Ctrl-C or SIGTERM. minipod kubeconfig prints what clients need."
    )
    parser.add_argument("--listen", default="127.0.0.1:6443", metavar="ADDRESS:PORT", help="where (127.0.0.1:6443)")
    parser.add_argument("--tls-san", action="append", default=[], metavar="NAME", help="another name of this server")
    parser.add_argument("--token-file", metavar="FILE", help='bearer tokens: token,user,uid,"group,group" a line')


def run(args: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        raise HostError("minipod serve needs root: sudo minipod serve")
    paths = paths_of(args)
    command = [sys.executable, "-P", "-m", "minipod.serve.api", "--run-dir", paths.root, "--data-dir", paths.state]
    command += ["--listen", args.listen]
    command += [part for name in args.tls_san for part in ("--tls-san", name)]
    command += ["--token-file", args.token_file] if args.token_file else []
    command += ["--config", args.config] if args.config else []
    sys.stdout.flush()
    os.execv(command[0], command)
