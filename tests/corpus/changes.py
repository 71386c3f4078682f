"""Documents of JSON with something odd in one place: what a right document is made of, and then is not."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

ODD = st.one_of(
    st.sampled_from([None, True, -1, 0, 2**31, 2**63, 10**30, -(10**30), 1.5, 1e308]),
    st.sampled_from(["", " ", "..", "a/b", "../../x", "%2e%2e", "\0", "x" * 300, "-rf", "--", "a\nb", "\x1b[2J"]),
    st.sampled_from(["\u202e", "é", "\uff10", "app in (", "a=b,c!=d", "!" * 50]),
    st.sampled_from(["pods", "configmaps", "nodes", "object", "wide", "apply", "1e400", "1_0"]),
    st.sampled_from([[], {}, [[]], [None], [{}], ["..", "a\0b"], {"name": "x"}, {"": ""}, {"cpu": 5}, {"cpu": "x"}]),
    st.recursive(st.none(), lambda inner: st.lists(inner, min_size=1, max_size=1), max_leaves=60),
    st.text(max_size=20),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Of everything that is inside a request."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, one in inner for place in [(*path, key), *places(one, (*path, key))]]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """With `new` in one place; `...` takes it away. A place that is gone by now is let be."""
    if not path:
        return new
    key, *rest = path
    if isinstance(value, dict) and key in value:
        one = changed(value[key], tuple(rest), new)
        return {name: inner for name, inner in {**value, key: one}.items() if inner is not ...}
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        items = [*value[:key], changed(value[key], tuple(rest), new), *value[key + 1 :]]
        return [inner for inner in items if inner is not ...]
    return value


def with_changes(document: Any) -> st.SearchStrategy[Any]:
    """The document with up to three changes: something odd in a place, or nothing where something was."""

    @st.composite
    def made(draw: st.DrawFn) -> Any:
        result = document
        for path in draw(st.lists(st.sampled_from(places(document)), max_size=3)):
            result = changed(result, path, draw(st.one_of(ODD, st.just(...))))
        return result

    return made()
