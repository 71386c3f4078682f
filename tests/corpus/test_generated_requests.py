"""Generated requests at the control socket: whatever is asked is answered, and never by an internal error."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.changes import ODD, changed, places
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


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    verb = draw(st.sampled_from(sorted(RIGHT)))
    request: dict[str, Any] = {"verb": verb, **RIGHT[verb]}
    for path in draw(st.lists(st.sampled_from(places(request)), max_size=3)):
        request = changed(request, path, draw(st.one_of(ODD, st.just(...))))
    return request


async def answer(agent: Agent, request: dict[str, Any]) -> dict[str, Any] | None:
    """The last line; None of what has no end: a watch, a run in the foreground."""
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
