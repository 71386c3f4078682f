"""`minipod logs` (layer 6): reads log files itself; the agent names them, and reports when a container ended."""

from __future__ import annotations

import argparse
import fcntl
import os
import select
import sys
import time
from collections.abc import Iterator

from minipod.cli import two
from minipod.cli.client import AgentLostError, Client, Request
from minipod.cli.options import duration_s, integer, namespace_of, one_pod, paths_of
from minipod.cli.pods import all_containers, check_container, default_container, get_pod
from minipod.cli.show.output import flush, write
from minipod.cli.values import Object
from minipod.cli.watching import Watching
from minipod.errors import ExpiredError, NotFoundError, UsageError
from minipod.kernel import inotify
from minipod.runtime.log_history import OpenLog, at_once
from minipod.streams import crilog, log_instance
from minipod.streams.crilog import Follower, Joiner
from minipod.terminal import behind

SELECTED_TAIL = 10  # lines of each container, where pods are chosen by labels
PIPE_BYTES = 1 << 20
WATCHED = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_MOVED_FROM


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print the logs of a container of a pod, read from the log files (rotated ones too)."
    parser.add_argument("pod", nargs="?", metavar="POD", help="the pod: NAME or pod/NAME")
    parser.add_argument("inline", nargs="?", metavar="CONTAINER", help="the container, as with -c")
    parser.add_argument("-c", "--container", metavar="C", help="the container; default: the annotated or first one")
    parser.add_argument("-l", "--selector", metavar="KEY=VALUE,…", help="the pods with these labels, 10 lines of each")
    parser.add_argument("-f", "--follow", action="store_true", help="follow the log until the container ends")
    parser.add_argument("-p", "--previous", action="store_true", help="the instance before the last restart")
    parser.add_argument("--tail", type=integer, metavar="N", help="only the last N lines; -1 for all (the default)")
    parser.add_argument("--since", metavar="D", help="only what is newer than a duration: 5s, 2m, 3h")
    parser.add_argument("--since-time", metavar="T", help="only what is newer than a time: 2026-01-02T15:04:05Z")
    parser.add_argument("--timestamps", action="store_true", help="the time in front of each line")
    parser.add_argument("--all-containers", action="store_true", help="the logs of all containers of the pod")
    parser.add_argument(
        "--all-pods",
        action="store_true",
        help="the logs of all pods of the namespace, or of those of -l; with --prefix",
    )
    parser.add_argument("--prefix", action="store_true", help="[pod/NAME/CONTAINER] in front of each line")
    parser.add_argument("--limit-bytes", type=integer, default=0, metavar="N", help="at most so many bytes")
    parser.add_argument(
        "--max-log-requests", type=integer, default=5, metavar="N", help="at most so many containers at once with -f"
    )
    parser.add_argument(
        "--ignore-errors", action="store_true", help="print why a log cannot be read, and go on with the others"
    )
    parser.add_argument(
        "--pod-running-timeout", default="20s", metavar="D", help="with -f: wait so long for a container to start (20s)"
    )


def run(args: argparse.Namespace) -> int:
    check(args)
    client = Client.of(args, "logs")
    pods = chosen_pods(client, args)
    if not pods:
        print(f"No resources found in {namespace_of(args)} namespace.", file=sys.stderr)
        return 0
    sources = list(opened(client, args, pods))
    if args.follow and len(sources) > args.max_log_requests:
        raise UsageError(
            f"you are attempting to follow {len(sources)} log streams, but maximum allowed concurrency is "
            f"{args.max_log_requests}, use --max-log-requests to increase the limit"
        )
    if args.follow:
        follow(client, sources)
    else:
        widen_pipe(1)
        for source in sources:
            source.print_all()
    return 0


def opened(client: Client, args: argparse.Namespace, pods: list[Object]) -> Iterator[Source]:
    """The logs that are meant. Raises NotFoundError for one that there is not, unless errors are ignored."""
    deadline = time.monotonic() + duration_s(args.pod_running_timeout)
    for pod in pods:
        for container in chosen_containers(args, pod):
            try:
                yield Source(args, started(client, args, pod, container, deadline), container)
            except NotFoundError as error:
                if not args.ignore_errors:
                    raise
                print(f"error: {error}", file=sys.stderr)


def started(client: Client, args: argparse.Namespace, pod: Object, container: str, deadline: float) -> Object:
    """The pod as it is; with -f once the container has started, or the time is up (kubectl asks again until then)."""
    if not args.follow or args.all_containers or instance(pod, container, args.previous, lenient=True) >= 0:
        return pod
    meta = pod["metadata"]
    message: Object = {"verb": "get", "kind": "pods", "namespace": meta.get("namespace", "default")}
    with Watching(client, {**message, "name": meta["name"], "output": "object"}) as watch:
        while (event := watch.next(deadline)) is not None:
            pod = event.get("object") or pod
            if event["type"] == "DELETED" or instance(pod, container, args.previous, lenient=True) >= 0:
                break
    return pod


def widen_pipe(fd: int) -> None:
    """A reader that is woken for each 64 KiB costs a quarter of the speed."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        pass  # no pipe, or its user may not have a larger one


def check(args: argparse.Namespace) -> None:
    if args.inline:
        if args.container:
            raise UsageError("only one of -c or an inline [CONTAINER] arg is allowed")
        args.container = args.inline
    if args.all_containers and args.container:
        raise UsageError(f"--all-containers=true should not be specified with container name {args.container}")
    if args.since and args.since_time:
        raise UsageError("at most one of --since-time and --since may be used")
    if args.pod and args.selector:
        raise UsageError("only a selector (-l) or a POD name is allowed")
    if not (args.pod or args.selector or args.all_pods):
        raise UsageError("logs: give a pod, or pods by -l or --all-pods: minipod logs POD [-c CONTAINER]")
    args.prefix = args.prefix or args.all_pods
    if args.max_log_requests < 1:
        raise UsageError("--max-log-requests must be at least 1")
    if args.tail is None:
        args.tail = SELECTED_TAIL if args.selector else -1
    if args.tail < -1:
        raise UsageError("--tail must be greater than or equal to -1")
    if args.limit_bytes < 0:
        raise UsageError("--limit-bytes must be greater than 0")
    args.since_key = since_key(args)


def since_key(args: argparse.Namespace) -> bytes:
    """The earliest time to show, as it sorts among stamps; empty for all."""
    if not args.since and not args.since_time:
        return b""
    from datetime import UTC, datetime, timedelta

    if args.since:
        seconds = duration_s(args.since)
        if seconds <= 0:
            raise UsageError("--since must be greater than 0")
        moment = datetime.now(UTC) - timedelta(seconds=seconds)
    else:
        try:
            moment = datetime.fromisoformat(args.since_time)
        except ValueError:
            raise UsageError(f'--since-time: "{args.since_time}" is no RFC 3339 time') from None
        if moment.tzinfo is None:
            raise UsageError(f'--since-time: "{args.since_time}" has no time zone: end it with Z or +01:00')
        moment = moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f").encode()


def chosen_pods(client: Client, args: argparse.Namespace) -> list[Object]:
    """The named one, those with the labels, or all. Raises NotFoundError."""
    if args.pod:
        return [get_pod(client, namespace_of(args), one_pod(args.pod))]
    from minipod.cli.fetching import fetch

    message: Object = {"verb": "get", "kind": "pods", "namespace": namespace_of(args), "name": None}
    return fetch(args, {**message, "output": "object", "selector": args.selector or ""})


def chosen_containers(args: argparse.Namespace, pod: Object) -> list[str]:
    if args.all_containers:
        return [name for name, _ in all_containers(pod)]
    if args.container:
        return [check_container(pod, args.container)]
    return [default_container(pod)]


class Source:
    """One container's log and how it is printed."""

    def __init__(self, args: argparse.Namespace, pod: Object, container: str) -> None:
        meta = pod["metadata"]
        self.container = container
        self.pod, self.uid, self.namespace = meta["name"], meta["uid"], meta.get("namespace", "default")
        self._args = args
        self._since = args.since_key
        self._left = args.limit_bytes or None
        self._is_terminal = os.isatty(1)
        self._prefix = f"[pod/{meta['name']}/{container}] ".encode() if args.prefix else b""
        self._joiner = Joiner()
        self._in_line = False
        self.ended = False
        self.attempt = instance(pod, container, args.previous, lenient=args.all_containers)
        logs = paths_of(args).pod_log_directory(self.namespace, self.pod, self.uid)
        self.folder = f"{logs}/{container}"
        self.path = f"{self.folder}/{self.attempt}.log"
        self._follower: Follower | None = None

    def _to_print(self, files: list[OpenLog]) -> list[tuple[OpenLog, int]]:
        """The files to print, oldest first, with the offset where to begin."""
        if self._args.tail >= 0:
            return crilog.tail(files, self._args.tail)
        return [(file, 0) for file in files]

    def print_all(self) -> None:
        if self.attempt >= 0:
            with at_once(self.path) as files:
                for file, start in self._to_print(files):
                    self._print_file(file, start)
        self.finish()

    def _print_file(self, file: OpenLog, start: int) -> None:
        if self._plain and not self._since and self._left is None and two.is_worth_it(file, start):
            flush(1)
            two.print_in_two(file, start, crilog.plain_text, self._write)
            return
        for data in file.chunks(start):
            self._print(data if data.endswith(b"\n") else data + b"\n")

    def start_following(self) -> None:
        """Print what there is of older files; the newest is then read as it grows."""
        if self.attempt < 0:
            return
        self._follower = Follower(self.path)
        with at_once(self.path) as files:
            chosen = self._to_print(files)
            self._follower.begin(files, next((start for file, start in chosen if file.path == self.path), 0))
            for file, start in chosen:
                if file.path != self.path:
                    for data in file.chunks(start):
                        self._print(data)

    def print_new(self) -> None:
        if self._follower is not None:
            for data in self._follower.read():
                self._print(data)

    def finish(self) -> None:
        """The last, unfinished line."""
        if self._follower is not None:
            rest = self._follower.remainder()
            if rest:
                self._print(rest + b"\n")
            self._follower.close()
        self.ended = True
        if self._plain:
            return
        for line in self._joiner.flush():
            self._write(self._decorated(line))

    @property
    def _plain(self) -> bool:
        return not (self._prefix or self._args.timestamps)

    def _print(self, data: bytes) -> None:
        if self._since:
            data = self._newer(data)
            if not data:
                return
        if self._plain:
            self._write(crilog.plain_text(data))
            return
        text = None
        if self._joiner.is_idle and not self._in_line and not (self._prefix and self._is_terminal):
            text = crilog.decorated_text(data, self._prefix, self._args.timestamps)
        if text is None:
            text = b"".join(map(self._decorated, self._joiner.feed(crilog.parse(data))))
        self._write(text)

    def _newer(self, data: bytes) -> bytes:
        """What is not older than --since; lines are in order, so the first new one ends the search."""
        last = data[data.rfind(b"\n", 0, -1) + 1 :].split(b" ", 1)[0]
        if crilog.stamp_key(last) < self._since:
            return b""
        offset = 0
        for raw in data.split(b"\n"):
            if crilog.stamp_key(raw.split(b" ", 1)[0]) >= self._since:
                break
            offset += len(raw) + 1
        self._since = b""
        return data[offset:]

    def _decorated(self, line: crilog.Line) -> bytes:
        start = b"" if self._in_line else self._prefix + (line.stamp + b" " if self._args.timestamps else b"")
        self._in_line = not line.whole
        text = behind(self._prefix, line.text) if self._prefix and self._is_terminal else line.text
        return start + text + (b"\n" if line.whole else b"")

    def _write(self, data: bytes) -> None:
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
            self.ended = self.ended or not self._left
        write(1, data)


def instance(pod: Object, container: str, previous: bool, lenient: bool = False) -> int:
    """The restart count of the instance whose log is meant. Raises NotFoundError.

    -1 where there is none and `lenient` (one of --all-containers that has not run).
    """
    try:
        return log_instance.instance(pod, container, previous)
    except log_instance.NoLogError as error:
        if lenient:
            return -1
        raise NotFoundError(str(error)) from None


def has_ended(pod: Object, source: Source) -> bool:
    """Whether the instance that is followed has ended: nothing more will be logged."""
    return log_instance.has_ended(pod, source.container, source.attempt)


def follow(client: Client, sources: list[Source]) -> None:
    """Print until every container followed has ended. The kernel reports when a file grew, the agent when one ended."""
    pods = {source.pod for source in sources}
    message = {"verb": "get", "kind": "pods", "namespace": sources[0].namespace, "output": "object", "watch": True}
    message["name"] = pods.pop() if len(pods) == 1 else None
    with inotify.Inotify() as watches:
        for source in sources:
            if os.path.isdir(source.folder):
                watches.add_watch(source.folder, WATCHED)
            source.start_following()
        while not all(source.ended for source in sources):
            try:
                with client.request(message) as request:
                    follow_with(request, watches, sources)
            except (AgentLostError, ExpiredError):
                continue  # it was replaced or killed, or we are late: the pod keeps running, so a new watch is started
            except NotFoundError:
                finish_all(sources)


def follow_with(request: Request, watches: inotify.Inotify, sources: list[Source]) -> None:
    """Follow as long as this connection lives. Raises AgentError when it ends."""
    listed: set[str] = set()
    while True:
        for source in sources:
            if not source.ended:
                source.print_new()
        if all(source.ended for source in sources):
            return
        poll = select.poll()
        poll.register(watches, select.POLLIN)
        poll.register(request, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        if watches.fileno() in ready:
            watches.read()
        if request.fileno() in ready:
            request.fill()
            end_what_ended(request, sources, listed)
            if request.result is not None:
                finish_all(sources)


def finish_all(sources: list[Source]) -> None:
    for source in sources:
        if not source.ended:
            source.print_new()
            source.finish()


def end_what_ended(request: Request, sources: list[Source], listed: set[str]) -> None:
    """Read the agent's messages: a log whose container ended is printed to its end.

    `listed`: the uids of the pods that were there; a pod that is not among them went while no agent was asked.
    """
    while (event := request.poll()) is not None:
        if event["event"] == "bookmark":
            finish_all([source for source in sources if source.uid not in listed])
        if event["event"] != "object":
            continue
        item = event["object"]
        meta = item["metadata"]
        listed.add(meta["uid"])
        for source in sources:
            if source.ended or source.pod != meta["name"]:
                continue
            gone = event["type"] == "DELETED" or meta["uid"] != source.uid
            if gone or has_ended(item, source):
                source.print_new()
                source.finish()
