"""`minipod plan` (layer 6): prints every kernel operation that `run` would do, in order; no root, no agent."""

from __future__ import annotations

import argparse
import json
import sys

from minipod.cli.options import paths_of
from minipod.cli.run import read_files
from minipod.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print every kernel operation that run would do, in order, from the objects that run executes."
    parser.add_argument("files", nargs="*", metavar="FILE", help="manifests, YAML or JSON; - is stdin")
    parser.add_argument("-f", "--filename", action="append", default=[], metavar="FILE", help="the same as FILE")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="text or json")


def run(args: argparse.Namespace) -> int:
    names = args.files + args.filename
    if not names:
        raise UsageError("plan: which manifest? use for example: minipod plan pod.yaml")
    from minipod.agent.manifests import Manifest, load
    from minipod.config import load_config
    from minipod.plan.render import as_data, as_text
    from minipod.runtime.preview import plan_pod

    config, paths = load_config(args.config), paths_of(args)
    found = load([Manifest(file["name"], file["text"]) for file in read_files(names)], args.namespace)
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    sections = [section for pod in found.pods for section in plan_pod(pod, paths, config)]
    if args.output == "json":
        print(json.dumps(as_data(sections), indent=2, ensure_ascii=False))
    else:
        sys.stdout.write(as_text(sections))
    return 0
