"""The store's writer never copies its log into the database; a thread with a connection of its own does."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from pathlib import Path

from minipod.agent.registry.checkpoints import checkpoint, log_bytes
from minipod.agent.registry.store import Store


def test_writes_leave_the_database_to_the_checkpoint(tmp_path: Path) -> None:
    path = str(tmp_path / "minipod.db")
    with closing(Store(path)) as store:
        checkpoint(path)
        before = os.stat(path)
        for number in range(3000):
            store.put_state(str(number), bytes(1000))
        assert os.stat(path).st_mtime_ns == before.st_mtime_ns
        assert log_bytes(path) > 3 << 20
        checkpoint(path)
        assert os.stat(path).st_size > 3 << 20
        long = log_bytes(path)
        for number in range(1000):
            store.put_state(str(number), bytes(1000))
        assert log_bytes(path) == long  # it was begun anew
        assert len(store.states()) == 3000


def test_a_checkpoint_beside_a_writer_loses_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "minipod.db")
    with closing(Store(path)) as store:
        over = threading.Event()

        def often() -> None:
            while not over.is_set():
                checkpoint(path)

        thread = threading.Thread(target=often)
        thread.start()
        for number in range(500):
            with store.transaction():
                store.put_state(str(number), b"state")
                store.put_operations(str(number), b"operations")
        over.set()
        thread.join()
        assert len(store.states()) == 500
    with closing(Store(path)) as again:
        assert len(again.states()) == 500
        assert again.operations("499") == b"operations"
