"""The control socket's verbs by name (layer 6); each is implemented in the module that it calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec

from minipod.agent.node import Node
from minipod.agent.objects.claims import Claims
from minipod.agent.pods.table import Pods
from minipod.agent.pods.worker import PodWorker
from minipod.control.server import Verb
from minipod.control.verbs import agent, debug
from minipod.control.verbs.apply import Apply
from minipod.control.verbs.changes import kind_wanted
from minipod.control.verbs.execute import execute
from minipod.control.verbs.gc import collect
from minipod.control.verbs.halt import halt
from minipod.control.verbs.listing import Get, GetRequest
from minipod.control.verbs.metadata import change_metadata
from minipod.control.verbs.objects import DeleteObjects, forgotten, would_delete
from minipod.control.verbs.requests import converted, or_gone
from minipod.control.verbs.roots import send_root
from minipod.control.verbs.run import Run
from minipod.control.wire import Connection, Message
from minipod.errors import NotFoundError


class DeleteRequest(msgspec.Struct, frozen=True):
    """`wait`: the answer comes when all are gone. `dry_run`: nothing is deleted; what is not there is an error."""

    names: list[str]
    kind: str = "pods"
    namespace: str = "default"
    grace_period: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None
    force: bool = False
    wait: bool = True
    dry_run: bool = False


class GcRequest(msgspec.Struct, frozen=True):
    dry_run: bool = False


class Verbs:
    """`leave` makes the agent exit; `connections` counts the open ones. `problems`: of static pods' files."""

    def __init__(
        self,
        node: Node,
        pods: Pods,
        leave: Callable[[], None],
        connections: Callable[[], int],
        claims: Claims | None = None,
        *,
        origin: agent.Origin = agent.FOREGROUND,
        problems: Callable[[], dict[str, str]] = dict,
    ) -> None:
        self._node = node
        self._pods = pods
        self._claims = claims or Claims(node, pods)
        self._leave = leave
        self._connections = connections
        self._origin = origin
        self._problems = problems

    def table(self) -> Mapping[str, Verb]:
        return {
            "run": self.run,
            "apply": self.apply,
            "get": self.get,
            "delete": self.delete,
            "exec": self.execute,
            "root": self.root,
            "debug": self.debug,
            "attach": self.attach,
            "resize": self.resize,
            "patch": self.patch,
            "edit": self.edit,
            "label": self.change_metadata,
            "annotate": self.change_metadata,
            "status": self.status,
            "inspect": self.inspect,
            "usage": self.usage,
            "shutdown": self.shutdown,
            "connect": self.connect,
            "object.create": self.create_object,
            "object.update": self.update_object,
            "object.patch": self.patch_object,
            "object.delete": self.delete_object,
            "halt": self.halt,
            "resume": self.resume,
            "gc": self.collect,
        }

    async def run(self, connection: Connection, request: Message) -> dict[str, Any]:
        return await Run(self._node, self._pods, connection, request).answer()

    async def apply(self, connection: Connection, request: Message) -> dict[str, Any]:
        return await Apply(self._node, self._pods, self._claims, connection, request).answer()

    async def get(self, connection: Connection, request: Message) -> dict[str, Any]:
        return await Get(self._node, connection, converted(request, GetRequest)).answer()

    async def execute(self, connection: Connection, request: Message) -> dict[str, Any]:
        return await execute(self._node, self._pods, connection, request)

    async def debug(self, connection: Connection, request: Message) -> dict[str, Any]:
        return await debug.debug(self._node, self._pods, connection, request)

    async def resize(self, connection: Connection, request: Message) -> dict[str, Any]:
        from minipod.control.verbs import resize  # imported late: few pods are resized

        return await resize.resize(self._node, self._pods, request)

    async def patch(self, connection: Connection, request: Message) -> dict[str, Any]:
        from minipod.control.verbs import patch  # the merge engine is large, and few ask for it

        return patch.patch(self._node, self._pods, request)

    async def edit(self, connection: Connection, request: Message) -> dict[str, Any]:
        from minipod.control.verbs import patch

        return patch.edit(self._node, request)

    async def connect(self, connection: Connection, request: Message) -> dict[str, Any]:
        from minipod.control.verbs import forward

        return await forward.connect(self._node, self._pods, connection, request)

    async def create_object(self, connection: Connection, request: Message) -> dict[str, Any]:
        from minipod.control.verbs import resources  # only the Kubernetes API asks for these

        return await resources.create(self._node, request)

    async def update_object(self, connection: Connection, request: Message) -> dict[str, Any]:
        from minipod.control.verbs import resources

        return await resources.update(self._node, self._pods, request)

    async def patch_object(self, connection: Connection, request: Message) -> dict[str, Any]:
        from minipod.control.verbs import resources

        return resources.patch(self._node, self._pods, request)

    async def delete_object(self, connection: Connection, request: Message) -> dict[str, Any]:
        from minipod.control.verbs import resources

        return resources.delete(self._node, self._claims, request)

    async def change_metadata(self, connection: Connection, request: Message) -> dict[str, Any]:
        return change_metadata(self._node, request)

    async def attach(self, connection: Connection, request: Message) -> dict[str, Any]:
        return await debug.attach(self._node, self._pods, connection, request)

    async def root(self, connection: Connection, request: Message) -> dict[str, Any]:
        return await send_root(self._node, self._pods, connection, request)

    async def delete(self, connection: Connection, request: Message) -> dict[str, Any]:
        """Deletes all that exist, concurrently; reports those that do not exist at the end, as kubectl does."""
        wanted = converted(request, DeleteRequest)
        kind = kind_wanted(wanted.kind, "delete")
        if wanted.dry_run:
            return would_delete(self._node.registry, connection, kind, wanted.namespace, wanted.names)
        if kind.name != "Pod":
            deletion = DeleteObjects(self._node, self._claims, connection)
            return await deletion.answer(kind, wanted.namespace, wanted.names, wait=wanted.wait)
        grace_s = 0 if wanted.force and wanted.grace_period is None else wanted.grace_period
        going: list[PodWorker] = []
        missing: list[str] = []
        for name in dict.fromkeys(wanted.names):
            try:
                if file := self._pods.static_file(wanted.namespace, name):
                    connection.send({"event": "deleted", "name": name})
                    message = f'pod "{name}" is the static pod of {file} and keeps running: remove that file to end it'
                    connection.send({"event": "warning", "message": message})
                    continue
                going.append(self._pods.delete(wanted.namespace, name, grace_s))
            except NotFoundError as error:
                missing.append(str(error))
        for worker in going:
            if wanted.wait and await or_gone(connection, forgotten(worker, connection)) is None:
                return {}
            connection.send({"event": "deleted", "name": worker.name})
        if missing:
            raise NotFoundError("; ".join(missing))
        return {}

    async def status(self, connection: Connection, request: Message) -> dict[str, Any]:
        return agent.status(self._node, self._pods, self._origin, self._connections(), self._problems)

    async def inspect(self, connection: Connection, request: Message) -> dict[str, Any]:
        from minipod.control.verbs import inspect  # imported late: people look, programs do not

        return await inspect.inspect(self._node, self._pods, request)

    async def usage(self, connection: Connection, request: Message) -> dict[str, Any]:
        from minipod.control.verbs import usage

        return await usage.usage(self._node, request)

    async def shutdown(self, connection: Connection, request: Message) -> dict[str, Any]:
        return agent.shutdown(self._pods, self._origin, request, self._leave)

    async def halt(self, connection: Connection, request: Message) -> dict[str, Any]:
        return await halt(self._node, self._pods, connection, request)

    async def resume(self, connection: Connection, request: Message) -> dict[str, Any]:
        self._pods.resume()
        return {"pods": len(self._pods)}

    async def collect(self, connection: Connection, request: Message) -> dict[str, Any]:
        wanted = converted(request, GcRequest)
        return await collect(self._node, self._pods, connection, dry_run=wanted.dry_run)
