"""Subresources of pods that stream (layer 6): log, exec, attach.

Rules: registry/core/pod/rest/{log,subresources}.go; the kubelet's server. The log is read from its files, as the
kubelet does; commands are the agent's `exec`, whose streams are copied here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

import msgspec

from minipod.api.timestamps import seconds_of
from minipod.paths import Paths
from minipod.rest.agent import Agent, AgentUnavailableError, Call, RefusedError
from minipod.rest.log_files import LogOptions, copy_log
from minipod.rest.request_info import RequestInfo
from minipod.rest.status import ApiError, agent_error, success
from minipod.streams.channels import ERROR, RESIZE, STDERR, STDIN, STDOUT, Channels, ChannelsError
from minipod.streams.http1 import Exchange, Request

_CHUNK = 64 << 10
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
            async with self._agent.call({**query, "output": "object"}) as call:
                found = [line.data async for line in call.lines() if line.event == "object"]
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
        """A command in a container, over WebSocket. Rejected before the upgrade where it cannot be."""
        container = self._container(await self._pod())
        command = self._request.values("command")
        if not command:
            raise ApiError(400, "you must specify at least one command for the container")
        wanted = [name for name in _PIPE_NAMES if self._request.flag(name)]
        if not wanted:
            raise ApiError(400, "you must specify at least 1 of stdin, stdout, stderr")
        tty = self._request.flag("tty")
        await self._stream(
            {
                "verb": "exec",
                "namespace": self._info.namespace,
                "pod": self._info.name,
                "container": container,
                "command": command,
                "tty": [24, 80] if tty else None,
            },
            [name for name in wanted if not (tty and name == "stderr")],
        )

    async def _stream(self, message: dict[str, Any], wanted: list[str]) -> None:
        if "websocket" not in self._request.headers.get("upgrade", "").lower():
            raise ApiError(400, "Upgrade request required")
        head = _head_of(self._request)
        reader, writer, rest = await self._exchange.take_over()
        channels = Channels(reader, writer)
        with contextlib.suppress(ChannelsError):
            await channels.accept(head + rest)
            try:
                await self._run(channels, message, wanted)
            except RefusedError as error:
                status = agent_error(error.error, "pods", self._info.name).status
                await channels.send(ERROR, msgspec.json.encode(status))
            except AgentUnavailableError as error:
                await channels.send(ERROR, ApiError(500, f"Internal error occurred: {error}").body)
            await channels.close()

    async def _run(self, channels: Channels, message: dict[str, Any], wanted: list[str]) -> None:
        tty = message["tty"] is not None
        pipes = {} if tty else {name: os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) for name in wanted}
        theirs = [pipes[name][0 if name == "stdin" else 1] for name in pipes]
        for fd in theirs:
            os.set_blocking(fd, True)
        ours = {name: pipes[name][1 if name == "stdin" else 0] for name in pipes}
        try:
            async with self._agent.call({**message, "fds": list(pipes)}, theirs) as call:
                for fd in theirs:
                    os.close(fd)
                theirs = []
                await self._relay(channels, call, ours, tty=tty)
        finally:
            for fd in (*theirs, *ours.values()):
                os.close(fd)

    async def _relay(self, channels: Channels, call: Call, ours: dict[str, int], *, tty: bool) -> None:
        lines = call.lines()
        started = await anext(lines)
        if tty and started.event == "started":
            terminal = call.fds.pop(0)
            os.set_blocking(terminal, False)
            ours |= {"terminal": terminal}
        out = [
            asyncio.create_task(_copy_out(channels, channel, ours[name]))
            for name, channel in (("stdout", STDOUT), ("stderr", STDERR), ("terminal", STDOUT))
            if name in ours
        ]
        sink = ours.get("stdin", ours.get("terminal", -1))
        incoming = asyncio.create_task(_copy_in(channels, sink, tty=tty, ours=ours))
        try:
            ending = asyncio.create_task(call.last())
            done, _ = await asyncio.wait((ending, incoming), return_when=asyncio.FIRST_COMPLETED)
            if ending not in done:  # the client is gone: closing the call kills the command
                ending.cancel()
                return
            code = ending.result().exit_code
            if out:
                await asyncio.wait(out, timeout=5.0)
            await channels.send(ERROR, msgspec.json.encode(_exit_status(code or 0)))
        finally:
            for task in (*out, incoming):
                task.cancel()
            await asyncio.gather(*out, incoming, return_exceptions=True)


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


async def _copy_out(channels: Channels, channel: int, fd: int) -> None:
    """Until its end."""
    while data := await _read(fd):
        await channels.send(channel, data)


async def _copy_in(channels: Channels, fd: int, *, tty: bool, ours: dict[str, int]) -> None:
    """What the client sends, until it disconnects."""
    async for frame in channels.frames():
        if frame.channel == STDIN and fd >= 0:
            if frame.is_end:
                if not tty and "stdin" in ours:
                    os.close(ours.pop("stdin"))
                    fd = -1
            elif frame.data and not await _write(fd, frame.data):
                fd = -1
        elif frame.channel == RESIZE and tty:
            _resize(ours["terminal"], frame.data)


def _resize(fd: int, data: bytes) -> None:
    import termios

    with contextlib.suppress(msgspec.MsgspecError, OSError, KeyError, TypeError, ValueError):
        size = msgspec.json.decode(data)
        termios.tcsetwinsize(fd, (int(size["Height"]), int(size["Width"])))


async def _read(fd: int) -> bytes:
    """Empty at the end."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return os.read(fd, _CHUNK)
        except BlockingIOError:
            await _ready(loop.add_reader, loop.remove_reader, fd)
        except OSError:  # EIO: no process has the terminal open any more
            return b""


async def _write(fd: int, data: bytes) -> bool:
    """False where no process reads it."""
    loop = asyncio.get_running_loop()
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            await _ready(loop.add_writer, loop.remove_writer, fd)
        except OSError:
            return False
    return True


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _ready(add: Any, remove: Any, fd: int) -> None:
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    add(fd, _set, ready)
    try:
        await ready
    finally:
        remove(fd)


def _head_of(request: Request) -> bytes:
    """The request as it came, for the WebSocket library."""
    lines = [f"GET {request.raw_path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
