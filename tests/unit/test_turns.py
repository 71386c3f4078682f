"""Slices: everything in order, the loop in between."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from minipod.agent.turns import SLICE_S, Turns


def test_what_takes_long_together_leaves_turns_to_others() -> None:
    done: list[str] = []

    def work(number: int) -> None:
        done.append(str(number))
        until = time.monotonic() + SLICE_S
        while time.monotonic() < until:
            pass

    async def main() -> None:
        turns = Turns()
        for number in range(4):
            turns.soon(partial(work, number))
        while len(done) < 7:
            await asyncio.sleep(0)
            done.append("other")

    asyncio.run(main())
    assert done[:7] == ["0", "other", "1", "other", "2", "other", "3"]


def test_one_that_breaks_keeps_nothing_from_the_next() -> None:
    done: list[object] = []

    async def main() -> None:
        turns, loop = Turns(), asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: done.append(type(context["exception"])))
        turns.soon(lambda: done.append(1 // 0))
        turns.soon(lambda: done.append("next"))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert done == [ZeroDivisionError, "next"]
