"""Where the values of a manifest stand in its text (layer 1, pure): a second reading, only when there is a fault."""

from __future__ import annotations

import json
from typing import Any

from minipod.api.text import Chunk, Path, Position, json_places


def positions(chunk: Chunk) -> dict[Path, Position]:
    """{path: (line, column)} of every key and list item of a readable document."""
    if chunk.has_brace and _is_json(chunk.text):
        places: dict[Path, Position] = {(): (chunk.line + 1, chunk.column + 1)}
        places.update((path, place) for path, place, _ in json_places(chunk))
        return places
    import yaml
    from yaml._yaml import CParser

    found: dict[Path, Position] = {}
    parser = CParser(chunk.text)
    get = parser.get_event

    def place(event: Any) -> Position:
        return chunk.line + event.start_mark.line + 1, event.start_mark.column + 1

    def walk(event: Any, path: Path) -> None:
        if isinstance(event, yaml.SequenceStartEvent):
            index = 0
            while not isinstance(event := get(), yaml.SequenceEndEvent):
                found[(path, index)] = place(event)
                walk(event, (path, index))
                index += 1
        elif isinstance(event, yaml.MappingStartEvent):
            while not isinstance(event := get(), yaml.MappingEndEvent):
                key = event.value if isinstance(event, yaml.ScalarEvent) else None
                if key is None:
                    walk(event, (path, None))
                else:
                    found[(path, key)] = place(event)
                walk(get(), (path, key))

    try:
        while not isinstance(event := get(), yaml.StreamEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                event = get()
                found.setdefault((), place(event))
                walk(event, ())
    finally:
        parser.dispose()
    return found


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:  # KYAML
        return False
    return True
