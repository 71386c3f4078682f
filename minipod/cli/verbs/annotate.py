"""`minipod annotate` (layer 6): `label` for annotations."""

from __future__ import annotations

import argparse

from minipod.cli.verbs.label import change, configure_words


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Set and take away annotations: KEY=VALUE sets one, KEY- takes it away."
    configure_words(parser)


def run(args: argparse.Namespace) -> int:
    return change(args, "annotate", "annotations")
