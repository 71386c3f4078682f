"""`minipod exec` (layer 6): relays the caller's standard streams through pipes of its own.

None of the caller's is passed to the container: its root could open a file or a directory again through /proc/self/fd
with more rights, write to a pipe that it should only read, and so to every other reader of that pipe, or push
keystrokes into the operator's terminal.
"""

from __future__ import annotations

import argparse
import os
import sys

from minipod.cli.client import Client
from minipod.cli.options import namespace_of, one_pod
from minipod.cli.pods import default_container, get_pod
from minipod.cli.relay import Relay, TerminalRelay, exit_code, window_size
from minipod.cli.values import Object
from minipod.errors import ConflictError, UsageError

TAKES_COMMAND = True
NAMES = ("stdin", "stdout", "stderr")
DEFAULT_SIZE = (24, 80)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run a command in a container; the exit status is the command's."
    parser.usage = "minipod exec POD [-c CONTAINER] [-i] [-t] -- COMMAND [ARG…]"
    parser.add_argument("words", nargs="*", metavar="POD", help="the pod: NAME or pod/NAME")
    parser.add_argument("-c", "--container", metavar="C", help="the container; default: the annotated or first one")
    parser.add_argument("-i", "--stdin", action="store_true", help="pass standard input to the command")
    parser.add_argument("-t", "--tty", action="store_true", help="give the command a terminal of its own")
    parser.add_argument("-q", "--quiet", action="store_true", help="print only what the command prints")
    parser.add_argument("-f", "--filename", metavar="FILE", help="the pod that a manifest holds")


def run(args: argparse.Namespace) -> int:
    if not args.words and not args.filename:
        raise UsageError("pod, type/name or --filename must be specified")
    if len(args.words) + bool(args.filename) > 1:
        raise UsageError("exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead")
    if not args.command:
        raise UsageError("you must specify at least one command for the container")
    namespace, pod = named_pod(args)
    message: Object = {
        "verb": "exec",
        "namespace": namespace,
        "pod": pod,
        "container": args.container or chosen_container(args, namespace, pod),
        "command": args.command,
    }
    client = Client.of(args, "exec")
    return run_with_terminal(args, client, message) if args.tty else run_with_pipes(args, client, message)


def named_pod(args: argparse.Namespace) -> tuple[str, str]:
    """Namespace and name. Raises UsageError for a manifest that holds another number of pods than one."""
    if not args.filename:
        return namespace_of(args), one_pod(args.words[0])
    from minipod.cli.files import read_files
    from minipod.cli.wanted import of_files

    found = of_files(args, list(read_files([args.filename])), "exec")
    if len(found) != 1 or found[0].kind.name != "Pod":
        raise UsageError(f"{args.filename}: exec needs a manifest of one pod and nothing else")
    return found[0].namespace or "default", str(found[0].name)


def chosen_container(args: argparse.Namespace, namespace: str, name: str) -> str:
    """The annotated or first container, printed where there is a choice. Raises NotFoundError, ConflictError."""
    pod = get_pod(Client.of(args, "exec"), namespace, name)
    phase = (pod.get("status") or {}).get("phase")
    if phase in ("Succeeded", "Failed"):
        raise ConflictError(f"cannot exec into a container in a completed pod; current phase is {phase}")
    return default_container(pod, notify=not args.quiet)


def run_with_pipes(args: argparse.Namespace, client: Client, message: Object) -> int:
    """The command's own descriptors: pipes that are relayed here."""
    relay = Relay()
    passed: list[int] = []
    names: list[str] = []
    to_close: list[int] = []
    for fd, name in enumerate(NAMES):
        if fd == 0 and not args.stdin:
            continue
        names.append(name)
        read_fd, write_fd = os.pipe()
        ours, theirs = (write_fd, read_fd) if fd == 0 else (read_fd, write_fd)
        relay.add(0, ours) if fd == 0 else relay.add(ours, fd)
        passed.append(theirs)
        to_close.append(theirs)
    with relay.signals_forwarded(), client.request({**message, "tty": None, "fds": names}, passed) as request:
        relay.request = request
        started: Object | None = request.next()  # only now: an agent that is replaced gets them again
        for fd in to_close:
            os.close(fd)
        if started is not None:
            relay.run(request)
        return exit_code(request.result)


def run_with_terminal(args: argparse.Namespace, client: Client, message: Object) -> int:
    """A pty of the container's own; this terminal is raw while the command runs."""
    on_terminal = args.stdin and os.isatty(0)
    if args.stdin and not on_terminal and not args.quiet:
        print("Unable to use a TTY - input is not a terminal or the right kind of file", file=sys.stderr)
    size = window_size(0) or window_size(1) or DEFAULT_SIZE
    with client.request({**message, "tty": list(size), "fds": []}) as request:
        if request.next() is not None:
            master_fd = request.take_fd()
            with TerminalRelay(master_fd, stdin=args.stdin) as relay:
                relay.run(request)
        return exit_code(request.result)
