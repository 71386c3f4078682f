"""The number of the state's format (layer 5): of the database and of every other file that an agent leaves.

It grows with each change after which an older minipod could not continue with what it finds. Imports little: the
command line sends it when it asks an agent of another version to exit.
"""

from __future__ import annotations

import os

from minipod.errors import HostError

#: 2: the file of leases has a line for each change, and more than one bridge
SCHEMA_VERSION = 2
#: the number that versions know which do not send it: 0.1
FIRST = 1

_LOCKED_S = 1.0


def refuse_newer(path: str, found: int) -> None:
    """Raises HostError where the database was written by a minipod that is newer than this one."""
    if found > SCHEMA_VERSION:
        raise HostError(
            f"state database {path}: written by a newer minipod (schema {found}, this one knows "
            f"{SCHEMA_VERSION}): use that version, or another --data-dir"
        )


def check(path: str) -> None:
    """Whether this version can open the database, which another agent may have open. Changes nothing.

    Raises HostError.
    """
    if not os.path.exists(path):
        return
    import sqlite3

    try:
        database = sqlite3.connect(f"file:{os.path.abspath(path)}?mode=ro", uri=True, timeout=_LOCKED_S)
        try:
            found = database.execute("PRAGMA user_version").fetchone()[0]
        finally:
            database.close()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise HostError(f"state database {path}: cannot be read: {error}") from None
        found = _in_header(path)  # the agent has it alone: it was started on a full disk
    except sqlite3.Error as error:
        raise HostError(f"state database {path}: cannot be read: {error}") from None
    refuse_newer(path, found)


def _in_header(path: str) -> int:
    """The number without SQLite's locks: 4 bytes at 60 (sqlite.org/fileformat2.html)."""
    with open(path, "rb") as file:
        return int.from_bytes(file.read(64)[60:], "big")
