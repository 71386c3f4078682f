"""JSON patches (RFC 6902) (layer 1, pure), with the errors of the API server (evanphx/json-patch v4).

As there, an index may be negative (-1 is the last item), and a test for null passes where nothing is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from minipod.api.merge.values import Data, equal
from minipod.errors import PatchError

#: as in the API server: k8s.io/apiserver, endpoints/handlers/patch.go and server/options
MAX_OPERATIONS = 10_000
MAX_COPIED_BYTES = 3 * 1024 * 1024

_MISSING = "missing value"


def json_patch(current: Data, operations: list[Data]) -> Data:
    """The document after all operations. Raises PatchError of code 413 or 422; the arguments stay as they are."""
    if len(operations) > MAX_OPERATIONS:
        most = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        raise PatchError(most, code=413)
    document = deepcopy(current)
    copied_bytes = 0
    for operation in operations:
        kind = operation.get("op", "unknown")
        act = _ACTS.get(kind) if isinstance(kind, str) else None
        if act is None:
            raise PatchError(f"Unexpected kind: {kind}", code=422)
        copied_bytes += act(document, operation)
        if copied_bytes > MAX_COPIED_BYTES:
            raise PatchError(
                f"Unable to complete the copy, the accumulated size increase of copy is {copied_bytes}, "
                f"exceeding the limit {MAX_COPIED_BYTES}",
                code=422,
            )
    return document


def _add(document: Any, operation: Data) -> int:
    path = _pointer(operation, "path", "add operation failed to decode path")
    container, key = _container(document, path, f'add operation does not apply: doc is missing path: "{path}"')
    _insert(container, key, deepcopy(operation.get("value")), f"error in add for path: '{path}'")
    return 0


def _remove(document: Any, operation: Data) -> int:
    path = _pointer(operation, "path", "remove operation failed to decode path")
    container, key = _container(document, path, f'remove operation does not apply: doc is missing path: "{path}"')
    _take(container, key, f"error in remove for path: '{path}'")
    return 0


def _replace(document: Any, operation: Data) -> int:
    path = _pointer(operation, "path", "replace operation failed to decode path")
    container, key = _container(document, path, f"replace operation does not apply: doc is missing path: {path}")
    missing = PatchError(f"replace operation does not apply: doc is missing key: {path}: {_MISSING}", code=422)
    try:
        _value(container, key, "")
    except PatchError:
        raise missing from None
    at: Any = _index(key, len(container), "") if isinstance(container, list) else key
    container[at] = deepcopy(operation.get("value"))
    return 0


def _move(document: Any, operation: Data) -> int:
    source = _pointer(operation, "from", "move operation failed to decode from")
    container, key = _container(document, source, f"move operation does not apply: doc is missing from path: {source}")
    _value(container, key, f"error in move for path: '{key}'")
    value = _take(container, key, f"error in move for path: '{key}'")
    path = _pointer(operation, "path", "move operation failed to decode path")
    missing = f"move operation does not apply: doc is missing destination path: {path}"
    container, key = _container(document, path, missing)
    _insert(container, key, value, f"error in move for path: '{path}'")
    return 0


def _copy(document: Any, operation: Data) -> int:
    source = _pointer(operation, "from", "copy operation failed to decode from")
    container, key = _container(document, source, f"copy operation does not apply: doc is missing from path: {source}")
    value = _value(container, key, f"error in copy for from: '{source}'")
    path = _pointer(operation, "path", "copy operation failed to decode path")
    missing = f"copy operation does not apply: doc is missing destination path: {path}"
    container, key = _container(document, path, missing)
    size = len(json.dumps(value, separators=(",", ":")))
    _insert(container, key, deepcopy(value), "error while adding value during copy")
    return size


def _test(document: Any, operation: Data) -> int:
    path = _pointer(operation, "path", "test operation failed to decode path")
    container, key = _container(document, path, f"test operation does not apply: is missing path: {path}")
    if isinstance(container, dict):
        found = container.get(key)
    else:
        found = _value(container, key, f"error in test for path: '{path}'")
    if not equal(found, operation.get("value")):
        raise PatchError(f"testing value {path} failed: test failed", code=422)
    return 0


#: what each operation does with the document; answers the bytes that it copied
_ACTS: dict[str, Callable[[Any, Data], int]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}


def _pointer(operation: Data, name: str, failure: str) -> str:
    pointer = operation.get(name)
    if isinstance(pointer, str):
        return pointer
    detail = f"operation, missing from field: {_MISSING}" if name == "from" else _MISSING
    raise PatchError(f"{failure}: {detail}", code=422)


def _container(document: Any, pointer: str, failure: str) -> tuple[Any, str]:
    """(the map or list that holds what a pointer is about, its key there), or the failure: it is missing."""
    _, *keys = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")]
    if not keys:
        raise PatchError(f"{failure}: {_MISSING}", code=422)
    for key in keys[:-1]:
        try:
            document = _value(document, key, "")
        except PatchError:
            document = None
    if not isinstance(document, dict | list):
        raise PatchError(f"{failure}: {_MISSING}", code=422)
    return document, keys[-1]


def _value(container: Any, key: str, failure: str) -> Any:
    if isinstance(container, list):
        return container[_index(key, len(container), failure)]
    if not isinstance(container, dict) or key not in container:
        raise PatchError(f"{failure}: unable to get nonexistent key: {key}: {_MISSING}", code=422)
    return container[key]


def _take(container: Any, key: str, failure: str) -> Any:
    if isinstance(container, list):
        return container.pop(_index(key, len(container), failure))
    if key not in container:
        raise PatchError(f"{failure}: Unable to remove nonexistent key: {key}: {_MISSING}", code=422)
    return container.pop(key)


def _insert(container: Any, key: str, value: Any, failure: str) -> None:
    if isinstance(container, dict):
        container[key] = value
    elif key == "-":
        container.append(value)
    else:
        detail = f"value was not a proper array index: '{key}': "
        container.insert(_index(key, len(container) + 1, failure, detail), value)


def _index(key: str, length: int, failure: str, detail: str = "") -> int:
    """A place in a list of that length; negative ones count from its end."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", key):
        raise PatchError(f'{failure}: {detail}strconv.Atoi: parsing "{key}": invalid syntax', code=422)
    index = int(key)
    if not -length <= index < length:
        raise PatchError(f"{failure}: Unable to access invalid index: {index}: invalid index referenced", code=422)
    return index % length
