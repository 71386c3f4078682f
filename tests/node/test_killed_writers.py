"""kill -9 of the agent while clients write and watch: the ledger holds, and watches end with the list (node, root)."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import threading
import time
from typing import Any

from minipod.cli.client import AgentLostError, Channel, Client
from minipod.cli.watching import LISTED, Watching
from minipod.paths import Paths
from tests import builders
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

ROUNDS = 8
WRITERS = 4
KINDS = ("configmaps", "pods")
Content = dict[tuple[str, str], Any]


class Counter:
    """How many changes were confirmed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    def count(self) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wait_for_more(self, number: int) -> None:
        with self._changed:
            until = self._count + number
            assert self._changed.wait_for(lambda: self._count >= until, 60 * SLOWNESS)


class Writer(threading.Thread):
    """Creates, labels and deletes objects of its own, and labels the pod of all, until its agent does not answer."""

    def __init__(self, node: Node, number: int, seed: int, counter: Counter) -> None:
        super().__init__()
        self._node = node
        self.number = number
        self._dice = random.Random(seed)
        self._counter = counter
        self.known: dict[str, str | None] = {}  # name of a ConfigMap -> its label; None: deleted
        self.unknown: set[str] = set()  # those whose last change was not answered
        self.pod_labels: set[str] = set()
        self.errors: list[Any] = []

    def run(self) -> None:
        for step in range(10_000):
            name = f"w{self.number}-{self._dice.randrange(6)}"
            if self._dice.random() < 0.2:
                key = f"{self.number}-{step}"
                if not self._ask("label", target=_target("pods", "shared"), field="labels", set={f"l{key}": "1"}):
                    return
                self.pod_labels.add(f"l{key}")
                continue
            before = self.known.get(name)
            self.unknown.add(name)
            if before is not None and self._dice.random() < 0.3:
                done, after = self._ask("delete", kind="configmaps", names=[name]), None
            else:
                after = str(step)
                thing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"step": after}}}
                done = self._ask("apply", files=[{"name": name, "text": json.dumps(thing)}])
            if not done:
                return
            self.unknown.discard(name)
            self.known[name] = after

    def _ask(self, verb: str, **fields: Any) -> bool:
        try:
            answer = self._node.ask(verb, **fields)
        except OSError:
            return False
        if answer is None:
            return False
        if "error" in answer:
            self.errors.append(answer)
        self._counter.count()
        return True


def _target(kind: str, name: str) -> dict[str, str]:
    return {"kind": kind, "name": name}


class WaitingClient(Client):
    """Waits for the agents that others start: one that the test's own process started would be its child."""

    def connect(self) -> Channel:
        until = time.monotonic() + 30 * SLOWNESS
        while (channel := self.try_connect()) is None:
            if time.monotonic() > until:
                raise AgentLostError("no other agent came")
            time.sleep(0.02)
        return channel


class Follower(threading.Thread):
    """What a client knows that lists again only where its watch could not continue."""

    def __init__(self, paths: Paths, kind: str) -> None:
        super().__init__()
        message = {"verb": "get", "kind": kind, "namespace": "default", "output": "object"}
        self._watching = Watching(WaitingClient(paths), message)
        self.content: Content = {}
        self.failure: Exception | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                event = self._watching.next(time.monotonic() + 0.1)
                if event is None or event["type"] == LISTED:
                    continue
                thing = event["object"]
                key = (thing["kind"], thing["metadata"]["name"])
                if event["type"] == "DELETED":
                    del self.content[key]
                else:
                    self.content[key] = thing
        except Exception as error:  # shown by `agree`
            self.failure = error
        finally:
            self._watching.__exit__()


def listed(node: Node, kind: str) -> Content:
    items = json.loads(node("get", kind, "-o", "json").stdout)["items"]
    return {(item["kind"], item["metadata"]["name"]): item for item in items}


def in_database(paths: Paths) -> Content:
    with sqlite3.connect(f"file:{paths.state}/minipod.db?mode=ro", uri=True) as db:
        rows = db.execute("SELECT kind, name, data FROM objects WHERE kind IN ('Pod', 'ConfigMap')")
        return {(kind, name): json.loads(data) for kind, name, data in rows}


def agree(node: Node, followers: list[Follower]) -> None:
    """List, database and watches have the same content, once the pod has come to rest."""
    until = time.monotonic() + 30 * SLOWNESS
    while True:
        lists = {kind: listed(node, kind) for kind in KINDS}
        everything = {key: thing for content in lists.values() for key, thing in content.items()}
        wrong = [f.failure or kind for kind, f in zip(KINDS, followers, strict=True) if f.content != lists[kind]]
        if in_database(node.paths) != everything:
            wrong.append("the database")
        if not wrong:
            return
        assert time.monotonic() < until, wrong
        time.sleep(0.05)


def test_after_every_kill_the_ledger_holds_and_the_watches_end_with_the_list(node: Node) -> None:
    pod = builders.pod("shared", builders.container("a", "sleep 1000"), terminationGracePeriodSeconds=0)
    node("run", "-d", "-", input=builders.manifest(pod))
    followers = [Follower(node.paths, kind) for kind in KINDS]
    for follower in followers:
        follower.start()
    try:
        write_and_kill(node, followers)
    finally:
        for follower in followers:
            follower.stop()


def write_and_kill(node: Node, followers: list[Follower]) -> None:
    known: dict[str, str] = {}
    labels: set[str] = set()
    counter = Counter()
    for seed in range(ROUNDS):
        dice = random.Random(seed)
        writers = [Writer(node, number, seed * WRITERS + number, counter) for number in range(WRITERS)]
        for writer in writers:
            writer.known |= {name: step for name, step in known.items() if name.startswith(f"w{writer.number}-")}
            writer.start()
        counter.wait_for_more(dice.randrange(1, 60))
        pid = node.agent_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        for writer in writers:
            writer.join()
            assert not writer.errors, writer.errors
        listing = listed(node, "configmaps")  # starts the next agent
        found = {name: thing["metadata"]["labels"]["step"] for (_, name), thing in listing.items() if name[0] == "w"}
        for writer in writers:
            labels |= writer.pod_labels
            lost = {
                name: (step, found.get(name))
                for name, step in writer.known.items()
                if found.get(name) != step and name not in writer.unknown
            }
            assert not lost, f"round {seed}: name: (confirmed, found): {lost}"
        known = dict(found)
        assert labels <= node.pod("shared")["metadata"]["labels"].keys()  # type: ignore[index]
        agree(node, followers)
