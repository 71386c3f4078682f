"""A container's log as `pods/log` answers it (layer 6): the lines of its files, followed across rotation.

Rules: the kubelet's kuberuntime/logs (which lines, which instance); registry/core/pod/rest/log.go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from minipod.paths import Paths
from minipod.rest.status import ApiError
from minipod.runtime.log_history import OpenLog, at_once
from minipod.streams import crilog
from minipod.streams.crilog import Follower, Joiner, Line
from minipod.streams.http1 import Exchange
from minipod.streams.log_instance import NoLogError, has_ended, instance

_LOOK_S = 0.1  # how often a followed log is read
_STATUS_S = 0.5  # how often the pod is asked for, to see whether the container has ended

FindPod = Callable[[], Awaitable[dict[str, Any]]]


class LogOptions(NamedTuple):
    """v1 PodLogOptions."""

    container: str
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail: int | None = None
    limit_bytes: int | None = None
    since_s: int | None = None
    since_time: float | None = None


class _Printer:
    """Chunks of a log to what is sent. `left`: bytes that may still be sent; None: no limit."""

    def __init__(self, options: LogOptions) -> None:
        self._timestamps = options.timestamps
        self._since = b""
        since = time.time() - options.since_s if options.since_s is not None else options.since_time
        if since is not None:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since)) + f".{int(since % 1 * 1e9):09d}Z"
            self._since = crilog.stamp_key(stamp.encode())
        self.left = options.limit_bytes
        self._joiner = Joiner()

    def text(self, data: bytes) -> bytes:
        if not self._timestamps and not self._since:
            return self._cut(crilog.plain_text(data))
        return self._joined(self._joiner.feed(crilog.parse(data)))

    def rest(self) -> bytes:
        return self._joined(self._joiner.flush())

    def _joined(self, lines: Iterator[Line]) -> bytes:
        texts = []
        for line in lines:
            if self._since and crilog.stamp_key(line.stamp) < self._since:
                continue
            stamp = line.stamp + b" " if self._timestamps else b""
            texts.append(stamp + line.text + (b"\n" if line.whole else b""))
        return self._cut(b"".join(texts))

    def _cut(self, text: bytes) -> bytes:
        if self.left is None:
            return text
        text = text[: self.left]
        self.left -= len(text)
        return text


async def copy_log(
    exchange: Exchange, paths: Paths, pod: dict[str, Any], options: LogOptions, find_pod: FindPod
) -> None:
    """Answers with the log. Raises ApiError before anything was sent."""
    metadata = pod["metadata"]
    try:
        number = instance(pod, options.container, options.previous)
    except NoLogError as error:
        raise ApiError(400, str(error)) from None
    directory = paths.pod_log_directory(metadata["namespace"], metadata["name"], metadata["uid"])
    path = f"{directory}/{options.container}/{number}.log"
    await exchange.begin("text/plain")
    printer = _Printer(options)
    if options.follow and not options.previous:
        await _follow(exchange, path, options, printer, number, find_pod)
    else:
        with at_once(path) as files:
            pieces = (data for file, start in _chosen(files, options) for data in file.chunks(start))
            for data in pieces:
                await _send(exchange, printer.text(data if data.endswith(b"\n") else data + b"\n"))
                if printer.left == 0:
                    break
    await _send(exchange, printer.rest())
    await exchange.end()


def _chosen(files: list[OpenLog], options: LogOptions) -> list[tuple[OpenLog, int]]:
    """What is to be sent, and the offsets where it begins."""
    return crilog.tail(files, options.tail) if options.tail is not None else [(file, 0) for file in files]


async def _send(exchange: Exchange, text: bytes) -> None:
    if text:
        await exchange.send(text)


async def _follow(
    exchange: Exchange, path: str, options: LogOptions, printer: _Printer, number: int, find_pod: FindPod
) -> None:
    """Until the container has ended and all of its log was sent, or the client is gone."""
    follower = Follower(path)
    try:
        with at_once(path) as files:
            chosen = _chosen(files, options)
            follower.begin(files, next((start for file, start in chosen if file.path == path), 0))
            for file, start in chosen:
                if file.path != path:
                    for data in file.chunks(start):
                        await _send(exchange, printer.text(data))
        looked = 0.0
        ended = False
        while printer.left != 0 and not exchange.gone.done():
            for data in follower.read():
                await _send(exchange, printer.text(data))
            if ended:
                if rest := follower.remainder():
                    await _send(exchange, printer.text(rest + b"\n"))
                return
            if time.monotonic() - looked > _STATUS_S:
                looked = time.monotonic()
                ended = await _has_ended(options.container, number, find_pod)
                if ended:
                    continue
            await asyncio.wait((exchange.gone,), timeout=_LOOK_S)
    finally:
        follower.close()


async def _has_ended(container: str, number: int, find_pod: FindPod) -> bool:
    try:
        return has_ended(await find_pod(), container, number)
    except ApiError:  # the pod is gone
        return True
