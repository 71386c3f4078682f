"""What released versions left on disk is read by this one: `tests/data/releases` (unit)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from minipod.agent.events import EventRecorder
from minipod.agent.registry import schema
from minipod.agent.registry.store import Store
from minipod.api import types
from minipod.lifecycle import core, model
from minipod.paths import Paths
from minipod.runtime import runtime as _with_all_operations  # noqa: F401  decoding knows those that are imported
from minipod.runtime.images.index import DEFAULT_REFERENCE
from minipod.runtime.images.store import ImageStore
from minipod.runtime.ipam import LeaseFile
from minipod.runtime.records import ContainerRecord, SandboxRecord, decode_operations, load_all
from minipod.runtime.spawner.client import ChildExit
from tests import releases
from tests.releases import pods

KINDS = ("Pod", "ConfigMap", "Secret", "PersistentVolume", "PersistentVolumeClaim")
OF_ALL = {made["metadata"]["name"] for made in (*pods.running("/gate"), *pods.ended())} | {"foreground"}


@pytest.fixture(params=releases.VERSIONS)
def paths(request: pytest.FixtureRequest, tmp_path: Path) -> Paths:
    made = Paths(str(tmp_path / "r"), str(tmp_path / "s"))
    releases.thaw(request.param, made)
    return made


@pytest.fixture
def store(paths: Paths) -> Iterator[Store]:
    opened = Store(f"{paths.state}/minipod.db")
    yield opened
    opened.close()


def test_the_format_of_a_release_is_known_and_after_an_upgrade_its_version_is_kept_out(paths: Paths) -> None:
    path = f"{paths.state}/minipod.db"
    schema.check(path)
    Store(path).close()
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
    database.close()
    schema.check(path)


def test_there_is_a_release() -> None:
    assert releases.VERSIONS


def test_every_object_is_read_and_none_loses_a_field(store: Store) -> None:
    found = {kind: store.objects(kind) for kind in KINDS}
    assert all(found.values()), "no kind is without objects"
    assert {record.name for record in found["Pod"]} == OF_ALL
    for kind, records in found.items():
        for record in records:
            made = msgspec.json.decode(record.data, type=getattr(types, kind))
            assert json.loads(msgspec.json.encode(made)) == json.loads(record.data), (kind, record.name)
            assert (made.metadata.uid, int(made.metadata.resource_version)) == (record.uid, record.version)


def test_every_pods_state_is_read_and_goes_on(store: Store) -> None:
    states = {uid: msgspec.json.decode(data, type=model.PodState) for uid, data in store.states().items()}
    stages = {state.pod.metadata.name: state.stage for state in states.values()}
    assert set(stages) == OF_ALL
    assert {stages[name] for name in ("succeeded", "failed")} == {"finished"}
    assert (stages["gated"], stages["leaving"], stages["web"]) == ("gated", "terminating", "syncing")
    for state in states.values():
        after, _ = core.step(state, model.AgentStarted(), state.added_at + 60)
        assert after.pod.metadata.uid == state.pod.metadata.uid
    assert set(store.owners()) == {u for u, state in states.items() if state.pod.metadata.name == "foreground"}


def test_what_was_done_for_volumes_can_be_undone(store: Store) -> None:
    operations = [data for uid in store.states() if (data := store.operations(uid)) is not None]
    assert operations
    assert any(decode_operations(data) for data in operations)


def test_events_go_on_counting(store: Store) -> None:
    kept = store.events()
    now = max(event.last_s for event in kept)
    events = EventRecorder(store, "node", lambda change: None, now).all(now)
    assert len(events) == len(kept)
    assert {"Scheduled", "Started", "BackOff"} <= {event.reason for event in events}


def test_new_objects_are_newer_than_all_of_the_release(store: Store) -> None:
    newest = max(record.version for kind in KINDS for record in store.objects(kind))
    with store.transaction():
        assert store.next_version() > newest


@pytest.mark.parametrize(
    ("folder", "kind"), [("sandboxes", SandboxRecord), ("containers", ContainerRecord)], ids=["sandboxes", "containers"]
)
def test_every_record_of_the_runtime_is_read(
    paths: Paths, folder: str, kind: type[SandboxRecord] | type[ContainerRecord]
) -> None:
    files = list(Path(paths.root, folder).glob("*/*.json"))
    records = load_all(f"{paths.root}/{folder}", files[0].name, kind)
    assert len(records) == len(files) > 0
    for record in records.values():
        decode_operations(record.operations)
    assert any(decode_operations(record.operations) for record in records.values())


def test_leases_exits_and_images_are_read(paths: Paths) -> None:
    leases = LeaseFile(paths.root).read()
    assert [lease.ports[0].host_port for lease in leases.sandboxes.values() if lease.ports] == [pods.HOST_PORT]
    exits = [msgspec.json.decode(f.read_bytes(), type=ChildExit) for f in Path(paths.root, "exits").iterdir()]
    assert 7 in {exit.code for exit in exits}
    assert [entry.reference for entry in ImageStore(paths).read_index().images] == [DEFAULT_REFERENCE]


def test_what_was_leased_before_the_boot_is_free(tmp_path: Path) -> None:
    for version in releases.VERSIONS:
        paths = Paths(str(tmp_path / version / "r"), str(tmp_path / version / "s"))
        releases.thaw(version, paths, boot="another")
        assert LeaseFile(paths.root).read().sandboxes == {}
