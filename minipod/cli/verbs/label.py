"""`minipod label` (layer 6), and what `annotate` shares with it: setting and removing keys, as kubectl does."""

from __future__ import annotations

import argparse

from minipod.api.keys import changed, outcome
from minipod.cli import wanted
from minipod.cli.client import Client
from minipod.cli.manifest_options import add_dry_run
from minipod.cli.results import Results, add_local, check_local
from minipod.cli.show import formats
from minipod.cli.values import Object
from minipod.cli.wanted import Found
from minipod.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Set and take away labels: KEY=VALUE sets one, KEY- takes it away. Selectors see it at once."
    configure_words(parser)


def configure_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="*", metavar="KIND NAME… KEY=VALUE KEY-", help="which objects, and what becomes of their keys"
    )
    parser.add_argument("--overwrite", action="store_true", help="change what has another value")
    parser.add_argument("--list", action="store_true", help="print what the objects have; change nothing")
    parser.add_argument(
        "--resource-version", default="", metavar="VERSION", help="change it only while it has this resourceVersion"
    )
    wanted.add_files(parser)
    wanted.add_selectors(parser)
    wanted.add_all(parser)
    add_local(parser)
    add_dry_run(parser)
    formats.configure(parser)


def run(args: argparse.Namespace) -> int:
    return change(args, "label", "labels")


def change(args: argparse.Namespace, verb: str, field: str) -> int:
    """Every object in turn; the first that cannot be changed ends it."""
    words, new, gone = split(args.words, verb)
    if not (new or gone or args.list):
        raise UsageError(f"at least one {verb.replace('annotate', 'annotation')} update is required: KEY=VALUE or KEY-")
    if args.list and args.output:
        raise UsageError("--list and --output may not be specified together")
    check_local(args, words)
    results = Results(args)
    found = in_manifests(args, verb) if args.local else wanted.chosen(args, words, verb)
    if args.resource_version and len(found) != 1:
        raise UsageError("--resource-version may only be used with a single resource")
    if not found:
        print("No resources found")
    for each in found:
        before: dict[str, str] = each.object["metadata"].get(field) or {}
        if args.local or args.list or args.dry_run == "client":
            after, thing = changed_here(args, each, field, before, new, gone)
        else:
            for key in gone:
                if key not in before and field == "labels":
                    print(f'label "{key}" not found.')
            before, after, thing = changed_there(args, each, verb, field, new, gone)
        if args.list:
            listed(each, field, after, is_one=len(found) == 1)
        else:
            results.show(each.kind, thing, outcome(field, before, after))
    return 0


def in_manifests(args: argparse.Namespace, verb: str) -> list[Found]:
    """The objects as the manifests have them."""
    return [Found(each.kind, each.item or {}) for each in wanted.wanted(args, [], verb)]


def changed_here(
    args: argparse.Namespace, each: Found, field: str, before: dict[str, str], new: dict[str, str], gone: list[str]
) -> tuple[dict[str, str], Object]:
    after = changed(field, before, new, gone, args.overwrite)
    return after, {**each.object, "metadata": {**each.object["metadata"], field: after}}


def changed_there(
    args: argparse.Namespace, each: Found, verb: str, field: str, new: dict[str, str], gone: list[str]
) -> tuple[dict[str, str], dict[str, str], Object]:
    """The agent is asked for the change alone: another client may have changed the object by then."""
    message: Object = {
        "verb": verb,
        "target": each.target(args.resource_version),
        "field": field,
        "set": new,
        "remove": gone,
        "overwrite": args.overwrite,
        "dry_run": args.dry_run == "server",
    }
    _, answer = Client.of(args, verb).call(message)
    return answer["before"], answer["after"], answer["object"]


def listed(each: Found, field: str, values: dict[str, str], is_one: bool) -> None:
    """As kubectl: only of several objects are their names printed."""
    if not is_one:
        print(f"Listing {field} for {each.kind.name}./{each.name}:")
    indent = "" if is_one else " "
    print("".join(f"{indent}{key}={value}\n" for key, value in sorted(values.items())), end="")


def split(words: list[str], verb: str) -> tuple[list[str], dict[str, str], list[str]]:
    """(names of objects, keys that are set, keys that are removed). Raises UsageError."""
    names: list[str] = []
    new: dict[str, str] = {}
    gone: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key:
            if verb == "label" and "=" in value:
                raise UsageError(f"invalid label spec: {word}")
            new[key] = value
        elif word.endswith("-") and len(word) > 1:
            gone.append(word[:-1])
        elif new or gone:
            raise UsageError(f"all resources must be specified before {verb} changes: {word}")
        else:
            names.append(word)
    if both := sorted(set(new) & set(gone)):
        raise UsageError(f"can not both modify and remove a {verb} in the same command: {', '.join(both)}")
    return names, new, gone
