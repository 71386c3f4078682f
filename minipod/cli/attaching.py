"""This terminal, or our standard streams, at a container until it ends (layer 6): for attach, debug and run -it."""

from __future__ import annotations

import os
import sys

from minipod.cli.client import Client
from minipod.cli.relay import Relay, TerminalRelay, exit_code
from minipod.cli.values import Object


def attach(
    client: Client, namespace: str, pod: str, container: str, stdin: bool, *, quiet: bool = False, whole: bool = False
) -> int:
    """Until the container ends; its exit status. `whole`: also what it has printed before."""
    message: Object = {"verb": "attach", "namespace": namespace, "pod": pod, "container": container, "stdin": stdin}
    message["whole"] = whole
    with client.request(message) as request:
        started = request.next()
        if started is not None:
            streams = {name: request.take_fd() for name in started["fds"]}
            if not quiet and os.isatty(0):
                print("If you don't see a command prompt, try pressing enter.", file=sys.stderr)
            if "tty" in streams:
                with TerminalRelay(streams["tty"], stdin=stdin, output_fd=streams["stdout"]) as terminal:
                    terminal.run(request)
            else:
                relay = Relay()
                for source, name in ((1, "stdout"), (2, "stderr")):
                    relay.add(streams[name], source)
                if "stdin" in streams:
                    relay.add(0, streams["stdin"])
                relay.run(request)
        return exit_code(request.result)
