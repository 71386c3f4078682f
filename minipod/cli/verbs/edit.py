"""`minipod edit` (layer 6): an object as YAML in the user's editor, and what came back to the agent."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

from minipod.api.kinds import POD
from minipod.cli.client import Client
from minipod.cli.fetching import fetch
from minipod.cli.manifests import parsed
from minipod.cli.options import namespace_of
from minipod.cli.resources import resources
from minipod.cli.show.yamlout import to_yaml
from minipod.cli.trouble import problem
from minipod.cli.values import Object
from minipod.cli.wanted import Found
from minipod.errors import ManifestError, MinipodError, NotFoundError, UsageError

_HEAD = """# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Edit an object in $EDITOR (vi): a configmap, secret, claim, volume, or a pod."
    parser.add_argument("words", nargs="*", metavar="KIND NAME", help="KIND NAME or KIND/NAME")
    parser.set_defaults(output=None, dry_run="none")


def run(args: argparse.Namespace) -> int:
    found = resources(args.words, "edit")
    if len(found) != 1 or len(found[0][1]) != 1:
        raise UsageError("edit: one object at a time: minipod edit KIND NAME")
    kind, (name,) = found[0]
    namespace = namespace_of(args)
    listing: Object = {"verb": "get", "kind": kind.plural, "namespace": namespace, "name": name, "output": "object"}
    objects = fetch(args, listing)
    if not objects:
        raise NotFoundError(f'{kind.plural} "{name}" not found')
    original = {key: value for key, value in objects[0].items() if key != "status"}
    before = to_yaml(original)
    text, head = before, _HEAD
    while True:
        edited = _without_comments(edit_text(head + text))
        if not edited.strip() or edited == before:
            print("Edit cancelled, no changes made.")
            return 0
        if edited == text and head != _HEAD:
            keep(edited)
            raise UsageError("Edit cancelled, no valid changes were saved.")
        try:
            message = {"verb": "edit", "target": Found(kind, original).target(), "original": original}
            Client.of(args, "edit").call({**message, "edited": parsed(edited, f"{kind.singular}/{name}")})
            print(f"{kind.singular}/{name} edited")
            return 0
        except MinipodError as error:
            if not sys.stdin.isatty():
                path = keep(edited)
                if kind is POD and "Forbidden" in str(error):
                    again = f"to end this pod and start the edited one: minipod replace --force -f {path}"
                    raise ManifestError(f"{error}; {again}", getattr(error, "errors", None)) from None
                raise
            text, head = edited, _HEAD + "".join(f"# {line}\n" for line in str(error).split("\n")) + "#\n"


def keep(text: str) -> str:
    """Stores the changes that could not be made where only the user can read them. The path, which is printed."""
    fd, path = tempfile.mkstemp(prefix="minipod-edit-", suffix=".yaml")
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)
    print(f'A copy of your changes has been stored to "{path}"', file=sys.stderr)
    return path


def _without_comments(text: str) -> str:
    lines = text.split("\n")
    while lines and (not lines[0].strip() or lines[0].startswith("#")):
        del lines[0]
    return "\n".join(lines)


def edit_text(text: str) -> str:
    """What the editor made of it. The file is the user's alone: it may hold a secret. Raises UsageError."""
    import shlex
    import subprocess

    editor = os.environ.get("KUBE_EDITOR") or os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.NamedTemporaryFile("w+", prefix="minipod-edit-", suffix=".yaml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        try:
            status = subprocess.run([*shlex.split(editor), file.name], check=False).returncode
        except OSError as error:
            raise UsageError(f"{problem(error, f'editor {editor}')}: set EDITOR") from None
        if status:
            raise UsageError(f"editor {editor}: ended with exit status {status}; nothing was changed")
        with open(file.name, encoding="utf-8") as changed:  # by its name: many editors rename a new file there
            return changed.read()
