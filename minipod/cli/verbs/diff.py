"""`minipod diff` (layer 6): what `apply` would change, by diff or the program in KUBECTL_EXTERNAL_DIFF.

The agent applies the manifests in a dry run and sends whole objects; the program compares two directories of them.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import tempfile

from minipod.api.kinds import kind_named
from minipod.cli.client import Client
from minipod.cli.fetching import fetch
from minipod.cli.manifest_options import add_filename, add_validate, texts_of
from minipod.cli.show.output import flush, warn
from minipod.cli.show.yamlout import to_yaml
from minipod.cli.trouble import problem
from minipod.cli.values import Object
from minipod.errors import WRONG, MinipodError, NotFoundError, UsageError

MASKED = "***"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show what apply would change: exit status 0 nothing, 1 something, more: it could not be found out. "
        "KUBECTL_EXTERNAL_DIFF is the program (diff -u -N), with arguments of letters, digits and dashes."
    )
    add_filename(parser, "manifests, YAML or JSON; - is stdin")
    parser.add_argument("-l", "--selector", metavar="KEY=VALUE,…", help="of the objects in the files those with labels")
    parser.add_argument("--show-secrets", action="store_true", help="print the values of secrets")
    add_validate(parser)


def run(args: argparse.Namespace) -> int:
    try:
        pairs = [(now, then) for then in merged(args) for now in [stored(args, then)]]
        return compared(pairs, show_secrets=args.show_secrets)
    except MinipodError as error:
        error.exit_status = max(error.exit_status, WRONG)  # 1 means that there are differences
        raise


def merged(args: argparse.Namespace) -> list[Object]:
    """The objects as apply would leave them. Raises what apply would."""
    found: list[Object] = []
    message: Object = {
        "verb": "apply",
        "files": texts_of(args, "diff"),
        "namespace": args.namespace,
        "mode": "apply",
        "dry_run": True,
        "validation": args.validate,
        "selector": args.selector or "",
        "objects": True,
    }
    with Client.of(args, "diff").request(message) as request:
        while (event := request.next()) is not None:
            if event["event"] == "warning":
                warn(event["message"])
            elif event["event"] == "applied":
                found.append({"apiVersion": "v1", "kind": event["kind"], **event["object"]})
    return found


def stored(args: argparse.Namespace, thing: Object) -> Object | None:
    """The object as it is; None where there is none."""
    kind, metadata = kind_named(thing["kind"]), thing["metadata"]
    place = {"kind": kind.plural, "namespace": metadata.get("namespace") or "default", "name": metadata["name"]}
    try:
        (found,) = fetch(args, {"verb": "get", **place, "output": "object"})
    except NotFoundError:
        return None
    return {"apiVersion": "v1", "kind": kind.name, **found}


def compared(pairs: list[tuple[Object | None, Object]], *, show_secrets: bool) -> int:
    """Runs the program over both versions of each object; its exit status. Raises UsageError."""
    command = program()
    with tempfile.TemporaryDirectory(prefix="minipod-diff-") as folder:
        sides = [f"{folder}/LIVE", f"{folder}/MERGED"]
        for side in sides:
            os.mkdir(side)
        for before, after in pairs:
            if not show_secrets and after["kind"] == "Secret":
                before, after = masked(before, after)
            for side, thing in zip(sides, (before, after), strict=True):
                if thing is not None:
                    with open(f"{side}/{file_name(thing)}", "w", encoding="utf-8") as file:
                        file.write(to_yaml(thing))
        flush(1)
        try:
            return subprocess.run([*command, *sides], check=False).returncode
        except OSError as error:
            remedy = "install diffutils, or set KUBECTL_EXTERNAL_DIFF"
            raise UsageError(f"{problem(error, command[0])}: {remedy}") from None


def program() -> list[str]:
    """As kubectl: of the arguments in the variable only those of letters, digits, dashes and equals signs count."""
    words = shlex.split(os.environ.get("KUBECTL_EXTERNAL_DIFF", ""))
    if not words:
        return ["diff", "-u", "-N"]
    return [words[0], *(word for word in words[1:] if all(char.isalnum() or char in "-=" for char in word))]


def file_name(thing: Object) -> str:
    metadata = thing["metadata"]
    return ".".join(["v1", thing["kind"], metadata.get("namespace", ""), metadata["name"]])


def masked(before: Object | None, after: Object) -> tuple[Object | None, Object]:
    """Values that are the same on both sides become ***, others say which side they are of."""
    old, new = (before or {}).get("data") or {}, after.get("data") or {}

    def shown(values: Object, other: Object, side: str) -> Object:
        return {
            key: MASKED if key not in other or values[key] == other[key] else f"{MASKED} ({side})" for key in values
        }

    then = {**after, "data": shown(new, old, "after")} if new else after
    now = {**before, "data": shown(old, new, "before")} if before and old else before
    return now, then
