"""Reports what of a container is lost for good as an event of its pod (layer 5)."""

from __future__ import annotations

from collections.abc import Callable

from minipod.agent.events import PodReference
from minipod.agent.node import Node
from minipod.plan.configs import SandboxConfig

REASON = "Lost"


def reporter(node: Node) -> Callable[[SandboxConfig, str, str], None]:
    """The runtime's `on_loss`."""

    def report(sandbox: SandboxConfig, container: str, what: str) -> None:
        pod = PodReference(sandbox.namespace, sandbox.name, sandbox.uid)
        node.events.note(pod, "Warning", REASON, f"container {container}: {what}", node.clock())

    return report
