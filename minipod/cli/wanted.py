"""Which objects a command line means (layer 6): by kind and name, by selectors, or those that manifests hold.

One place for the rules of kubectl's resource builder (cli-runtime, pkg/resource/builder.go).
"""

from __future__ import annotations

import argparse

from minipod.api.kinds import Kind, kind_of_word
from minipod.cli.manifest_options import add_filename, is_given, texts_of
from minipod.cli.manifests import documents
from minipod.cli.options import namespace_of
from minipod.cli.resources import known_kind, resources
from minipod.cli.show.output import warn
from minipod.cli.values import Object
from minipod.errors import NotFoundError, UsageError

NO_NAME = "resource(s) were provided, but no name was specified"


class Wanted:
    """Objects of one kind. `namespace` None: of all namespaces; `name` None: all that the selectors leave.

    `item`: the object as a manifest has it, and `place` where, for those that are named by one.
    """

    __slots__ = ("item", "kind", "name", "namespace", "place")

    def __init__(
        self, kind: Kind, namespace: str | None, name: str | None, item: Object | None = None, place: str = ""
    ) -> None:
        self.kind = kind
        self.namespace = namespace if kind.namespaced else ""
        self.name = name
        self.item = item
        self.place = place


class Found:
    """An object as it is stored."""

    __slots__ = ("kind", "object")

    def __init__(self, kind: Kind, thing: Object) -> None:
        self.kind = kind
        self.object = thing

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.object["metadata"].get("namespace", ""))

    def target(self, resource_version: str = "") -> Object:
        """The object as requests that change one name it."""
        place = {"kind": self.kind.plural, "namespace": self.namespace or "default", "name": self.name}
        return {**place, "resource_version": resource_version}


def add_files(parser: argparse.ArgumentParser) -> None:
    add_filename(parser, "the objects of a manifest; - is stdin")


def add_selectors(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-l", "--selector", metavar="KEY=VALUE,…", help="the objects with these labels")
    parser.add_argument("--field-selector", metavar="FIELD=VALUE,…", help="those with these fields: status.phase=…")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="those of all namespaces")


def add_all(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="every object of the kind in the namespace")


def wanted(args: argparse.Namespace, words: list[str], verb: str, *, all_without_names: bool = False) -> list[Wanted]:
    """What is meant, without asking. Raises UsageError.

    `all_without_names`: a kind alone means all of it (get, describe).
    """
    selects = selector_of(args)
    every = getattr(args, "all", False)
    if every and selects:
        raise UsageError(f"cannot set --all and {selects} at the same time")
    if is_given(args):
        if words:
            raise UsageError("when paths, URLs, or stdin is provided as resource input, you may not specify names")
        if selects or every:
            raise UsageError(f"{selects or '--all'}: a manifest names its objects: leave out -f, or the selection")
        return of_files(args, texts_of(args, verb), verb)
    found = resources(words, verb)
    if any(names for _, names in found):
        if every or selects:
            raise UsageError("name cannot be provided when a selector is specified")
        if getattr(args, "all_namespaces", False):
            raise UsageError("a resource cannot be retrieved by name across all namespaces")
        if not all(names for _, names in found):
            raise UsageError(NO_NAME)
        return [Wanted(kind, namespace_of(args), name) for kind, names in found for name in names]
    if not (every or selects or all_without_names):
        raise UsageError(NO_NAME)
    namespace = None if getattr(args, "all_namespaces", False) else namespace_of(args)
    return [Wanted(kind, namespace, None) for kind, _ in found]


def selector_of(args: argparse.Namespace) -> str:
    """The option that selects, for messages; empty where none does."""
    if getattr(args, "selector", None):
        return "--selector"
    return "--field-selector" if getattr(args, "field_selector", None) else ""


def of_files(args: argparse.Namespace, files: list[Object], verb: str) -> list[Wanted]:
    """What manifests (name and text of each) hold. Of kinds that are not kept here a warning is printed."""
    found: list[Wanted] = []
    for place, item in documents(files):
        kind = kind_of_word(str(item.get("kind")))
        if kind is None:
            warn(f"{place}: {item.get('kind')}: minipod keeps no such objects")
            continue
        meta: Object = item.get("metadata") or {}
        for field in ("name", "namespace"):
            if not isinstance(meta.get(field), (str, type(None))):
                hint = "write it in quotes: YAML reads it as another type"
                raise UsageError(f"{place}: metadata.{field}: Invalid value: {meta[field]}: must be a string; {hint}")
        if not meta.get("name"):
            raise UsageError(f"{place}: metadata.name: Required value: {verb} needs the name of the object")
        namespace = str(meta.get("namespace") or namespace_of(args))
        if args.namespace and kind.namespaced and namespace != args.namespace:
            raise UsageError(
                f'{place}: the namespace from the provided object "{namespace}" does not match the namespace '
                f"\"{args.namespace}\". You must pass '--namespace={namespace}' to perform this operation."
            )
        found.append(Wanted(kind, namespace, str(meta["name"]), item, place))
    return found


def fetched(args: argparse.Namespace, wanted: list[Wanted]) -> tuple[list[Found], NotFoundError | None]:
    """The objects as they are, and an error that names those that are not there."""
    from minipod.cli.fetching import fetch

    found: list[Found] = []
    missing: list[str] = []
    for each in wanted:
        try:
            found += [Found(each.kind, thing) for thing in fetch(args, message_of(args, each))]
        except NotFoundError as error:
            missing.append(str(error))
    return found, NotFoundError("; ".join(missing)) if missing else None


def chosen(args: argparse.Namespace, words: list[str], verb: str) -> list[Found]:
    """The objects as they are; all must be there. Raises NotFoundError, UsageError."""
    found, missing = fetched(args, wanted(args, words, verb))
    if missing is not None:
        raise missing
    return found


def message_of(args: argparse.Namespace, each: Wanted) -> Object:
    """The request for whole objects."""
    return {
        "verb": "get",
        "kind": each.kind.plural,
        "namespace": each.namespace,
        "name": each.name,
        "selector": getattr(args, "selector", None) or "",
        "field_selector": getattr(args, "field_selector", None) or "",
        "output": "object",
    }


def one_of_kind(word: str) -> tuple[Kind, str]:
    """The kind and the name of `KIND/NAME`. Raises UsageError."""
    kind, slash, name = word.partition("/")
    if not slash or not name:
        raise UsageError(f"{word}: give KIND/NAME")
    return known_kind(kind), name
