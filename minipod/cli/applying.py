"""Sends manifests to the agent's verb `apply` and prints what became of each object (layer 6)."""

from __future__ import annotations

import argparse

from minipod.api.kinds import kind_named
from minipod.cli.client import Client
from minipod.cli.manifest_options import DRY_RUN_WORDS
from minipod.cli.show import formats
from minipod.cli.show.output import warn
from minipod.cli.values import Object


class Results:
    """Prints the results of one command. `as_list`: several objects as one List, as `kubectl apply` does."""

    def __init__(self, args: argparse.Namespace, *, as_list: bool = False) -> None:
        self._output = formats.chosen(args, formats.RESULTS)
        allow_missing = args.allow_missing_template_keys
        self._show = formats.printer(self._output, allow_missing=allow_missing) if self._output else None
        self._suffix = DRY_RUN_WORDS[args.dry_run]
        self._as_list = as_list
        self._count = 0
        self._objects: list[Object] = []

    @property
    def wants_objects(self) -> bool:
        return self._output not in (None, "name")

    def show(self, event: Object) -> None:
        """An event of the agent."""
        name = f"{kind_named(event['kind']).singular}/{event['name']}" if "kind" in event else ""
        if event["event"] == "warning":
            warn(event["message"])
        elif event["event"] == "deleted" and self._output is None:
            where = f" from {event['namespace']} namespace" if event["namespace"] else ""
            print(f'{kind_named(event["kind"]).singular} "{event["name"]}" deleted{where}', flush=True)
        elif event["event"] != "applied":
            return
        elif self._output is None:
            print(f"{name} {event['result']}{self._suffix}", flush=True)
        elif self._output == "name":
            print(name, flush=True)
        elif event["result"] == "pruned":
            return
        elif self._as_list:
            self._objects.append(event["object"])
        else:
            self._print(event["object"])

    def finish(self) -> None:
        if len(self._objects) == 1:
            self._print(self._objects[0])
        elif self._objects:
            self._print({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": self._objects})

    def _print(self, thing: Object) -> None:
        output = self._output or ""
        if output == "yaml" and self._count:
            print("---")
        self._count += 1
        if self._show is not None:
            formats.writer(output)(self._show(thing, False))


def send(args: argparse.Namespace, files: list[Object], mode: str, results: Results, **more: object) -> None:
    """Have the agent `apply`, `create` or `replace` what the files hold. `more`: further fields of the request."""
    message: Object = {
        "verb": "apply",
        "files": files,
        "namespace": args.namespace,
        "mode": mode,
        "dry_run": args.dry_run != "none",
        "validation": args.validate,
        "objects": results.wants_objects,
        **more,
    }
    try:
        with Client.of(args, mode).request(message) as request:
            while (event := request.next()) is not None:
                results.show(event)
    finally:
        results.finish()


def show_here(args: argparse.Namespace, files: list[Object], results: Results, word: str, selector: str = "") -> None:
    """`--dry-run=client`: what would be sent, checked, without an agent. `word`: created or replaced."""
    from minipod.agent.manifests import Manifest, load

    texts = [Manifest(file["name"], file["text"], bool(file.get("made"))) for file in files]
    found = load(texts, args.namespace, pods=False, validation=args.validate, selector=selector)
    for warning in found.warnings:
        warn(warning)
    for manifest in found.objects:
        metadata = manifest.written["metadata"]
        name = metadata.get("name") or metadata.get("generateName")
        event = {"event": "applied", "kind": manifest.kind, "name": name, "result": word, "object": manifest.written}
        results.show(event)
    results.finish()
