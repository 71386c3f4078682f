"""Generated sequences of changes: a watcher ends with exactly what a list says, or it is ended with Expired."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from minipod.agent.events import PodReference
from minipod.agent.registry.history import Change, ChangeType, History, Watch, change_of
from minipod.agent.registry.registry import Registry
from minipod.agent.registry.selection import Selection, parse_selectors
from minipod.agent.registry.stored import StoredObjects
from minipod.api.defaults import defaulted
from minipod.api.kinds import kind_named
from minipod.api.types import ConfigMap, Event, ObjectMeta, Secret
from minipod.errors import ExpiredError, NotFoundError
from tests.unit.agent_fakes import make_node

Key = tuple[str, str, str]
Content = dict[Key, Any]

RING = 12
NAMES = ("a", "b", "c")
KINDS: dict[str, type[Any]] = {"ConfigMap": ConfigMap, "Secret": Secret, "Event": Event}
SELECTORS = ("", "app=web", "app!=web", "tier", "!tier", "app in (web, db),tier=1")
LABELS: tuple[dict[str, str], ...] = ({}, {"app": "web"}, {"app": "db"}, {"app": "web", "tier": "1"}, {"tier": "2"})


class Agent:
    """What an agent stores and announces; `restart` is a kill -9, perhaps between a write and its announcement."""

    def __init__(self) -> None:
        self.content: Content = {}
        self.version = 0
        self.history = History(0, max_changes=RING)
        self.past: dict[int, Content] = {0: {}}  # what a list held at each version

    def write(self, key: Key, labels: dict[str, str] | None, announced: bool = True) -> None:
        """`labels` None: deletes it; a write of what is not there makes it."""
        old = self.content.get(key)
        if labels is None and old is None:
            return
        self.version += 1
        kind, namespace, name = key
        kept = old.metadata if old is not None else ObjectMeta(uid=f"uid-{self.version}")
        metadata = ObjectMeta(
            name=name,
            namespace=namespace,
            uid=kept.uid,
            labels=kept.labels if labels is None else labels,
            resource_version=str(self.version),
        )
        new = KINDS[kind](metadata=metadata)
        type_: ChangeType = "DELETED" if labels is None else "ADDED" if old is None else "MODIFIED"
        if labels is None:
            del self.content[key]
        else:
            self.content[key] = new
        if announced:
            self.history.append(change_of(type_, old, new, msgspec.json.encode(new)))
            self.past[self.version] = dict(self.content)

    def restart(self) -> None:
        self.history = History(self.version, max_changes=RING)
        self.past[self.version] = dict(self.content)


class RealAgent(Agent):
    """The registry, the events and the store of a real one."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._open()

    def _open(self) -> None:
        self._node = make_node(self._folder)
        self.history = self._node.history
        self.history._max_changes = RING
        self._look()

    def _look(self) -> None:
        self.version = self.history.version
        registry = self._node.registry
        things = [thing for name in KINDS for thing in registry.objects(kind_named(name))]
        self.content = {(thing.kind, thing.metadata.namespace, thing.metadata.name): thing for thing in things}
        self.past[self.version] = self.content

    def write(self, key: Key, labels: dict[str, str] | None, announced: bool = True) -> None:
        registry, (kind, namespace, name) = self._node.registry, key
        if not announced:
            registry = Registry(self._node.store, StoredObjects(self._node.store, lambda: 0.0, lambda _: None))
        if kind == "Event":
            pod = PodReference(namespace, name, f"uid-{name}")
            self._node.events.record(pod, "Normal", "Reason", str(labels), self._node.clock())
        elif labels is None:
            with contextlib.suppress(NotFoundError):
                registry.delete(kind_named(kind), namespace, name)
        elif key in self.content:
            registry.update(kind_named(kind), namespace, name, lambda old: with_labels(old, labels))
        else:
            registry.create(defaulted(KINDS[kind](metadata=ObjectMeta(name=name, namespace=namespace, labels=labels))))
        if announced:
            self._look()

    def fail(self, key: Key) -> None:
        """A transaction that is rolled back, as on a full disk: of what was written in it nobody ever hears."""
        before = self.content
        with contextlib.suppress(InterruptedError), self._node.store.transaction():
            for name in NAMES:
                self.write((key[0], key[1], name), {"app": "web"})
            raise InterruptedError
        self._look()
        assert self.content == before

    def restart(self) -> None:
        self.close()
        self._open()

    def close(self) -> None:
        self._node.store.close()


def with_labels(thing: Any, labels: dict[str, str]) -> Any:
    return replace(thing, metadata=replace(thing.metadata, labels=labels))


class Watcher:
    """A client with a copy of what it selects. `reads`: takes every change as it comes, or sleeps until the end."""

    def __init__(self, agent: Agent, selection: Selection, version: int, reads: bool) -> None:
        self._agent = agent
        self._history = agent.history
        self.selection = selection
        self.copy = self.listed(agent.past[version])
        self.expired = False
        self.watch: Watch | None = None
        self.begin(version)
        self.task = asyncio.ensure_future(self._read()) if reads else None

    def begin(self, version: int) -> None:
        try:
            self.watch = self._agent.history.watch(self.selection, version)
        except ExpiredError:
            assert not self._agent.history.oldest_version <= version <= self._agent.history.version
            self.expired = True

    def listed(self, content: Content) -> Content:
        return {key: one for key, one in content.items() if self.selection.means(*key) and self.selection.matches(one)}

    async def _read(self) -> None:
        while not self.expired:
            assert self.watch is not None
            try:
                self.apply(await self.watch.next())
            except ExpiredError:
                self.expired = True

    def apply(self, change: Change) -> None:
        key = (change.kind, change.namespace, change.name)
        sent = msgspec.json.decode(change.data, type=KINDS[change.kind])
        assert int(sent.metadata.resource_version) == change.version
        assert (key in self.copy) is (change.type != "ADDED")
        if change.type == "DELETED":
            assert sent.metadata.labels == self.copy[key].metadata.labels, "its content from before"
            del self.copy[key]
        else:
            self.copy[key] = sent

    async def settle(self) -> None:
        """Takes what is there; after that the copy is the list, or an older list whose watch has expired."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
            assert self.task.cancelled() or self.task.exception() is None
        try:
            while self.watch is not None and (change := self.watch.take()) is not None:
                self.apply(change)
        except ExpiredError:
            self.expired = True
        if self._history is not self._agent.history and not self.expired:  # the agent was killed: it asks the next one
            assert self.watch is not None
            self.begin(self.watch.version)
            while not self.expired and (change := self.watch.take()) is not None:
                self.apply(change)
        if not self.expired:
            assert self.copy == self.listed(self._agent.content)


keys = st.tuples(st.sampled_from(("ConfigMap", "Secret")), st.sampled_from(("x", "y")), st.sampled_from(NAMES))
places = st.tuples(
    st.sampled_from(sorted(KINDS)), st.sampled_from((None, "x", "y")), st.sampled_from((None, None, *NAMES))
)
writes = st.tuples(st.just("write"), keys, st.one_of(st.none(), st.sampled_from(LABELS)))
watches = st.tuples(
    st.just("watch"),
    st.frozensets(places, min_size=1, max_size=2),
    st.sampled_from(SELECTORS),
    st.integers(0, 2 * RING),  # so many versions ago
    st.booleans(),
)
steps = st.one_of(
    writes,
    writes,
    writes,
    watches,
    st.tuples(st.just("turn")),
    st.tuples(st.just("many"), keys, st.integers(1, 2 * RING)),
    st.tuples(st.just("restart"), st.booleans()),
)


pods = st.tuples(st.just("Event"), st.just("x"), st.sampled_from(NAMES))
events = st.tuples(st.just("write"), pods, st.none())
fails = st.tuples(st.just("fail"), st.one_of(keys, pods))


async def run(agent: Agent, sequence: list[tuple[Any, ...]]) -> None:
    watchers = []
    for step in sequence:
        match step:
            case ("write", key, labels):
                agent.write(key, labels)
            case ("many", key, count):
                for number in range(count):
                    agent.write(key, LABELS[number % len(LABELS)])
            case ("watch", wanted, selector, back, reads):
                selection = Selection(wanted, labels=parse_selectors(selector, "", ())[0])
                version = max((known for known in agent.past if known <= agent.version - back), default=0)
                watchers.append(Watcher(agent, selection, version, reads))
            case ("fail", key) if isinstance(agent, RealAgent):
                agent.fail(key)
            case ("restart", written):
                if written:
                    agent.write(("ConfigMap", "x", "a"), {"app": "web"}, announced=False)
                agent.restart()
            case _:
                for _ in range(3):
                    await asyncio.sleep(0)
    for watcher in watchers:
        await watcher.settle()


@given(st.lists(steps, max_size=40))
def test_every_watcher_ends_with_the_list_or_is_expired(sequence: list[tuple[Any, ...]]) -> None:
    asyncio.run(run(Agent(), sequence))


@settings(max_examples=60)  # each writes to a disk
@given(st.lists(st.one_of(steps, steps, events, fails), max_size=30))
def test_every_watcher_of_the_real_registry_ends_with_the_list_or_is_expired(sequence: list[tuple[Any, ...]]) -> None:
    async def main() -> None:
        agent = RealAgent(Path(folder))
        try:
            await run(agent, sequence)
        finally:
            agent.close()

    with tempfile.TemporaryDirectory(prefix="mpw") as folder:
        asyncio.run(main())
