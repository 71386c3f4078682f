"""Requests for objects (layer 6): get, list, watch, create, update, patch, delete. Each is a request to the agent.

Rules: apiserver's endpoints/handlers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec

from minipod.api.kinds import Kind, kind_of_word
from minipod.rest import protobuf
from minipod.rest.accept import Accepted, accepted
from minipod.rest.agent import Agent, AgentUnavailableError, Call, Line, RefusedError
from minipod.rest.request_info import RequestInfo
from minipod.rest.status import ApiError, agent_error, no_such_path, success
from minipod.rest.tables import partial, table
from minipod.streams.http1 import JSON, Exchange, Request

PATCH_TYPES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
}
YAML = "application/yaml"
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_VALIDATION = {"Strict": "strict", "Warn": "warn", "Ignore": "ignore", "": "warn"}
_SUBRESOURCES = ("", "status", "ephemeralcontainers", "resize")
_MAX_WATCH_S = 3600.0


class DeleteOptions(msgspec.Struct, rename="camel"):
    grace_period_seconds: int | None = None
    preconditions: dict[str, str] = {}
    dry_run: list[str] = []
    propagation_policy: str = ""


def kind_served(info: RequestInfo) -> Kind:
    """Raises ApiError 404 for a resource that is not served."""
    kind = kind_of_word(info.resource)
    if (info.group, info.version) != ("", "v1") or kind is None or kind.plural != info.resource:
        raise no_such_path()
    return kind


class Objects:
    """One request for objects of one kind."""

    def __init__(self, agent: Agent, exchange: Exchange, info: RequestInfo) -> None:
        self._agent = agent
        self._exchange = exchange
        self._request: Request = exchange.request
        self._info = info
        self._kind = kind_served(info)
        if self._kind.namespaced and not info.namespace and info.verb not in ("list", "watch"):
            raise no_such_path()

    async def answer(self) -> None:
        info = self._info
        if info.subresource not in _SUBRESOURCES:
            raise no_such_path()
        if info.verb in ("create", "update", "patch", "delete", "deletecollection") and self._kind.refused:
            raise ApiError(405, "the server does not allow this method on the requested resource")
        try:
            await getattr(self, f"_{info.verb}")()
        except RefusedError as error:
            raise agent_error(error.error, self._kind.plural, info.name) from None

    # -- reading -----------------------------------------------------------------------------------------------------

    def _query(self, **more: Any) -> dict[str, Any]:
        return {
            "verb": "get",
            "kind": self._kind.plural,
            "namespace": self._info.namespace or None,
            "name": self._info.name or None,
            "output": "object",
            "selector": self._request.value("labelSelector"),
            "field_selector": self._request.value("fieldSelector"),
            **more,
        }

    async def _get(self) -> None:
        found, _ = await self._agent.objects(self._query())
        await self._send_object(200, found[0])

    async def _list(self) -> None:
        form = accepted(self._request.headers.get("accept", ""))
        found, version = await self._agent.objects(self._query())
        await self._exchange.respond(200, self._as_list(form, found, version))

    def _as_list(self, form: Accepted, found: list[bytes], version: str) -> bytes:
        if form.form == "Table":
            return msgspec.json.encode(self._table(found, version, titles=True))
        metadata = {"resourceVersion": version}
        if form.form == "PartialObjectMetadata":
            items: list[Any] = [partial(data) for data in found]
            head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
        else:
            items = [msgspec.Raw(data) for data in found]
            head = {"kind": f"{self._kind.name}List", "apiVersion": "v1"}
        return msgspec.json.encode({**head, "metadata": metadata, "items": items})

    def _table(self, found: list[bytes], version: str, *, titles: bool) -> dict[str, Any]:
        include = self._request.value("includeObject", "Metadata")
        if include not in ("None", "Metadata", "Object"):
            raise ApiError(400, f"unrecognized includeObject value: {include!r}")
        return table(self._kind, found, time.time(), version, include, titles=titles)  # type: ignore[arg-type]

    async def _send_object(self, code: int, data: bytes, warnings: tuple[str, ...] = ()) -> None:
        form = accepted(self._request.headers.get("accept", ""))
        if form.form == "Table":
            version = msgspec.json.decode(data)["metadata"].get("resourceVersion", "")
            data = msgspec.json.encode(self._table([data], version, titles=True))
        elif form.form == "PartialObjectMetadata":
            data = msgspec.json.encode(partial(data))
        await self._exchange.respond(code, data, more=[("Warning", _warning(text)) for text in warnings])

    # -- watching ----------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Events until the client is gone, the time is over, or the history has moved past the watch (410)."""
        request = self._request
        form = accepted(request.headers.get("accept", ""))
        version = request.value("resourceVersion")
        with_initial = request.flag("sendInitialEvents")
        query = self._query(
            watch=True,
            bookmarks=request.flag("allowWatchBookmarks"),
            resource_version="" if with_initial or version in ("", "0") else version,
        )
        timeout_s = min(float(request.value("timeoutSeconds") or _MAX_WATCH_S), _MAX_WATCH_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._agent.call(query) as call:
                await self._follow(call, form, with_initial)
        if self._exchange.is_answered:
            await self._exchange.end()

    async def _follow(self, call: Call, form: Accepted, with_initial: bool) -> None:
        lines = self._until_gone(call)
        line = await anext(lines, None)  # an error of the request is an answer, not an event
        await self._exchange.begin("application/json")
        first, listed = True, not with_initial
        try:
            while line is not None:
                if line.event == "object":
                    await self._event(line.type, self._as_event(form, line.data, first))
                    first = False
                elif line.event == "bookmark" and (not listed or self._request.flag("allowWatchBookmarks")):
                    await self._event("BOOKMARK", self._bookmark(line.resource_version, initial=not listed))
                    listed = True
                line = await anext(lines, None)
        except RefusedError as error:
            status = agent_error(error.error, self._kind.plural, self._info.name).status
            await self._event("ERROR", status)
        except AgentUnavailableError:
            return  # the client watches again

    async def _until_gone(self, call: Call) -> AsyncIterator[Line]:
        """The lines of the call while the client is there."""
        lines = call.lines()
        while True:
            coming = asyncio.ensure_future(anext(lines))
            await asyncio.wait((coming, self._exchange.gone), return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                return
            try:
                yield coming.result()
            except StopAsyncIteration:
                return

    def _as_event(self, form: Accepted, data: bytes, first: bool) -> Any:
        if form.form == "Table":
            return self._table([data], "", titles=first)
        return partial(data) if form.form == "PartialObjectMetadata" else msgspec.Raw(data)

    def _bookmark(self, version: str, *, initial: bool) -> dict[str, Any]:
        metadata: dict[str, Any] = {"resourceVersion": version, "creationTimestamp": None}
        if initial:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        return {"kind": self._kind.name, "apiVersion": "v1", "metadata": metadata}

    async def _event(self, type_: str, thing: Any) -> None:
        await self._exchange.send(msgspec.json.encode({"type": type_, "object": thing}) + b"\n")

    # -- writing -----------------------------------------------------------------------------------------------------

    def _target(self, version: str = "") -> dict[str, Any]:
        info = self._info
        return {
            "kind": self._kind.plural,
            "namespace": info.namespace or "default",
            "name": info.name,
            "resource_version": version,
        }

    def _options(self) -> dict[str, Any]:
        validation = self._request.value("fieldValidation")
        if validation not in _VALIDATION:
            raise ApiError(422, f'fieldValidation: Unsupported value: "{validation}"')
        return {"validation": _VALIDATION[validation], "dry_run": self._is_dry_run(self._request.values("dryRun"))}

    @staticmethod
    def _is_dry_run(values: list[str]) -> bool:
        if any(value != "All" for value in values):
            raise ApiError(422, f'dryRun: Unsupported value: "{values[0]}": supported values: "All"')
        return bool(values)

    async def _create(self) -> None:
        if self._info.name:
            raise no_such_path()
        request = {
            "verb": "object.create",
            "kind": self._kind.plural,
            "namespace": self._info.namespace or "default",
            "text": text_sent(self._request),
            **self._options(),
        }
        line = await self._agent.ask(request)
        await self._send_object(201, line.data, line.warnings)

    async def _update(self) -> None:
        request = {
            "verb": "object.update",
            "target": self._target(),
            "text": text_sent(self._request),
            "subresource": self._info.subresource,
            **self._options(),
        }
        line = await self._agent.ask(request)
        await self._send_object(200, line.data, line.warnings)

    async def _patch(self) -> None:
        media = self._request.media_type
        if media not in PATCH_TYPES:
            raise _unsupported(PATCH_TYPES)
        try:
            patch = msgspec.json.decode(self._request.body)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ApiError(400, f"error decoding patch: {error}") from None
        request = {
            "verb": "object.patch",
            "target": self._target(),
            "patch": patch,
            "type": PATCH_TYPES[media],
            "subresource": self._info.subresource,
            "dry_run": self._options()["dry_run"],
        }
        line = await self._agent.ask(request)
        await self._send_object(200, line.data)

    async def _delete(self) -> None:
        line = await self._deleted(self._info.name, self._delete_options())
        if line.exists:
            await self._send_object(200, line.data)
            return
        uid = msgspec.json.decode(line.data)["metadata"].get("uid", "")
        details = {"name": self._info.name, "kind": self._kind.plural, "uid": uid}
        await self._exchange.respond(200, msgspec.json.encode(success(details)))

    async def _deletecollection(self) -> None:
        options = self._delete_options()
        found, _ = await self._agent.objects(self._query())
        for data in found:
            with contextlib.suppress(RefusedError):  # it is gone already
                await self._deleted(msgspec.json.decode(data)["metadata"]["name"], options)
        await self._exchange.respond(200, self._as_list(Accepted(), found, ""))

    async def _deleted(self, name: str, options: DeleteOptions) -> Line:
        target = {**self._target(options.preconditions.get("resourceVersion", "")), "name": name}
        return await self._agent.ask(
            {
                "verb": "object.delete",
                "target": target,
                "uid": options.preconditions.get("uid", ""),
                "grace_period": options.grace_period_seconds,
                "dry_run": self._is_dry_run(options.dry_run or self._request.values("dryRun")),
            }
        )

    def _delete_options(self) -> DeleteOptions:
        """Of the body, or else of the query."""
        body = self._request.body
        try:
            if body and self._request.media_type == protobuf.MEDIA_TYPE:
                options = msgspec.convert(_of_protobuf(body), DeleteOptions)
            else:
                options = msgspec.json.decode(body or b"{}", type=DeleteOptions)
            if (text := self._request.value("gracePeriodSeconds")) and options.grace_period_seconds is None:
                options.grace_period_seconds = int(text)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ApiError(400, f"DeleteOptions: {error}") from None
        if options.grace_period_seconds is not None and options.grace_period_seconds < 0:
            options.grace_period_seconds = 1  # apiserver: negative values are one second
        return options


def text_sent(request: Request) -> str:
    """The object in the body, as JSON or YAML. Raises ApiError."""
    media = request.media_type or JSON
    if media == protobuf.MEDIA_TYPE:
        return msgspec.json.encode(_of_protobuf(request.body)).decode()
    if media not in (JSON, YAML):
        raise _unsupported((JSON, YAML, protobuf.MEDIA_TYPE))
    try:
        return request.body.decode()
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the body of the request is not UTF-8: {error.reason}") from None


def object_sent(request: Request) -> dict[str, Any]:
    """The object in the body as data, JSON or protobuf. Raises ApiError."""
    if request.media_type == protobuf.MEDIA_TYPE:
        return _of_protobuf(request.body)
    try:
        found: dict[str, Any] = msgspec.json.decode(request.body, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ApiError(400, str(error)) from None
    return found


def _of_protobuf(body: bytes) -> dict[str, Any]:
    try:
        return protobuf.decode(body)
    except protobuf.ProtobufError as error:
        raise ApiError(400, str(error)) from None


def _unsupported(accepted_types: Iterable[str]) -> ApiError:
    types = ", ".join(accepted_types)
    return ApiError(415, f"the body of the request was in an unknown format - accepted media types include: {types}")


def _warning(text: str) -> str:
    """RFC 7234's field, with what cannot be in it left out."""
    quoted = (
        "".join(character for character in text if character.isprintable()).replace("\\", "\\\\").replace('"', '\\"')
    )
    return f'299 - "{quoted}"'.encode("ascii", "replace").decode()
