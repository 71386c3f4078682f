"""The types of what comes out of JSON (layer 6), without importing `typing`: that would cost each call 4 ms."""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take the name for typing's

if TYPE_CHECKING:
    from typing import Any as Any

    Object = dict[str, Any]
else:
    Any = object
    Object = dict
