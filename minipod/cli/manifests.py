"""The documents of manifest files as plain data (layer 6): enough to find names in. Checks nothing."""

from __future__ import annotations

from minipod.cli.values import Object
from minipod.errors import UsageError


def documents(files: list[Object]) -> list[tuple[str, Object]]:
    """(place, object) of every document; the items of a List one by one. `files`: name and text. Raises UsageError."""
    from minipod.api.text import SyntaxFault, chunks, read

    found: list[tuple[str, Object]] = []
    for file in files:
        name = file["name"]
        try:
            parsed = [reading.data for chunk in chunks(file["text"]) for reading in read(chunk)]
        except SyntaxFault as error:
            raise UsageError(f"{name}: {error}") from None
        for number, item in enumerate(parsed, 1):
            place = name if len(parsed) == 1 else f"{name} document {number}"
            if item is None:
                continue
            if not isinstance(item, dict):
                raise UsageError(f"{place}: not an object: kind: Required value")
            entries = item.get("items") if item.get("kind") == "List" else [item]
            found += [(place, entry) for entry in entries or []]
    return found


def parsed(text: str, name: str) -> object:
    """The data of a text that holds one document, YAML or JSON as Kubernetes reads them. Raises UsageError.

    `name`: of the text, for messages.
    """
    from minipod.api.text import SyntaxFault, chunks, read

    try:
        found = [reading.data for chunk in chunks(text) for reading in read(chunk)]
    except SyntaxFault as error:
        raise UsageError(f"{name}: {error}") from None
    if len(found) != 1:
        raise UsageError(f"{name}: one document is expected, it holds {len(found)}")
    data: object = found[0]
    return data
