"""`minipod plan` (layer 6): prints every kernel operation that `run` would do, in order; no root, no agent."""

from __future__ import annotations

import argparse
import json
import sys

from minipod.cli.files import read_files
from minipod.cli.options import paths_of
from minipod.cli.show.output import warn
from minipod.cli.values import TYPE_CHECKING
from minipod.errors import UsageError

if TYPE_CHECKING:
    from minipod.agent.manifests import ManifestObject


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print every kernel operation that run would do, in order, from the objects that run executes."
    parser.add_argument("files", nargs="*", metavar="FILE", help="manifests, YAML or JSON; - is stdin")
    parser.add_argument("-f", "--filename", action="append", default=[], metavar="FILE", help="the same as FILE")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="text or json")


def config_maps(objects: list[ManifestObject]) -> dict[str, dict[str, dict[str, str]]]:
    """{namespace: {name: data}} of the ConfigMaps in the manifest."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for manifest in objects:
        if manifest.kind == "ConfigMap":
            metadata = manifest.object.metadata
            found.setdefault(metadata.namespace, {})[metadata.name] = manifest.object.data
    return found


def run(args: argparse.Namespace) -> int:
    names = args.files + args.filename
    if not names:
        raise UsageError("plan: which manifest? use for example: minipod plan pod.yaml")
    texts = read_files(names)
    # the very path that a manifest takes in the agent
    from minipod.agent.manifests import Manifest, load
    from minipod.config import load_config
    from minipod.plan.render import as_data, as_text
    from minipod.runtime.preview import plan_pod

    manifests = load([Manifest(text["name"], text["text"]) for text in texts], args.namespace)
    for warning in manifests.warnings:
        warn(warning)
    config, paths = load_config(args.config), paths_of(args)
    known = config_maps(manifests.other_kinds)
    sections = [
        section for pod in manifests.pods for section in plan_pod(pod, paths, config, known.get(pod.metadata.namespace))
    ]
    if args.output == "json":
        print(json.dumps(as_data(sections), indent=2, ensure_ascii=False))
    else:
        sys.stdout.write(as_text(sections))
    return 0
