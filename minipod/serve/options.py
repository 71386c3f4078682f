"""The agent's command line (layer 7)."""

from __future__ import annotations

from collections.abc import Sequence

from minipod.errors import UsageError
from minipod.paths import DATA_DIR_OPTIONS, RUN_DIR_OPTIONS, Paths

USAGE = "minipod agent [--run-dir DIR] [--data-dir DIR] [--config FILE] [--auto] [--check] [--ready-fd N]"
#: an option that takes a value -> the name that it is kept under
_VALUED = {
    **dict.fromkeys(RUN_DIR_OPTIONS, RUN_DIR_OPTIONS[0]),
    **dict.fromkeys(DATA_DIR_OPTIONS, DATA_DIR_OPTIONS[0]),
    "--config": "--config",
    "--ready-fd": "--ready-fd",
}


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
        elif name in _VALUED:
            option = value if equals else next(rest, None)
            if option is None:
                raise UsageError(f"{name}: needs a value: {USAGE}")
            values[_VALUED[name]] = option
        else:
            raise UsageError(f"unknown option {argument}: {USAGE}")
    ready = values.get("--ready-fd", "-1")
    if not ready.lstrip("-").isascii() or not ready.lstrip("-").isdigit():
        raise UsageError(f"--ready-fd {ready}: not a descriptor's number")
    paths = Paths.from_env(values.get(RUN_DIR_OPTIONS[0]), values.get(DATA_DIR_OPTIONS[0]))
    return Options(paths, values.get("--config"), auto, int(ready), check)
