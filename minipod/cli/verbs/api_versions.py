"""`minipod api-versions` (layer 6): v1, the only one."""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "List the versions of the API: v1."


def run(_args: argparse.Namespace) -> int:
    print("v1")
    return 0
