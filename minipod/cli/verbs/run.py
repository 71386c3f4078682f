"""`minipod run` (layer 6): sends manifests to the agent, shows each step and the logs, ends as the pods end.

Steps go to stderr, what the containers write goes where they wrote it (stdout or stderr). The agent owns the pods:
when this process ends in any way, it ends them too (unless `--detach`).
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from minipod.cli import run_image
from minipod.cli.applying import Results, show_here
from minipod.cli.client import AgentLostError, Client, Request
from minipod.cli.manifest_options import add_dry_run, add_manifests, add_validate, texts_of
from minipod.cli.options import duration_s
from minipod.cli.patience import peer_pid
from minipod.cli.service import Service
from minipod.cli.show import formats
from minipod.cli.values import TYPE_CHECKING, Object
from minipod.errors import INTERRUPTED, NEGATIVE, SUCCESS, MinipodError, UsageError

if TYPE_CHECKING:
    from minipod.cli.show.progress import Progress
    from minipod.kernel.inotify import Inotify

UNTIL = ("created", "running", "ready", "succeeded")
TERMINAL = ("Succeeded", "Failed")
SAME_S = 0.3  # signals that come faster after each other are one


TAKES_COMMAND = True


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run the pods of the manifests: shows each step, then the logs of all containers. Ctrl-C ends the pods "
        "gracefully, a second one at once. Exit status: 0 when they succeeded, 1 when one failed (of a single "
        "container: its exit code), 2 for a bad manifest, 3 when the runtime failed. With --image: make a pod of an "
        "image, as kubectl run does, and leave it with the agent; -i or --attach connect its streams to this terminal."
    )
    parser.usage = "minipod run FILE… [options] | run NAME --image=IMAGE [options] [-- ARG…]"
    add_manifests(parser)
    parser.add_argument("-d", "--detach", action="store_true", help="leave the pods with the agent, print pod/NAME")
    parser.add_argument(
        "--until",
        choices=UNTIL,
        metavar="STATE",
        help="with -d, return when the pods are created, running, ready or succeeded (default: running)",
    )
    parser.add_argument(
        "--timeout", metavar="D", help="with -d, how long to wait for --until: 30s, 5m (default: for ever)"
    )
    parser.add_argument("--replace", action="store_true", help="end pods that have the same names first")
    formats.configure(parser)
    add_dry_run(parser)
    add_validate(parser)
    run_image.configure(parser)


def run(args: argparse.Namespace) -> int:
    if (args.until or args.timeout) and not args.detach:
        raise UsageError("--until and --timeout go with --detach: without it, run returns when the pods have ended")
    if args.image is not None:
        if args.filename or args.kustomize or args.recursive:
            raise UsageError("--image makes the pod: -f, -k and -R go with run FILE")
        return run_image.run(args, lambda files: run_files(args, files))
    check_files(args)
    if args.dry_run == "client":
        show_here(args, texts_of(args, "run"), Results(args), "created")
        return 0
    if args.output and args.dry_run == "none":
        raise UsageError(f"-o {args.output}: goes with --dry-run, or with --image")
    return run_files(args, texts_of(args, "run"))


def check_files(args: argparse.Namespace) -> None:
    """Raises UsageError for what only a pod that is made of an image has, and for words that are no files."""
    for option in run_image.options_of(args):
        raise UsageError(f"{option} goes with --image: minipod run NAME --image=IMAGE")
    for word in args.files:
        if not is_file(word):
            raise UsageError(f"{word}: no such file; to run an image: minipod run {word} --image=IMAGE")
    if args.command:
        raise UsageError(f"unexpected argument {args.command[0]!r} after --: a command goes with --image")


def is_file(word: str) -> bool:
    """Whether a word can only be meant as a file: as the name of a pod it would not do, or there is such a file."""
    return word == "-" or "/" in word or word.endswith((".yaml", ".yml", ".json")) or os.path.exists(word)


def run_files(args: argparse.Namespace, files: list[Object]) -> int:
    message: Object = {
        "verb": "run",
        "files": files,
        "namespace": args.namespace,
        "detach": args.detach,
        "until": args.until,
        "config": config_file(args),
        "validation": args.validate,
        "replace": args.replace,
    }
    client = Client.of(args, "run")
    if args.dry_run == "server":
        results = Results(args)
        for event in client.call({**message, "dry_run": True, "objects": results.wants_objects})[0]:
            results.show(event)
        return 0
    if args.detach:
        return run_detached(client, message, duration_s(args.timeout) if args.timeout else None)
    return run_foreground(client, message)


def config_file(args: argparse.Namespace) -> str | None:
    """The configuration that was asked for: the agent reports when it runs with another one."""
    chosen = args.config or os.environ.get("MINIPOD_CONFIG")
    return os.path.abspath(chosen) if chosen else None


def run_detached(client: Client, message: Object, timeout_s: float | None) -> int:
    """Print `pod/NAME` for each pod when what was waited for is reached."""
    from minipod.cli.show.progress import Progress

    progress = Progress(quiet=True)
    try:
        with client.request(message) as request, deadline(timeout_s):
            while (event := request.next()) is not None:
                progress.show(event)
    except TimeIsUpError:
        raise too_late(client, progress.pod_events, message["until"] or "running") from None
    for pod in (request.result or {}).get("pods") or []:
        print(f"pod/{pod['name']}")
    return 0


class TimeIsUpError(Exception):
    """`--timeout` has passed."""


def too_late(client: Client, pods: list[Object], until: str) -> MinipodError:
    """The message then: the state of each pod, as `get pods` has it. They keep running."""
    from minipod.cli.client import RemoteError

    stand = []
    for pod in pods:
        message = {"verb": "get", "kind": "pods", "namespace": pod["namespace"], "name": pod["name"], "output": "table"}
        for table in client.call({**message, "watch": False})[0]:
            for row in table["rows"]:
                cells = dict(zip(table["columns"], row, strict=True))
                stand.append(f"pod/{cells['NAME']} {cells['READY']} {cells['STATUS']}")
    how = f": {', '.join(stand)}" if stand else ""
    return RemoteError(
        f"timed out waiting for the pods to be {until}{how}; they keep running: minipod describe pod NAME", NEGATIVE
    )


@contextmanager
def deadline(timeout_s: float | None) -> Iterator[None]:
    """Raises TimeIsUpError when the time is up; the pods stay as they are."""
    if timeout_s is None:
        yield
        return

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise TimeIsUpError

    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, max(timeout_s, 1e-6))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def run_foreground(client: Client, message: Object) -> int:
    """Show everything until the pods have ended; signals end them."""
    from minipod.cli.show.progress import Progress
    from minipod.kernel.inotify import Inotify

    progress = Progress()
    service = Service.of_this_process()
    progress.listener = service.show
    with (
        Inotify() as watches,
        client.request(message) as request,
        interrupts(request.send, progress.note, service.stopping) as signals,
    ):
        progress.watch_with(watches)
        agent_pid = peer_pid(request.channel.sock)
        try:
            follow(request, watches, progress)
            pods = (request.result or {}).get("pods") or []
        except AgentLostError:
            progress.drain()
            if not progress.pod_events:
                raise
            if service.is_managed:
                service.wait_for_agent(client.paths, agent_pid)
            pods = go_on(client, watches, progress, signals)
        except MinipodError:
            progress.finish()
            raise
        progress.finish()
        request.channel.leave()  # now the agent removes the logs, and then closes
    for pod in pods:
        progress.ended(pod)
    service.ended(pods)
    return SUCCESS if service.was_stopped else exit_status(pods, progress.container_count())


def go_on(client: Client, watches: Inotify, progress: Progress, signals: Signals) -> list[Object]:
    """The agent has gone: the pods still belong to this process, the next agent takes them over."""
    from minipod.cli.resume import Resumed

    progress.note("the agent went away; the next one takes over", "warning")
    resumed = Resumed(client, progress, watches)
    signals.send = lambda message: resumed.end(kill=message["verb"] == "kill")
    if signals.count:
        resumed.end(kill=signals.count > 1)
    return resumed.follow()


def follow(request: Request, watches: Inotify, progress: Progress) -> None:
    """Events and log lines, in the order in which they come, until the last answer."""
    while request.result is None:
        poll = select.poll()
        poll.register(request, select.POLLIN)
        poll.register(watches, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        if watches.fileno() in ready:
            watches.read()
        if request.fileno() in ready:
            request.fill()
        # the logs first: a container's last lines were written before its end was reported
        progress.drain()
        while (event := request.poll()) is not None:
            progress.show(event)


class Signals:
    """Counts the signals that ask for the end, and passes them on to the agent that has the pods.

    What comes within 300 ms of one that counted is the same wish: timeout(1) signals this process and then its group.
    """

    def __init__(
        self,
        send: Callable[[Object], None],
        note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        stopping: Callable[[], None] = lambda: None,
    ) -> None:
        self.send = send
        self.count = 0
        self._note = note
        self._clock = clock
        self._counted_s = float("-inf")
        self._stopping = stopping

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """The first one asks to end the pods gracefully, any further one to end them at once."""
        now_s = self._clock()
        if now_s - self._counted_s < SAME_S:
            return
        self._counted_s = now_s
        self.count += 1
        self._stopping()
        self.send({"verb": "interrupt" if self.count == 1 else "kill"})
        self._note("ending gracefully; interrupt again to end at once" if self.count == 1 else "ending at once")


@contextmanager
def interrupts(
    send: Callable[[Object], None], note: Callable[[str], None], stopping: Callable[[], None]
) -> Iterator[Signals]:
    signals = Signals(send, note, stopping=stopping)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signals.handle) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_status(pods: list[Object], containers: int) -> int:
    """0 when all Succeeded; of a single container its own code; 1 when one Failed; 130 when ended before its time."""
    if all(pod.get("phase") == "Succeeded" for pod in pods):
        return 0
    codes = [code for pod in pods for code in (pod.get("exit_codes") or {}).values()]
    if containers == 1 and len(codes) == 1 and codes[0]:
        return int(codes[0])
    if all(pod.get("phase") in TERMINAL for pod in pods):
        return NEGATIVE
    return INTERRUPTED
