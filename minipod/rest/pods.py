"""Subresources of pods that stream (layer 6): log, exec, attach.

Rules: registry/core/pod/rest/{log,subresources}.go; the kubelet's server. The log is read from its files, as the
kubelet does; commands are the agent's `exec`, whose streams are copied here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from minipod.api.timestamps import seconds_of
from minipod.paths import Paths
from minipod.rest.agent import Agent, AgentUnavailableError, Call, RefusedError
from minipod.rest.log_files import LogOptions, copy_log
from minipod.rest.port_forward import PROTOCOL, TUNNEL, PortForward, Send, SpdyError
from minipod.rest.request_info import RequestInfo
from minipod.rest.status import ApiError, agent_error, success
from minipod.streams.channels import ERROR, PROTOCOLS, RESIZE, STDERR, STDIN, STDOUT, frame_of, message_of
from minipod.streams.descriptors import read_some, write_all
from minipod.streams.http1 import Exchange, Request
from minipod.streams.websocket import WebSocket, WebSocketError

_CHUNK = 64 << 10
_CELLS = (24, 80)  # of a terminal until the client says how large it is
_LAST_OUTPUT_S = 5.0  # for output after the end of a command: what it has left running may hold its streams open
_PIPE_NAMES = ("stdin", "stdout", "stderr")


class PodStreams:
    """One request for a stream of one pod."""

    def __init__(self, agent: Agent, paths: Paths, exchange: Exchange, info: RequestInfo) -> None:
        self._agent = agent
        self._paths = paths
        self._exchange = exchange
        self._request: Request = exchange.request
        self._info = info

    async def _pod(self) -> dict[str, Any]:
        query = {"verb": "get", "kind": "pods", "namespace": self._info.namespace, "name": self._info.name}
        try:
            found, _ = await self._agent.objects({**query, "output": "object"})
        except RefusedError as error:
            raise agent_error(error.error, "pods", self._info.name) from None
        pod: dict[str, Any] = msgspec.json.decode(found[0])
        return pod

    def _container(self, pod: dict[str, Any]) -> str:
        """The one that is named, or the only one. Raises ApiError with the API server's words."""
        spec, name = pod["spec"], pod["metadata"]["name"]
        lists = ("containers", "initContainers", "ephemeralContainers")
        known = {key: [container["name"] for container in spec.get(key, [])] for key in lists}
        wanted = self._request.value("container")
        if not wanted:
            if len(known["containers"]) == 1:
                return str(known["containers"][0])
            choose = (
                f"a container name must be specified for pod {name}, choose one of: [{' '.join(known['containers'])}]"
            )
            if known["initContainers"]:
                choose += f" or one of the init containers: [{' '.join(known['initContainers'])}]"
            raise ApiError(400, choose)
        if not any(wanted in names for names in known.values()):
            raise ApiError(400, f"container {wanted} is not valid for pod {name}")
        return wanted

    # -- logs --------------------------------------------------------------------------------------------------------

    async def log(self) -> None:
        pod = await self._pod()
        options = self._log_options(self._container(pod))
        await copy_log(self._exchange, self._paths, pod, options, self._pod)

    def _log_options(self, container: str) -> LogOptions:
        request = self._request
        numbers: dict[str, int | None] = {}
        for name in ("tailLines", "limitBytes", "sinceSeconds"):
            text = request.value(name)
            try:
                numbers[name] = int(text) if text else None
            except ValueError:
                raise ApiError(400, f"{name}: Invalid value: {text!r}: must be a number") from None
        for name, least in (("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)):
            number = numbers[name]
            if number is not None and number < least:
                raise ApiError(422, f"{name}: Invalid value: {number}: must be greater than or equal to {least}")
        since = seconds_of(request.value("sinceTime")) if request.value("sinceTime") else None
        return LogOptions(
            container,
            follow=request.flag("follow"),
            previous=request.flag("previous"),
            timestamps=request.flag("timestamps"),
            tail=numbers["tailLines"],
            limit_bytes=numbers["limitBytes"],
            since_s=numbers["sinceSeconds"],
            since_time=since,
        )

    # -- commands ----------------------------------------------------------------------------------------------------

    async def exec(self) -> None:
        """A command in a container, over WebSocket. Refused before the upgrade where it cannot be."""
        container = self._container(await self._pod())
        command = self._request.values("command")
        if not command:
            raise ApiError(400, "you must specify at least one command for the container")
        wanted = self._wanted_streams()
        tty = self._request.flag("tty")
        await self._serve_channels(
            lambda socket: self._run(
                socket,
                {
                    "verb": "exec",
                    "namespace": self._info.namespace,
                    "pod": self._info.name,
                    "container": container,
                    "command": command,
                    "tty": list(_CELLS) if tty else None,
                },
                [] if tty else wanted,
            )
        )

    async def attach(self) -> None:
        """The streams of a running container."""
        container = self._container(await self._pod())
        wanted = self._wanted_streams()
        message = {
            "verb": "attach",
            "namespace": self._info.namespace,
            "pod": self._info.name,
            "container": container,
            "stdin": "stdin" in wanted,
        }
        await self._serve_channels(lambda socket: self._run(socket, message, []))

    async def portforward(self) -> None:
        """Connections to ports of the pod, in SPDY streams."""
        await self._pod()
        upgrade = self._request.headers.get("upgrade", "").lower()
        head = head_of(self._request)
        if "websocket" in upgrade:
            reader, writer, rest = await self._exchange.take_over()
            socket = WebSocket(reader, writer)
            with contextlib.suppress(WebSocketError, SpdyError):
                await socket.accept(head + rest, (TUNNEL,))
                await self._forward(socket.send, socket.messages())
                await socket.close()
        elif "spdy/3.1" in upgrade:
            reader, writer, rest = await self._exchange.take_over()
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
                b"X-Stream-Protocol-Version: " + PROTOCOL.encode() + b"\r\n\r\n"
            )
            with contextlib.suppress(SpdyError):
                await self._forward(_sender(writer), _received(reader, rest))
        else:
            raise ApiError(400, "Upgrade request required")

    async def _forward(self, send: Send, received: AsyncIterator[bytes]) -> None:
        await PortForward(self._agent, self._info.namespace, self._info.name, send).run(received)

    def _wanted_streams(self) -> list[str]:
        wanted = [name for name in _PIPE_NAMES if self._request.flag(name)]
        if not wanted:
            raise ApiError(400, "you must specify at least 1 of stdin, stdout, stderr")
        return wanted

    async def _serve_channels(self, run: Callable[[WebSocket], Awaitable[None]]) -> None:
        if "websocket" not in self._request.headers.get("upgrade", "").lower():
            raise ApiError(400, "Upgrade request required")
        head = head_of(self._request)
        reader, writer, rest = await self._exchange.take_over()
        socket = WebSocket(reader, writer)
        with contextlib.suppress(WebSocketError):
            await socket.accept(head + rest, PROTOCOLS)
            try:
                await run(socket)
            except RefusedError as error:
                status = agent_error(error.error, "pods", self._info.name).status
                await socket.send(message_of(ERROR, msgspec.json.encode(status)))
            except AgentUnavailableError as error:
                await socket.send(message_of(ERROR, ApiError(500, f"Internal error occurred: {error}").body))
            await socket.close()

    async def _run(self, socket: WebSocket, message: dict[str, Any], wanted: list[str]) -> None:
        """`wanted`: the streams of a command for which pipes are made; all others come from the agent."""
        pipes = {name: os.pipe2(os.O_CLOEXEC) for name in wanted}
        theirs = {name: ends[0 if name == "stdin" else 1] for name, ends in pipes.items()}
        ours = {name: ends[1 if name == "stdin" else 0] for name, ends in pipes.items()}
        try:
            request = {**message, "fds": list(theirs)} if theirs else message
            async with self._agent.call(request, list(theirs.values())) as call:
                while theirs:
                    os.close(theirs.popitem()[1])
                started = await anext(call.lines())
                ours |= {name: call.fds.pop(0) for name in started.fds if call.fds}
                await _relay(socket, call, ours, is_command=message["verb"] == "exec")
        finally:
            for fd in (*theirs.values(), *ours.values()):
                os.close(fd)


async def _relay(socket: WebSocket, call: Call, streams: dict[str, int], *, is_command: bool) -> None:
    """Copies both ways until the command or the client ends. `streams`: stdin, stdout, stderr, tty; our descriptors.

    `is_command`: its exit status is the answer; the end of a container that was attached to is a success.
    """
    for fd in streams.values():
        os.set_blocking(fd, False)
    sources = {STDOUT: streams.get("stdout", streams.get("tty", -1)), STDERR: streams.get("stderr", -1)}
    out = [asyncio.create_task(_copy_out(socket, channel, fd)) for channel, fd in sources.items() if fd >= 0]
    incoming = asyncio.create_task(_copy_in(socket, streams))
    ending = asyncio.create_task(call.last())
    try:
        await asyncio.wait((ending, incoming), return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            return  # the client is gone: the end of the call ends the command
        code = ending.result().exit_code or 0
        if out:
            await asyncio.wait(out, timeout=_LAST_OUTPUT_S)
        await socket.send(message_of(ERROR, msgspec.json.encode(_exit_status(code if is_command else 0))))
    finally:
        for task in (*out, incoming, ending):
            task.cancel()
        await asyncio.gather(*out, incoming, ending, return_exceptions=True)


def _exit_status(code: int) -> dict[str, Any]:
    if code == 0:
        status = success({})
        del status["details"]
        return status
    causes = [{"reason": "ExitCode", "message": str(code)}]
    message = f"command terminated with non-zero exit code: exit status {code}"
    failure = ApiError(500, message, "NonZeroExitCode", {"causes": causes}).status
    del failure["code"]
    return failure


async def _copy_out(socket: WebSocket, channel: int, fd: int) -> None:
    """Until its end."""
    while data := await read_some(fd):
        await socket.send(message_of(channel, data))


async def _copy_in(socket: WebSocket, streams: dict[str, int]) -> None:
    """What the client sends, until it disconnects. A stdin that it closes is closed, and taken out of `streams`."""
    is_read = True
    async for message in socket.messages():
        frame = frame_of(message)
        if frame is None:
            continue
        if frame.channel == STDIN and frame.is_end:
            if "stdin" in streams:
                os.close(streams.pop("stdin"))
        elif frame.channel == STDIN and is_read:
            fd = streams.get("stdin", streams.get("tty", -1))
            is_read = fd >= 0 and await write_all(fd, frame.data)
        elif frame.channel == RESIZE and "tty" in streams:
            _resize(streams["tty"], frame.data)


def _resize(fd: int, data: bytes) -> None:
    with contextlib.suppress(msgspec.MsgspecError, OSError, KeyError, TypeError, ValueError):
        size = msgspec.json.decode(data)
        termios.tcsetwinsize(fd, (int(size["Height"]), int(size["Width"])))


def _sender(writer: asyncio.StreamWriter) -> Send:
    async def send(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    return send


async def _received(reader: asyncio.StreamReader, rest: bytes) -> AsyncIterator[bytes]:
    if rest:
        yield rest
    while data := await reader.read(_CHUNK):
        yield data


def head_of(request: Request) -> bytes:
    """The request as it came, for the WebSocket library."""
    lines = [f"GET {request.raw_path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
