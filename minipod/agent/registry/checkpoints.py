"""Checkpoints the store's write-ahead log in a thread (layer 5): the only part of SQLite that waits for the disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3

from minipod.runtime.offload import slowly_off_loop

log = logging.getLogger("minipod.agent")

PERIOD_S = 5.0
MANY_BYTES = 1 << 20  # of the log; some hundreds of changes


class Checkpoints:
    def __init__(self, path: str) -> None:
        self._path = path

    async def run(self) -> None:
        failed = False
        while True:
            await asyncio.sleep(PERIOD_S)
            if log_bytes(self._path) < MANY_BYTES:
                continue
            try:
                await slowly_off_loop(checkpoint, self._path)
                failed = False
            except sqlite3.Error as error:
                if not failed:  # a full disk: it is retried
                    log.warning("state database %s: checkpoint: %s", self._path, error)
                failed = True


def log_bytes(path: str) -> int:
    """The size of the database's write-ahead log in bytes."""
    try:
        return os.stat(f"{path}-wal").st_size
    except FileNotFoundError:
        return 0


def checkpoint(path: str) -> None:
    """On a connection of its own, which readers and the writer do not wait for. Raises sqlite3.Error.

    PASSIVE syncs the log, copies it and syncs the database. The log's next writer then begins it anew and waits for
    the disk once more, for its header: so this is that writer, where nothing came in between.
    """
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=NORMAL")
        _, pages, copied = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if pages == copied:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('checkpoint', '')")
