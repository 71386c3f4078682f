"""The verbs `status` and `shutdown` (layer 6): what the agent says of itself, and its end. Its pods keep running."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from minipod import __version__
from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.agent.registry.schema import FIRST, SCHEMA_VERSION
from minipod.control.verbs.requests import converted
from minipod.control.wire import Message
from minipod.errors import ConflictError

Started = Literal["command", "foreground", "service"]


class ShutdownRequest(msgspec.Struct, frozen=True):
    """`schema`: the newest format of the state that the command's version can read."""

    schema: int = FIRST


class Origin(msgspec.Struct, frozen=True):
    """How this agent was started. `started`: by a `command` in the background (it exits when idle), in a terminal's
    `foreground`, or by a `service` manager, which starts another one when it ends. `unit`: that of systemd, to be asked
    for a restart; empty where there is none. `since`: RFC 3339. `static_pods`: the directory; empty: none.
    """

    started: Started = "foreground"
    unit: str = ""
    since: str = ""
    static_pods: str = ""


FOREGROUND = Origin()


def status(
    node: Node, pods: Pods, origin: Origin, connections: int, problems: Callable[[], dict[str, str]]
) -> dict[str, Any]:
    return {
        "version": __version__,
        "pid": os.getpid(),
        "started": origin.started,
        "unit": origin.unit,
        "since": origin.since,
        "pods": len(pods),
        "halted": pods.halted,
        "idle_exit_s": node.config.idle_exit_s if origin.started == "command" else None,
        "static_pods": origin.static_pods,
        "static_pod_problems": sorted(problems().values()),
        "connections": connections,
        "probes_made": node.probe_figures.made,
        "probes_late": node.probe_figures.late,
        "clock_ahead_s": round(node.steady.ahead_s, 3),
        **node.watchdog.fields(),
        "node": node.facts.node_name,
        "root": node.paths.root,
        "state": node.paths.state,
    }


def shutdown(pods: Pods, origin: Origin, request: Message, leave: Callable[[], None]) -> dict[str, Any]:
    """The answer is sent before the agent exits. Raises ConflictError for a command of another version that could not
    continue with what this agent leaves: it would end the agent and could not start its own.
    """
    wanted = converted(request, ShutdownRequest)
    if request.head.version != __version__ and wanted.schema < SCHEMA_VERSION:
        raise ConflictError(
            f"the agent keeps running: minipod {request.head.version} cannot read what it leaves (schema "
            f"{SCHEMA_VERSION}, that version knows {wanted.schema}): use minipod {__version__}"
        )
    asyncio.get_running_loop().call_soon(leave)
    return {"pods": len(pods), "pid": os.getpid(), "restarts": origin.started == "service"}
