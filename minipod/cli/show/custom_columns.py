"""`-o custom-columns=NAME:.metadata.name,…` (layer 6): kubectl's table of chosen fields. Pure."""

from __future__ import annotations

from minipod.cli.show import jsonpath
from minipod.cli.show.table import table
from minipod.cli.values import Any, Object
from minipod.errors import UsageError

NONE = "<none>"


class CustomColumns:
    """The header goes before the first object; in a watch the widths grow."""

    def __init__(self, text: str, no_headers: bool) -> None:
        if not text:
            raise UsageError("custom-columns format specified but no custom columns given")
        self._titles: list[str] = []
        self._paths: list[str] = []
        for part in text.split(","):
            title, colon, path = part.partition(":")
            if not colon or not path:
                raise UsageError(f"unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>")
            self._titles.append(title)
            self._paths.append(jsonpath.relaxed(path)[1:-1])
        self._header = not no_headers
        self._widths: list[int] = []

    def show(self, thing: Object, _stream: bool) -> str:
        """The rows of one object, or of the items of a List."""
        items = thing["items"] if thing.get("kind") == "List" else [thing]
        rows: list[list[object]] = [list(self._titles)] if self._header else []
        self._header = False
        rows += [[_cell(path, item) for path in self._paths] for item in items]
        return table(rows, self._widths)


def _cell(path: str, item: Object) -> str:
    values = jsonpath.find(path, item)
    return ",".join(map(_go, values)) if values else NONE


def _go(value: Any) -> str:
    """As Go prints a value: `map[a:1 b:2]`, `[a b]`, `<nil>`."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_go(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_go, value))}]"
    return "<nil>" if value is None else jsonpath.text_of(value)
