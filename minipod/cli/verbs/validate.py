"""`minipod validate` (layer 6): checks a manifest as the API server would, with the place of every fault.

No root, no agent. All files of one call are checked in this process.
"""

from __future__ import annotations

import argparse
import sys

from minipod.cli.files import with_folders
from minipod.cli.trouble import problem
from minipod.cli.values import TYPE_CHECKING
from minipod.errors import SUCCESS, WRONG, UsageError

if TYPE_CHECKING:
    from minipod.api.load import Document, FieldValidation

_TRUE, _FALSE = ("true", "1", "strict"), ("false", "0", "warn")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Check manifests as the API server would, and report what minipod does not support."
    parser.epilog = "Exit status: 0 when all documents are valid, 2 when one is not."
    parser.add_argument("files", nargs="*", metavar="FILE", help="manifests, YAML or JSON; - is stdin")
    parser.add_argument("-f", "--filename", action="append", default=[], metavar="FILE", help="the same as FILE")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="text or json")
    parser.add_argument(
        "--strict",
        default="true",
        choices=_TRUE + _FALSE,
        metavar="BOOL",
        help="false: unknown and repeated fields are warnings (true)",
    )
    parser.add_argument("--defaulted", action="store_true", help="print the objects as they would be stored")


def run(args: argparse.Namespace) -> int:
    names = args.files + args.filename
    if not names:
        raise UsageError("validate: which manifest? use for example: minipod validate pod.yaml")
    import gc

    gc.disable()  # a short process that makes no garbage worth looking for, least of all while it imports
    from minipod.api.check import check

    validation: FieldValidation = "strict" if args.strict in _TRUE else "warn"
    documents: list[Document] = []
    empty: list[str] = []
    for name in with_folders(names):
        found = check(read(name), name, args.namespace or "default", validation, support=False)
        documents += found
        empty += [] if found else [name]
    if args.output == "json":
        _print_json(documents, args.defaulted)
    else:
        _print_text(documents, args.defaulted)
    for name in empty:
        print(f"error: {name}: there is no object in it", file=sys.stderr)
    return WRONG if empty or any(document.errors for document in documents) else SUCCESS


def read(name: str) -> bytes:
    """The bytes of a file or of stdin, one more than are allowed at most. Raises UsageError."""
    from minipod.api.text import MAX_TEXT_BYTES

    try:
        if name == "-":
            return sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
        with open(name, "rb") as source:
            return source.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise UsageError(problem(error, name)) from None


def _print_text(documents: list[Document], defaulted: bool) -> None:
    out = sys.stdout if not defaulted else sys.stderr
    stored = []
    for document in documents:
        for error in sorted(document.errors, key=lambda error: (error.line, error.column)):
            place = f"{document.file}:{error.line}:{error.column}" if error.line else document.file
            print(f"{place}: {error.field}: {error.message}" if error.field else f"{place}: {error.message}", file=out)
        for warning in document.warnings:
            print(f"warning: {document.file}: {warning}", file=sys.stderr)
        if not document.errors:
            stored.append(document)
            if not defaulted:
                print(f"{document.file}: {document.kind.lower()}/{document.name} is valid")
    if defaulted:
        from minipod.cli.show.yamlout import to_yaml

        sys.stdout.write("---\n".join(to_yaml(_as_data(document)) for document in stored))


def _print_json(documents: list[Document], defaulted: bool) -> None:
    import json

    import msgspec

    entries = []
    for document in documents:
        entry = {
            "file": document.file,
            "document": document.index,
            "kind": document.kind,
            "name": document.name,
            "valid": not document.errors,
            "errors": [msgspec.structs.asdict(error) for error in document.errors],
            "warnings": list(document.warnings),
        }
        if defaulted and not document.errors:
            entry["object"] = _as_data(document)
        entries.append(entry)
    print(json.dumps(entries, indent=2, ensure_ascii=False))


def _as_data(document: Document) -> object:
    import json

    import msgspec

    return json.loads(msgspec.json.encode(document.object))
