"""Work off the loop: stuck threads are replaced, deadlines hold, an exit waits for nothing."""

from __future__ import annotations

import _thread
import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from minipod.kernel import threads
from minipod.runtime import offload
from minipod.runtime.offload import Pool, in_pool, off_loop, within


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """What hangs until the test is over."""
    made = threading.Event()
    yield made
    made.set()


def test_threads_are_used_again_and_no_more_are_started_than_work() -> None:
    pool = Pool("test")
    names = {pool.submit(threading.get_ident).result() for _ in range(20)}
    assert len(names) == 1


def test_work_in_turn_adds_no_thread_for_each_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle thread needs a moment to take what was queued: that is no reason to start another."""
    pool = Pool("test")
    monkeypatch.setattr(offload, "_quick", lambda: pool)

    async def main() -> None:
        for _ in range(300):
            await off_loop(divmod, 7, 2)

    asyncio.run(main())
    assert len(pool._workers) <= offload.THREADS


def test_threads_that_took_the_place_of_stuck_ones_end_when_those_are_free(
    stuck: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offload, "STUCK_S", 0.01)
    pool = Pool("test", threads=2)
    held = [pool.submit(stuck.wait) for _ in range(10)]
    while pool.relieve():
        pass
    stuck.set()
    for future in held:
        future.result()
    deadline = time.monotonic() + 10
    while sum(not worker.ended for worker in pool._workers) > 3:
        assert pool.submit(divmod, 7, 2).result() == (3, 1)
        assert time.monotonic() < deadline


def test_a_result_and_an_error_reach_the_caller() -> None:
    async def main() -> None:
        assert await off_loop(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await off_loop(divmod, 7, 0)

    asyncio.run(main())


def test_work_that_is_stuck_keeps_no_thread_from_the_rest(
    stuck: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offload, "STUCK_S", 0.0)  # at once
    pool = Pool("test", threads=2)
    for _ in range(5):
        pool.submit(stuck.wait)
    answer = pool.submit(divmod, 7, 2)
    while not answer.done():
        pool.relieve()
    assert answer.result() == (3, 1)


def test_what_is_queued_behind_stuck_work_is_served_without_another_submission(
    stuck: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool("test", threads=1)
    monkeypatch.setattr(offload, "_quick", lambda: pool)
    monkeypatch.setattr(offload, "STUCK_S", 0.01)

    async def main() -> None:
        waiting = asyncio.ensure_future(off_loop(stuck.wait))
        assert await asyncio.wait_for(off_loop(divmod, 7, 2), 10) == (3, 1)
        waiting.cancel()

    asyncio.run(main())


def test_work_waits_where_no_thread_can_be_started_and_is_done_once_one_can(monkeypatch: pytest.MonkeyPatch) -> None:
    start, refused = _thread.start_new_thread, []

    def refuse(*args: Any) -> int:
        refused.append(args)
        if len(refused) <= 3 * offload.THREADS:
            raise RuntimeError("can't start new thread")
        return start(*args)

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    monkeypatch.setattr(offload, "STUCK_S", 0.001)
    pool, done = Pool("test"), list[int]()

    async def main() -> None:
        await asyncio.gather(*(in_pool(pool, done.append, number) for number in range(20)))

    asyncio.run(main())
    assert sorted(done) == list(range(20)), "each once"


def test_threads_that_had_no_memory_to_begin_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    start, dead = _thread.start_new_thread, []

    def start_in_vain(*args: Any) -> int:
        dead.append(args)
        return 0 if len(dead) <= 2 * offload.MAX_THREADS else start(*args)

    monkeypatch.setattr(_thread, "start_new_thread", start_in_vain)
    monkeypatch.setattr(offload, "STUCK_S", 0.0)
    monkeypatch.setattr(offload, "ANSWER_S", 0.0)
    pool = Pool("test")
    answer = pool.submit(divmod, 7, 2)
    for _ in range(3 * offload.MAX_THREADS):
        pool.relieve()
    assert answer.result(10) == (3, 1)


def test_an_answer_for_which_there_is_no_memory_is_given_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_MEMORY_S", 0.0)
    pool, attempts, reported = Pool("test"), [], threading.Event()

    def report(_: object) -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise MemoryError
        reported.set()

    begin = threading.Event()
    pool.submit(begin.wait).add_done_callback(report)
    begin.set()
    assert reported.wait(10)
    assert len(attempts) == 3


@pytest.mark.parametrize("divisor", [2, 0])
def test_an_answer_whose_report_is_lost_arrives_nevertheless(monkeypatch: pytest.MonkeyPatch, divisor: int) -> None:
    """`concurrent.futures` logs what a callback raises, and so a MemoryError on calling it: nobody calls again."""

    def lost(self: Future[Any], report: object) -> None:
        """No callback is ever called."""

    monkeypatch.setattr(offload, "LOST_S", 0.01)
    monkeypatch.setattr(offload._Answer, "add_done_callback", lost)
    pool = Pool("test")

    async def main() -> None:
        async with asyncio.timeout(10):
            if divisor:
                assert await in_pool(pool, divmod, 7, divisor) == (3, 1)
            else:
                with pytest.raises(ZeroDivisionError):
                    await in_pool(pool, divmod, 7, divisor)
        await asyncio.sleep(0)
        assert not pool._expected

    asyncio.run(main())
    asyncio.run(main())  # another loop looks itself


def test_a_place_that_does_not_answer_is_reported_and_not_asked_again_while_it_hangs(stuck: threading.Event) -> None:
    asked = []

    def look() -> None:
        asked.append(1)
        stuck.wait()

    async def main() -> None:
        with pytest.raises(TimeoutError, match=r"/mnt/x: does not answer within 0\.01 s"):
            await within(0.01, "/mnt/x", look)
        with pytest.raises(TimeoutError, match=r"/mnt/x: has not answered yet"):
            await within(10, "/mnt/x", look)
        assert await within(10, "/mnt/y", lambda: "there") == "there"
        assert len(asked) == 1
        stuck.set()
        while "/mnt/x" in offload._hung:
            await asyncio.sleep(0)
        assert await within(10, "/mnt/x", lambda: "there") == "there"

    asyncio.run(main())


def test_a_process_that_ends_does_not_wait_for_what_is_stuck() -> None:
    text = (
        "import asyncio, threading\n"
        "from minipod.runtime.offload import within\n"
        "async def main():\n"
        "    try: await within(0.01, 'place', threading.Event().wait)\n"
        "    except TimeoutError: print('late')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "late\n", "")


def test_a_pool_keeps_no_result_alive() -> None:
    class Result:
        """Can be referred to weakly."""

    async def main() -> weakref.ref[Result]:
        return weakref.ref(await in_pool(pool, Result))

    pool = Pool("test")
    result = asyncio.run(main())
    gc.collect()
    assert result() is None
