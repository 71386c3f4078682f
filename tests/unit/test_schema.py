"""Whether a version can open a database is known without changing it (unit)."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from minipod.agent.registry import schema
from minipod.agent.registry.store import Store
from minipod.errors import HostError


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "minipod.db")


def test_no_database_is_no_obstacle(path: str) -> None:
    schema.check(path)
    assert not Path(path).exists()


def test_a_database_in_use_is_looked_at(path: str) -> None:
    store = Store(path)
    schema.check(path)
    store._db.execute(f"PRAGMA user_version={schema.SCHEMA_VERSION + 1}")  # in the log alone
    known = schema.SCHEMA_VERSION
    with pytest.raises(HostError, match=rf"written by a newer minipod \(schema {known + 1}, this one knows {known}\)"):
        schema.check(path)
    store.close()


def test_a_database_that_an_agent_has_alone_is_looked_at_without_its_lock(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_LOCKED_S", 0)
    Store(path).close()
    with sqlite3.connect(path, isolation_level=None) as alone:
        alone.execute("PRAGMA locking_mode=EXCLUSIVE")
        alone.execute("BEGIN IMMEDIATE")
        schema.check(path)
        alone.execute("ROLLBACK")
        alone.execute(f"PRAGMA user_version={schema.SCHEMA_VERSION + 1}")
        alone.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with pytest.raises(HostError, match="written by a newer minipod"):
            schema.check(path)
    alone.close()


def test_what_is_no_database_is_reported(path: str) -> None:
    Path(path).write_bytes(b"no database" * 1000)
    with pytest.raises(HostError, match="cannot be read: file is not a database"):
        schema.check(path)
