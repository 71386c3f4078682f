"""docs/agent.md names every verb of the control socket with the fields that it takes, no more and no fewer (unit)."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from minipod.control.verbs.agent import ShutdownRequest
from minipod.control.verbs.apply import ApplyRequest
from minipod.control.verbs.debug import AttachRequest, DebugRequest
from minipod.control.verbs.execute import ExecRequest
from minipod.control.verbs.forward import ConnectRequest
from minipod.control.verbs.halt import HaltRequest
from minipod.control.verbs.inspect import InspectRequest
from minipod.control.verbs.listing import GetRequest
from minipod.control.verbs.metadata import MetadataRequest
from minipod.control.verbs.patch import EditRequest, PatchRequest
from minipod.control.verbs.resize import ResizeRequest
from minipod.control.verbs.resources import CreateRequest, DeleteObjectRequest, PatchObjectRequest, UpdateRequest
from minipod.control.verbs.roots import RootRequest
from minipod.control.verbs.run import RunRequest
from minipod.control.verbs.table import DeleteRequest, GcRequest
from minipod.control.verbs.usage import UsageRequest
from tests.unit.agent_client import Agent, with_agent

PAGE = Path(__file__).parents[2] / "docs" / "agent.md"

REQUESTS: dict[str, type[msgspec.Struct] | None] = {
    "run": RunRequest,
    "apply": ApplyRequest,
    "get": GetRequest,
    "delete": DeleteRequest,
    "exec": ExecRequest,
    "root": RootRequest,
    "debug": DebugRequest,
    "attach": AttachRequest,
    "resize": ResizeRequest,
    "patch": PatchRequest,
    "edit": EditRequest,
    "label": MetadataRequest,
    "annotate": MetadataRequest,
    "inspect": InspectRequest,
    "usage": UsageRequest,
    "status": None,
    "shutdown": ShutdownRequest,
    "halt": HaltRequest,
    "resume": None,
    "connect": ConnectRequest,
    "object.create": CreateRequest,
    "object.update": UpdateRequest,
    "object.patch": PatchObjectRequest,
    "object.delete": DeleteObjectRequest,
    "gc": GcRequest,
}


def documented() -> dict[str, set[str]]:
    """The fields of each verb's request in the page's table."""
    found: dict[str, set[str]] = {}
    table = PAGE.read_text().partition("| verb | request | events |\n")[2].partition("\n\n")[0]
    for row in table.splitlines()[1:]:
        verbs, request, _ = (cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:4])
        words = re.findall(r"`([^`]+)`", re.sub(r"\([^()]*\)", "", request))
        found |= {verb: {word.split()[0] for word in words} for verb in re.findall(r"`([\w.]+)`", verbs)}
    return found


@pytest.mark.parametrize("verb", REQUESTS)
def test_the_page_has_the_fields_of_the_request(verb: str) -> None:
    struct = REQUESTS[verb]
    fields = set() if struct is None else {field.encode_name for field in msgspec.structs.fields(struct)}
    assert documented()[verb] == fields


def test_the_page_has_every_verb(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        *_, answer = await agent.ask(verb="none of them")
        known = answer["error"]["message"].partition("known: ")[2].split(", ")
        assert set(known) == documented().keys() == REQUESTS.keys()

    with_agent(tmp_path, test)
