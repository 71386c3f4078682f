"""The runtime of a node in the test's own process, its agent gone: hundreds of commands take no command line then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psutil

from minipod.config import Config
from minipod.runtime.container import Container
from minipod.runtime.facts import host_facts
from minipod.runtime.runtime import Runtime
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

WAIT_S = 10.0 * SLOWNESS


def in_own_runtime(node: Node, body: Callable[[Runtime, dict[str, Container]], Awaitable[None]]) -> None:
    """`body` gets the containers that run, by their names. An agent is there again afterwards."""
    agent = psutil.Process(node.agent_pid())
    node.ask("shutdown")
    agent.wait(WAIT_S)

    async def run() -> None:
        runtime = Runtime(node.paths, Config(), host_facts(Config()))
        await runtime.open()
        try:
            await body(runtime, {found.status.config.name: found for found in runtime._containers})
        finally:
            await runtime.close()

    try:
        asyncio.run(run())
    finally:
        node("get", "pods")
