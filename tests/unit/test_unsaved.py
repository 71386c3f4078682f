"""The store takes nothing: pods go on, end and are deleted, and a kill -9 loses none of it (unit, virtual clock)."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minipod.agent import leftovers
from minipod.agent.pods.table import Pods
from minipod.agent.registry.store import LOCKED_MS, Store
from minipod.agent.registry.unsaved import SAVE_AGAIN_S
from minipod.api.timestamps import timestamp
from minipod.api.types import EmptyDirVolumeSource, Pod, Volume
from minipod.errors import HostError
from minipod.paths import Paths
from tests.unit.agent_client import Agent as ControlledAgent
from tests.unit.agent_client import with_agent
from tests.unit.agent_fakes import FakeRuntime, make_pod, now_s, until
from tests.unit.test_agent_pods import Agent, phase, virtually
from tests.unit.test_full_disk import Disk


class Disks:
    """The file systems of store and root."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._prepare = Store._prepare
        self._disks: list[Disk] = []
        self._failing = range(0)
        disks = self

        def prepare(store: Any) -> None:
            disks._prepare(store)
            store._db = disk = Disk(store._db, 0, 0)
            disk.failing = disks._failing
            disks._disks.append(disk)

        monkeypatch.setattr(Store, "_prepare", prepare)

    def fill(self, failing: range = range(sys.maxsize)) -> None:
        self._failing = failing
        for disk in self._disks:
            disk.failing = failing

    def free(self) -> None:
        self.fill(range(0))


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> Disks:
    return Disks(monkeypatch)


def no_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The root takes no file either."""

    def full(path: str, record: msgspec.Struct) -> None:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr("minipod.agent.registry.unsaved.save", full)


def stored(folder: Path) -> Pod | None:
    with sqlite3.connect(folder / "state/minipod.db") as db:
        row = db.execute("SELECT data FROM objects WHERE kind='Pod'").fetchone()
    return None if row is None else msgspec.json.decode(row[0], type=Pod)


def rows(folder: Path) -> list[int]:
    tables = ("objects WHERE kind LIKE '%Pod'", "pod_states", "pod_operations", "pod_owners")
    with sqlite3.connect(folder / "state/minipod.db") as db:
        return [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]


def test_an_exit_code_that_was_reported_stays_after_a_kill(tmp_path: Path, disks: Disks) -> None:
    async def main() -> None:
        first = await Agent(tmp_path).recover()
        worker = first.start(make_pod(restart_policy="Never"))
        await until(lambda: phase(worker) == "Running")
        disks.fill()
        first.runtime.end(first.runtime.find("main").id, 7)
        await until(lambda: phase(worker) == "Failed" and not first.runtime.containers)
        await first.crash()
        second = await Agent(tmp_path, first.runtime).recover()
        again = second.pods.find("default", "web")
        for _ in range(2):
            await asyncio.sleep(10)
            ended = again.pod.status.container_statuses[0].state.terminated
            assert ended is not None
            assert (ended.exit_code, ended.reason, phase(again)) == (7, "Error", "Failed")
            disks.free()
        assert stored(tmp_path) == again.pod
        assert not list((tmp_path / "root/unsaved").glob("*-*"))

    virtually(main())


def test_restarts_are_counted_over_a_kill(tmp_path: Path, disks: Disks) -> None:
    async def main() -> None:
        first = await Agent(tmp_path).recover()
        worker = first.start(make_pod())
        await until(lambda: phase(worker) == "Running")
        disks.fill()
        for attempt in (1, 2, 3):
            first.runtime.end(first.runtime.find("main").id, attempt)
            await until(lambda: first.runtime.is_running("main"), 100)
        await first.crash()
        second = await Agent(tmp_path, first.runtime).recover()
        await asyncio.sleep(5)
        (status,) = second.pods.find("default", "web").pod.status.container_statuses
        assert status.restart_count == 3
        assert status.last_state.terminated is not None
        assert status.last_state.terminated.exit_code == 3

    virtually(main())


def test_a_pod_is_deleted_at_once_and_its_rows_go_when_there_is_space(tmp_path: Path, disks: Disks) -> None:
    async def main() -> None:
        agent = await Agent(tmp_path).recover()
        worker = agent.start(make_pod())
        await until(lambda: phase(worker) == "Running")
        disks.fill()
        agent.pods.delete("default", "web")
        await asyncio.wait_for(worker.forgotten, 1)
        assert not agent.runtime.containers
        assert not agent.runtime.sandboxes
        assert rows(tmp_path)[:2] == [1, 1]
        with pytest.raises(HostError):
            agent.start(make_pod())
        disks.free()
        await asyncio.sleep(SAVE_AGAIN_S)
        assert rows(tmp_path) == [0, 0, 0, 0]
        assert not list((tmp_path / "root/unsaved").iterdir())

    virtually(main())


class Damaged:
    """A connection to a file that was overwritten."""

    in_transaction = False

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def execute(self, sql: str, *values: Any) -> Any:
        raise sqlite3.DatabaseError("database disk image is malformed")

    def close(self) -> None:
        self._db.close()


def test_a_damaged_database_stops_no_pod_and_what_happened_is_known_without_it(tmp_path: Path) -> None:
    """The operator moves it away, as the next agent says: pods to which something happened since are still known."""

    async def main() -> None:
        first = await Agent(tmp_path).recover()
        volumes = (Volume(name="data", empty_dir=EmptyDirVolumeSource()),)
        ends = first.start(make_pod("ends", "a", restart_policy="Never"))
        stays = first.start(make_pod("stays", "b", volumes=volumes))
        await until(lambda: phase(ends) == phase(stays) == "Running")
        store: Any = first.node.store
        store._db = Damaged(store._db)
        first.runtime.end(first.runtime.find("a").id, 7)
        await until(lambda: phase(ends) == "Failed")
        first.pods.delete("default", "stays")
        await asyncio.wait_for(stays.forgotten, 1)
        assert not (tmp_path / "volume-data").exists()
        await first.crash()
        for file in (tmp_path / "state").glob("minipod.db*"):
            file.unlink()
        second = await Agent(tmp_path, first.runtime).recover()
        await asyncio.sleep(5)
        (status,) = second.pods.find("default", "ends").pod.status.container_statuses
        assert status.state.terminated is not None
        assert status.state.terminated.exit_code == 7
        assert [worker.name for worker in second.pods.select(None, None)] == ["ends"]
        assert rows(tmp_path)[:2] == [1, 1]

    virtually(main())


def test_a_new_pod_of_that_name_keeps_its_rows(tmp_path: Path, disks: Disks) -> None:
    async def main() -> None:
        agent = await Agent(tmp_path).recover()
        worker = agent.start(make_pod())
        await until(lambda: phase(worker) == "Running")
        disks.fill()
        agent.pods.delete("default", "web")
        await worker.forgotten
        disks.free()
        new = agent.start(make_pod())
        await asyncio.sleep(SAVE_AGAIN_S)
        assert rows(tmp_path) == [1, 1, 1, 0]
        found = stored(tmp_path)
        assert found is not None
        assert found.metadata.uid == new.uid

    virtually(main())


def test_a_pod_that_was_deleted_does_not_come_back_with_the_next_agent(tmp_path: Path, disks: Disks) -> None:
    async def main() -> None:
        first = await Agent(tmp_path).recover()
        worker = first.start(make_pod())
        await until(lambda: phase(worker) == "Running")
        disks.fill()
        first.pods.delete("default", "web")
        await worker.forgotten
        await first.crash()
        second = await Agent(tmp_path, first.runtime).recover()
        await asyncio.sleep(20)
        assert not len(second.pods)
        assert not second.runtime.containers
        disks.free()
        await asyncio.sleep(SAVE_AGAIN_S)
        assert rows(tmp_path) == [0, 0, 0, 0]

    virtually(main())


def test_a_deletion_continues_after_a_kill_in_its_grace_period(tmp_path: Path, disks: Disks) -> None:
    async def main() -> None:
        first = await Agent(tmp_path).recover()
        worker = first.start(make_pod())
        await until(lambda: phase(worker) == "Running")
        disks.fill()
        first.runtime.stop_takes_s = 100
        first.pods.delete("default", "web")
        await asyncio.sleep(10)
        await first.crash()
        second = await Agent(tmp_path, first.runtime).recover()
        await until(lambda: not len(second.pods), 25)

    virtually(main())


def test_what_the_store_has_counts_where_it_is_newer(tmp_path: Path, disks: Disks) -> None:
    """The agent was killed between the commit and the removal of the file."""

    async def main() -> None:
        first = await Agent(tmp_path).recover()
        worker = first.start(make_pod())
        await until(lambda: phase(worker) == "Running")
        disks.fill()
        first.runtime.end(first.runtime.find("main").id, 1)
        await until(lambda: first.runtime.is_running("main"))
        file = tmp_path / "root/unsaved" / worker.uid
        old = file.read_bytes()
        disks.free()
        first.runtime.end(first.runtime.find("main").id, 2)
        await until(lambda: first.runtime.is_running("main"), 100)
        await asyncio.sleep(SAVE_AGAIN_S)
        assert not file.exists()
        file.write_bytes(old)
        await first.crash()
        second = await Agent(tmp_path, first.runtime).recover()
        await asyncio.sleep(5)
        assert second.pods.find("default", "web").pod.status.container_statuses[0].restart_count == 2
        assert not file.exists()

    virtually(main())


def test_while_the_root_is_full_too_a_pod_stops_and_its_records_stay(
    tmp_path: Path, disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        first = await Agent(tmp_path).recover()
        worker = first.start(make_pod(restart_policy="Never"))
        await until(lambda: phase(worker) == "Running")
        disks.fill()
        with monkeypatch.context() as patched:
            no_root(tmp_path, patched)
            first.runtime.end(first.runtime.find("main").id, 7)
            await asyncio.sleep(30)
            assert first.runtime.find("main").exit_code == 7
            await first.crash()
            second = await Agent(tmp_path, first.runtime).recover()
            again = second.pods.find("default", "web")
            second.pods.delete("default", "web")
            await asyncio.sleep(30)
            assert not again.forgotten.done()
            assert "No space left" in again.trouble or "no space left" in again.trouble
        await asyncio.wait_for(again.forgotten, 2 * SAVE_AGAIN_S)
        assert not second.runtime.containers

    virtually(main())


def test_a_deletion_that_cannot_be_kept_says_why_within_a_second(
    tmp_path: Path, disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(agent: ControlledAgent) -> None:
        await agent.run_detached()
        disks.fill()
        with monkeypatch.context() as patched:
            no_root(tmp_path, patched)
            client = agent.client()
            await client.send(verb="delete", kind="pods", names=["web"])
            warning = await asyncio.wait_for(client.line(), 1)
            assert warning is not None
            assert warning["event"] == "warning"
            assert "no space left on the device" in warning["message"]
            assert not agent.runtime.is_running("main")
        disks.free()
        deleted = await asyncio.wait_for(client.line(), 2 * SAVE_AGAIN_S)
        assert deleted is not None
        assert deleted["event"] == "deleted"

    with_agent(tmp_path, test)


def test_events_of_that_time_are_recorded_later_with_their_times(tmp_path: Path, disks: Disks) -> None:
    async def main() -> None:
        agent = await Agent(tmp_path).recover()
        worker = agent.start(make_pod(restart_policy="Never"))
        await until(lambda: phase(worker) == "Running")
        disks.fill()
        agent.pods.delete("default", "web", 60)
        agent.runtime.stop_takes_s = 50
        await asyncio.sleep(20)
        assert "Killing" not in agent.events()
        at_s = now_s() - 20
        disks.free()
        await asyncio.sleep(2 * SAVE_AGAIN_S)
        (killing,) = [event for event in agent.node.events.all(now_s()) if event.reason == "Killing"]
        assert killing.last_timestamp == timestamp(at_s)

    virtually(main())


def test_a_sandbox_is_made_though_its_warnings_cannot_be_recorded(tmp_path: Path, disks: Disks) -> None:
    """The last agent died with the boot, before the disk was full."""

    async def main() -> None:
        first = await Agent(tmp_path).recover()
        volumes = (Volume(name="data", empty_dir=EmptyDirVolumeSource()),)
        worker = first.start(make_pod(volumes=volumes))
        await until(lambda: phase(worker) == "Running")
        await first.crash()
        disks.fill()
        runtime = FakeRuntime()
        runtime.warnings = ["a limit is lower than usual"]
        second = await Agent(tmp_path, runtime).recover()
        await until(lambda: runtime.is_running("main"), 10)
        assert phase(second.pods.find("default", "web")) == "Running"

    virtually(main())


def test_only_the_first_write_waits_for_a_process_that_has_locked_the_file(tmp_path: Path) -> None:
    store = Store(f"{tmp_path}/minipod.db")

    def patience_ms() -> int:
        return int(store._db.execute("PRAGMA busy_timeout").fetchone()[0])

    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            with pytest.raises(HostError, match="another process holds it open"), store.transaction():
                store.set_meta("a", "b")
            assert patience_ms() == 0
        other.execute("ROLLBACK")
    with store.transaction():
        store.set_meta("a", "b")
    assert patience_ms() == LOCKED_MS
    store.close()


def test_nothing_is_shown_as_changed_while_only_saving_is_tried_again(tmp_path: Path, disks: Disks) -> None:
    async def main() -> None:
        agent = await Agent(tmp_path).recover()
        worker = agent.start(make_pod(restart_policy="Never"))
        await until(lambda: phase(worker) == "Running")
        disks.fill()
        agent.runtime.end(agent.runtime.find("main").id, 1)
        await until(lambda: phase(worker) == "Failed")
        await asyncio.sleep(1)
        version = worker.pod.metadata.resource_version
        await asyncio.sleep(100)
        disks.free()
        await asyncio.sleep(10)
        assert worker.pod.metadata.resource_version == version
        assert stored(tmp_path) == worker.pod

    virtually(main())


@pytest.mark.parametrize("is_full", [False, True], ids=["stored", "full disk"])
def test_logs_of_a_pod_that_was_forgotten_are_removed_by_the_next_agent(
    tmp_path: Path, disks: Disks, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    """The agent dies in between. Outside of its own state it does not look for logs of pods that it does not know."""
    elsewhere = tmp_path / "var-log-pods"
    monkeypatch.setattr(Paths, "pod_logs", str(elsewhere))

    async def main() -> None:
        first = await Agent(tmp_path).recover()
        worker = first.start(make_pod())
        await until(lambda: phase(worker) == "Running")
        for name in (f"default_web_{worker.uid}", "of_a_kubelet"):
            (elsewhere / name / "main").mkdir(parents=True)
        if is_full:
            disks.fill()
        with monkeypatch.context() as patch:
            patch.setattr(Pods, "remove_logs", lambda *_: None)
            first.pods.delete("default", "web")
            await worker.forgotten
        await first.crash()
        disks.free()
        second = await Agent(tmp_path, first.runtime).recover()
        await leftovers.sweep(second.node, second.pods)
        await until(lambda: not second.pods.removals)
        assert [path.name for path in elsewhere.iterdir()] == ["of_a_kubelet"]
        assert second.node.store.logs_of_gone() == {}
        await second.crash()

    virtually(main())
