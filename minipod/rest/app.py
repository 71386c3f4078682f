"""From a request to its answer (layer 6): who asks, whether they may, which handler answers; every error a Status."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from minipod.paths import Paths
from minipod.rest import discovery
from minipod.rest.accept import accepted
from minipod.rest.agent import Agent, AgentUnavailableError
from minipod.rest.identity import User, check_allowed, user_of
from minipod.rest.objects import Objects, object_sent
from minipod.rest.pods import PodStreams
from minipod.rest.request_info import RequestInfo, request_info
from minipod.rest.reviews import Review, review_of
from minipod.rest.status import ApiError, no_such_path
from minipod.streams.http1 import Exchange

log = logging.getLogger("minipod.rest")

_STREAMS = ("log", "exec", "attach", "portforward")


class App:
    """Answers requests. `tokens`: the users of bearer tokens."""

    def __init__(self, agent: Agent, paths: Paths, tokens: Mapping[str, User]) -> None:
        self._agent = agent
        self._paths = paths
        self._tokens = tokens

    async def __call__(self, exchange: Exchange) -> None:
        try:
            await self._answer(exchange)
        except ApiError as error:
            await self._refuse(exchange, error)
        except AgentUnavailableError as error:
            await self._refuse(exchange, ApiError(503, str(error)))
        except (OSError, TimeoutError):
            raise  # the client is gone
        except Exception:
            log.exception("%s %.200s", exchange.request.method, exchange.request.path)
            await self._refuse(exchange, ApiError(500, "Internal error occurred: see the log of minipod serve"))

    async def _refuse(self, exchange: Exchange, error: ApiError) -> None:
        if exchange.is_answered:
            raise OSError("the answer had begun")  # closing the connection is all that is left to say
        await exchange.respond(error.code, error.body)

    async def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        if "/../" in request.path or "\0" in request.path or "%2f" in request.raw_path.lower():
            raise ApiError(400, "the path of the request is not valid")
        info = request_info(request.method, request.path, request.flag("watch"))
        user = user_of(request.peer, request.headers.get("authorization", ""), self._tokens)
        check_allowed(user, info)
        if not info.is_resource:
            await self._answer_path(exchange, info)
        elif (review := review_of(info)) is not None:
            await self._review(exchange, info, user, review)
        elif info.resource == "pods" and info.subresource in _STREAMS and info.name:
            await getattr(PodStreams(self._agent, self._paths, exchange, info), info.subresource)()
        else:
            await Objects(self._agent, exchange, info).answer()

    async def _review(self, exchange: Exchange, info: RequestInfo, user: User, review: Review) -> None:
        if info.verb != "create" or info.name:
            raise ApiError(405, "the server does not allow this method on the requested resource")
        asked = object_sent(exchange.request)
        if asked.get("kind") != review.kind:
            raise ApiError(400, f"the object provided is unrecognized (must be of type {review.kind})")
        answer = {**asked, "status": review.answer(user, asked)}
        await exchange.respond(201, msgspec.json.encode(answer))

    async def _answer_path(self, exchange: Exchange, info: RequestInfo) -> None:
        if info.verb not in ("get", "head"):
            raise ApiError(405, "the server does not allow this method on the requested resource")
        path = info.path.rstrip("/") or "/"
        if path in ("/livez", "/readyz", "/healthz"):
            await exchange.respond(200, b"ok", "text/plain")
            return
        if path == "/openapi/v3/api/v1":
            await exchange.respond(200, discovery.openapi_v1())
            return
        wanted = accepted(exchange.request.headers.get("accept", ""))
        is_aggregated = wanted.kind == discovery.AGGREGATED
        body: dict[str, Any]
        match path:
            case "/":
                body = {"paths": ["/api", "/api/v1", "/apis", "/livez", "/openapi/v3", "/readyz", "/version"]}
            case "/version":
                body = discovery.version()
            case "/api":
                body = discovery.aggregated(wanted.group_version) if is_aggregated else discovery.api_versions()
            case "/apis":
                body = discovery.aggregated_groups(wanted.group_version) if is_aggregated else discovery.api_groups()
            case "/api/v1":
                body = discovery.resource_list()
            case "/openapi/v3":
                body = discovery.openapi_index()
            case _:
                found = discovery.group_path(path)
                if found is None:
                    raise no_such_path()
                body = found
        media = "application/json"
        if body.get("kind") == discovery.AGGREGATED:
            media = f"application/json;g=apidiscovery.k8s.io;v={wanted.group_version};as={discovery.AGGREGATED}"
        await exchange.respond(200, msgspec.json.encode(body), media)
