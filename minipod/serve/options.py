"""The agent's command line (layer 7)."""

from __future__ import annotations

from collections.abc import Sequence

from minipod.errors import UsageError
from minipod.paths import Paths

USAGE = "minipod agent [--root DIR] [--state DIR] [--config FILE] [--auto] [--check] [--ready-fd N]"


class Options:
    """The agent's options. `auto`: exit when there has been no pod for a while. `ready_fd`: -1 for none.

    `check`: only find out whether an agent could start here; another one may be running.
    """

    __slots__ = ("auto", "check", "config", "paths", "ready_fd")

    def __init__(self, paths: Paths, config: str | None, auto: bool, ready_fd: int, check: bool) -> None:
        self.paths = paths
        self.config = config
        self.auto = auto
        self.ready_fd = ready_fd
        self.check = check


def parse(arguments: Sequence[str]) -> Options:
    """Raises UsageError. Written by hand, because argparse would add 10 ms to a cold start."""
    values: dict[str, str] = {}
    auto = check = False
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument == "--auto":
            auto = True
        elif argument == "--check":
            check = True
        elif name in ("--root", "--state", "--config", "--ready-fd"):
            option = value if equals else next(rest, None)
            if option is None:
                raise UsageError(f"{name}: needs a value: {USAGE}")
            values[name] = option
        else:
            raise UsageError(f"unknown option {argument}: {USAGE}")
    ready = values.get("--ready-fd", "-1")
    if not ready.lstrip("-").isascii() or not ready.lstrip("-").isdigit():
        raise UsageError(f"--ready-fd {ready}: not a descriptor's number")
    paths = Paths.from_env(values.get("--root"), values.get("--state"))
    return Options(paths, values.get("--config"), auto, int(ready), check)
