"""Generated requests at the control socket: whatever is asked is answered, and never by an internal error."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.conftest import EXAMPLES
from tests.unit.agent_client import MANIFEST, Agent, with_agent

EPHEMERAL = {"name": "dbg", "image": "busybox", "resources": {}, "env": [{"name": "A", "value": "b"}]}
FILES = [{"name": "pod.yaml", "text": MANIFEST.replace("web", "other")}]
POD = {"namespace": "default", "pod": "web", "container": "main"}
CONDITION = {"type": "example.com/ready", "status": "True", "reason": "R", "message": "m"}

#: of each verb a request that is right, with every field that it has
RIGHT: dict[str, dict[str, Any]] = {
    "run": {"files": FILES, "namespace": "default", "detach": True, "until": "created", "config": None},
    "apply": {"files": FILES, "namespace": "default", "mode": "apply", "dry_run": False},
    "get": {"kind": "pods", "namespace": "default", "name": "web", "output": "table", "watch": False, "listing": True,
            "selector": "", "field_selector": "", "label_columns": ["app"], "show_labels": True,
            "resource_version": "1", "bookmarks": False},
    "delete": {"kind": "pods", "namespace": "default", "names": ["web", "none"], "grace_period": 0, "force": False},
    "exec": {**POD, "command": ["true"], "tty": [24, 80], "fds": []},
    "root": POD,
    "debug": {"namespace": "default", "pod": "web", "container": EPHEMERAL, "wait": False},
    "attach": {**POD, "stdin": False, "whole": False},
    "resize": {**POD, "requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
    "conditions": {"namespace": "default", "pod": "web", "conditions": [CONDITION]},
    "status": {},
    "gc": {"dry_run": True},
    "fly": {},
}  # fmt: skip

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


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    verb = draw(st.sampled_from(sorted(RIGHT)))
    request: dict[str, Any] = {"verb": verb, **RIGHT[verb]}
    for path in draw(st.lists(st.sampled_from(places(request)), max_size=3)):
        request = changed(request, path, draw(st.one_of(ODD, st.just(...))))
    return request


async def answer(agent: Agent, request: dict[str, Any]) -> dict[str, Any] | None:
    """The last line; None of what goes on for ever: a watch, a run in the foreground."""
    client = agent.client()
    try:
        await client.send(**request)
        return await asyncio.wait_for(client.last(), 1000)
    except TimeoutError:
        return None
    finally:
        client.close()


@settings(max_examples=max(5, EXAMPLES // 4))  # each is a whole agent
@given(st.lists(requests(), min_size=1, max_size=5))
def test_every_request_is_answered_by_what_it_asks_or_by_what_is_wrong_with_it(asked: list[dict[str, Any]]) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        for request in asked:
            last = await answer(agent, request)
            assert last is None or last.get("error", {}).get("kind") != "Internal", (request, last)
        status = await answer(agent, {"verb": "status"})
        assert status is not None
        assert status["ok"]
        await answer(agent, {"verb": "delete", "names": ["web"], "force": True})

    with tempfile.TemporaryDirectory() as folder:
        with_agent(Path(folder), test)
