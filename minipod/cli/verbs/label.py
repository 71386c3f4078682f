"""`minipod label` (layer 6), and what `annotate` shares with it: setting and removing keys, as kubectl does."""

from __future__ import annotations

import argparse

from minipod.api.kinds import Kind
from minipod.cli.client import Client
from minipod.cli.options import namespace_of
from minipod.cli.resources import resources
from minipod.cli.values import Object
from minipod.cli.verbs.get import fetch
from minipod.errors import NotFoundError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Set and take away labels: KEY=VALUE sets one, KEY- takes it away. Selectors see it at once."
    configure_words(parser)


def configure_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="*", metavar="KIND NAME… KEY=VALUE KEY-", help="which objects, and what becomes of their keys"
    )
    parser.add_argument("--overwrite", action="store_true", help="change what has another value")
    parser.add_argument(
        "--resource-version", default="", metavar="VERSION", help="change it only while it has this resourceVersion"
    )
    parser.add_argument("--all", action="store_true", help="every object of the kind in the namespace")
    parser.add_argument("-l", "--selector", metavar="KEY=VALUE,…", help="the objects with these labels")
    parser.add_argument("--list", action="store_true", help="print what the objects have then")
    parser.set_defaults(output=None, dry_run="none")


def run(args: argparse.Namespace) -> int:
    return change(args, "label", "labels")


def change(args: argparse.Namespace, verb: str, field: str) -> int:
    """Every object in turn; the first that cannot be changed ends it."""
    words, new, gone = split(args.words, verb)
    if not (new or gone or args.list):
        raise UsageError(f"at least one {verb} update is required: KEY=VALUE or KEY-")
    found = chosen(args, words, verb)
    if not found:
        print("No resources found")
    for kind, item in found:
        before = after = item["metadata"].get(field) or {}
        name = f"{kind.singular}/{item['metadata']['name']}"
        if new or gone:
            message: Object = {
                "verb": verb,
                "target": target_of(kind, item, args.resource_version),
                "field": field,
                "set": new,
                "remove": gone,
                "overwrite": args.overwrite,
            }
            _, answer = Client.of(args, verb).call(message)
            before, after = answer["before"], answer["after"]
            for key in gone:
                if key not in before:
                    print(f'{field.removesuffix("s")} "{key}" not found.')
        if args.list:
            print(f"Listing {field} for {kind.singular}.v1/{item['metadata']['name']}:")
            print("".join(f" {key}={value}\n" for key, value in sorted(after.items())), end="")
        else:
            print(f"{name} {outcome(before, after, new, verb)}")
    return 0


def target_of(kind: Kind, item: Object, resource_version: str = "") -> Object:
    """The object as requests that change one name it."""
    metadata = item["metadata"]
    namespace = metadata.get("namespace", "")
    return {"kind": kind.plural, "namespace": namespace, "name": metadata["name"], "resource_version": resource_version}


def split(words: list[str], verb: str) -> tuple[list[str], dict[str, str], list[str]]:
    """(names of objects, keys that are set, keys that are removed). Raises UsageError."""
    names: list[str] = []
    new: dict[str, str] = {}
    gone: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key:
            new[key] = value
        elif word.endswith("-") and len(word) > 1 and names:
            gone.append(word[:-1])
        elif new or gone:
            raise UsageError(f"all resources must be specified before {verb} changes: {word}")
        else:
            names.append(word)
    if both := sorted(set(new) & set(gone)):
        raise UsageError(f"can not both modify and remove a {verb} in the same command: {', '.join(both)}")
    return names, new, gone


def chosen(args: argparse.Namespace, words: list[str], verb: str) -> list[tuple[Kind, Object]]:
    """The objects, as they are. Raises NotFoundError, UsageError."""
    if args.all and args.selector:
        raise UsageError("cannot set --all and --selector at the same time")
    found: list[tuple[Kind, Object]] = []
    for kind, names in resources(words, verb):
        every = args.all or args.selector
        if every and names:
            raise UsageError("name cannot be provided when --all or a selector is specified")
        if not every and not names:
            raise UsageError("resource(s) were provided, but no name was specified")
        each: list[str | None] = [*names] or [None]
        for name in each:
            message: Object = {"verb": "get", "kind": kind.plural, "namespace": namespace_of(args), "name": name}
            objects = fetch(args, {**message, "output": "object", "selector": args.selector or ""})
            if name and not objects:
                raise NotFoundError(f'{kind.plural} "{name}" not found')
            found += [(kind, item) for item in objects]
    return found


def outcome(before: dict[str, str], after: dict[str, str], new: dict[str, str], verb: str) -> str:
    if verb == "annotate":
        return "annotated"
    if after == before:
        return "not labeled"
    return "labeled" if new else "unlabeled"
