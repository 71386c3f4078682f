"""`python set_clock.py FILE ARGUMENTS…`: an agent and a spawner whose wall clock is ahead by the seconds in FILE.

What a program sees when the host's clock is set, without touching it. Only CLOCK_REALTIME as Python reads it moves.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

#: to be executed: `file` is what FILE is above
MOVE = """import time
def _move(real, real_ns):
    def ahead():
        with open({file!r}) as file:
            return float(file.read() or 0)
    time.time = lambda: real() + ahead()
    time.time_ns = lambda: real_ns() + int(ahead() * 1e9)
_move(time.time, time.time_ns)
"""


def move(file: str) -> None:
    """Moves the clock of this process, and of the interpreters that it starts with `-c` as the agent does."""
    code = MOVE.format(file=file)
    exec(code, {})
    spawn = os.posix_spawn

    def spawn_moved(path: str, words: list[str], *rest: Any, **options: Any) -> int:
        if "-c" in words:
            place = words.index("-c") + 1
            words = [*words[:place], f"{code}\n{words[place]}", *words[place + 1 :]]
        return spawn(path, words, *rest, **options)

    os.posix_spawn = spawn_moved  # type: ignore[assignment]


if __name__ == "__main__":
    move(sys.argv[1])
    assert time.time.__name__ == "<lambda>"
    from minipod.serve.main import main

    sys.exit(main(sys.argv[2:]))
