"""What became of objects that were changed (layer 6): `pod/web labeled`, or each object in the format asked for."""

from __future__ import annotations

import argparse

from minipod.api.kinds import Kind
from minipod.cli.manifest_options import DRY_RUN_WORDS, is_given
from minipod.cli.show import formats
from minipod.cli.values import Object
from minipod.errors import UsageError


def add_local(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--local", action="store_true", help="change what -f holds, ask no agent, print it")


def check_local(args: argparse.Namespace, words: list[str]) -> None:
    """Raises UsageError for what cannot be done without an agent."""
    if not args.local:
        return
    if args.dry_run == "server":
        raise UsageError("cannot specify --local and --dry-run=server - did you mean --dry-run=client?")
    if words:
        raise UsageError("can only use local files by -f pod.yaml or --filename=pod.json when --local=true is set")
    if not is_given(args):
        raise UsageError("one or more files must be specified as -f pod.yaml or --filename=pod.json")


class Results:
    """Prints one result after the other."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._output = formats.chosen(args, formats.RESULTS)
        allow = args.allow_missing_template_keys
        self._print = formats.printer(self._output, allow_missing=allow) if self._output else None
        self._suffix = DRY_RUN_WORDS[getattr(args, "dry_run", "none")]
        self._count = 0

    def show(self, kind: Kind, thing: Object, operation: str) -> None:
        """`operation`: what was done, in one word or two."""
        if self._output is None or self._print is None:
            print(f"{kind.singular}/{thing['metadata']['name']} {operation}{self._suffix}", flush=True)
            return
        if self._output == "yaml" and self._count:
            print("---")
        self._count += 1
        formats.writer(self._output)(self._print({"apiVersion": "v1", "kind": kind.name, **thing}, False))
