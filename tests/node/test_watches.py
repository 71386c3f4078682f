"""Watches on the real agent: each ends with exactly the list's content, or with an error (node, root)."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import minipod
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

WAIT_S = 30.0 * SLOWNESS
COUNT = 400
GROWTH_BYTES = 64 << 20  # of the agent, whatever passes; a queue for each watcher would hold 280 MiB

Object = dict[str, Any]
Content = dict[str, Object]

CONFIG_MAP = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, labels: {app: %s}}\ndata: {turn: '%s'}\n"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: busybox, command: [sleep, "1000"]}]
"""


def apply(node: Node, *documents: str) -> None:
    if node.agent_pid() is None:
        node("apply", "-f", "-", input="".join(documents))
        return
    answer = node.ask("apply", files=[{"name": "f.yaml", "text": "".join(documents)}], namespace="default")
    assert answer is not None
    assert answer.get("ok"), answer


def delete(node: Node, *names: str) -> None:
    answer = node.ask("delete", kind="configmaps", namespace="default", names=names)
    assert answer is not None
    assert answer.get("ok"), answer


def churn(node: Node, turns: int, count: int = 20) -> None:
    """Maps that change their label and their content, that go and come back."""
    for turn in range(turns):
        documents = [CONFIG_MAP % (f"m{n}", "web" if (n + turn) % 3 else "db", turn) for n in range(count)]
        apply(node, *documents)
        delete(node, f"m{turn % count}")


def listed(node: Node, selector: str = "") -> Content:
    words = ("-l", selector) if selector else ()
    items = json.loads(node("get", "configmaps", *words, "-o", "json").stdout)["items"]
    return {item["metadata"]["name"]: item for item in items}


def applied_to(content: Content, event: Object) -> None:
    item = event["object"]
    name = item["metadata"]["name"]
    assert (name in content) is (event["type"] != "ADDED"), event
    if event["type"] == "DELETED":
        del content[name]
    else:
        content[name] = item


class Watcher:
    """A client of the control socket that follows one `get`, as slowly as it likes."""

    def __init__(self, node: Node, **request: object) -> None:
        self.content: Content = {}
        self.version = ""
        self.error: Object | None = None
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(WAIT_S)
        self._socket.connect(node.paths.agent_socket)
        message = {"verb": "get", "version": minipod.__version__, "kind": "configmaps", "namespace": "default"}
        line = json.dumps({**message, "output": "object", "watch": True, **request})
        self._socket.sendall(line.encode() + b"\n")
        self._lines = self._socket.makefile("rb")

    def read(self) -> Object | None:
        """One message, taken into the content; None at the end."""
        line = self._lines.readline()
        if not line:
            return None
        event: Object = json.loads(line)
        if event.get("event") == "object":
            applied_to(self.content, event)
            self.version = event["object"]["metadata"]["resourceVersion"]
        elif event.get("event") == "bookmark":
            self.version = event["resource_version"]
        self.error = event.get("error", self.error)
        return event

    def read_list(self) -> None:
        while (event := self.read()) is not None and event.get("event") != "bookmark":
            pass

    def read_until(self, name: str) -> None:
        """Until the map is there, or the watch has ended."""
        while name not in self.content and self.read() is not None:
            pass

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


@pytest.fixture
def watcher(node: Node) -> Iterator[Any]:
    """Makes watchers, and closes them at the end."""
    made: list[Watcher] = []

    def make(**request: object) -> Watcher:
        made.append(Watcher(node, **request))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Command:
    """`minipod get … -w -o json --output-watch-events`, and what a reader of its output knows."""

    def __init__(self, node: Node, *words: str) -> None:
        words = (*words, "-w", "-o", "json", "--output-watch-events")
        self.process = node.popen("get", *words, stderr=subprocess.PIPE)
        self.content: Content = {}
        self._lines: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def read_until(self, done: Any, what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not done(self.content):
            try:
                applied_to(self.content, json.loads(self._lines.get(timeout=0.1)))
            except queue.Empty:
                alive = self.process.poll() is None
                assert alive, f"{what}: {self.process.stderr.read() if self.process.stderr else ''}"
                assert time.monotonic() < deadline, f"{what}: waited in vain: {sorted(self.content)}"

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(WAIT_S)
        self._thread.join()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def kill(node: Node) -> None:
    pid = node.agent_pid()
    assert pid is not None
    process = psutil.Process(pid)
    process.kill()
    psutil.wait_procs([process], timeout=WAIT_S)


def test_each_watcher_ends_with_the_list(node: Node, watcher: Any) -> None:
    """One of everything, one with a selector, one from an old version, one that reads only at the end."""
    apply(node, *(CONFIG_MAP % (f"m{n}", "web", "first") for n in range(10)))
    everything, selected, sleeping = watcher(), watcher(selector="app=web"), watcher(selector="app!=db")
    everything.read_list()
    selected.read_list()
    old = watcher(selector="app=web")
    old.read_list()
    old.close()
    churn(node, 15)
    again = watcher(selector="app=web", resource_version=old.version)
    again.content = dict(old.content)
    churn(node, 15)
    apply(node, CONFIG_MAP % ("end", "web", "last"))
    for one, selector in ((everything, ""), (selected, "app=web"), (again, "app=web"), (sleeping, "app!=db")):
        one.read_until("end")
        assert one.content == listed(node, selector), selector
        assert one.error is None


def test_a_watcher_that_never_reads_costs_no_memory_and_is_ended(node: Node, watcher: Any) -> None:
    apply(node, CONFIG_MAP % ("begin", "web", "x"))
    sleeping = [watcher() for _ in range(40)]
    busy = watcher(selector="app=none")
    busy.read_list()
    pid = node.agent_pid()
    agent = psutil.Process(pid)
    apply(node, *(CONFIG_MAP % (f"m{n}", "web", "x" * 200) for n in range(COUNT)))  # the code is loaded from here on
    before = agent.memory_info().rss
    for turn in range(15):
        apply(node, *(CONFIG_MAP % (f"m{n}", "web", f"{turn}{'x' * 1000}") for n in range(COUNT)))
    grown = agent.memory_info().rss - before
    print(f"grew by {grown >> 20} MiB")
    assert grown < GROWTH_BYTES, f"grew by {grown >> 20} MiB while {15 * COUNT} changes passed"
    for one in sleeping:
        while one.read() is not None:
            pass
        assert one.error is None or one.error["kind"] == "Expired"
        if one.error is None:  # dropped before it could be said
            assert len(one.content) < COUNT + 1
    apply(node, CONFIG_MAP % ("end", "none", "x"))
    busy.read_until("end")
    assert busy.content == listed(node, "app=none"), "who waits does not expire, whatever passes"
    fresh = watcher(resource_version=sleeping[0].version or "1")
    fresh.read()
    assert fresh.error is not None
    assert fresh.error["kind"] == "Expired"
    assert fresh.error["message"].startswith("too old resource version: ")


def test_a_watching_command_survives_a_kill_of_the_agent_and_of_what_was_written_and_not_announced(
    node: Node, watcher: Any
) -> None:
    apply(node, *(CONFIG_MAP % (f"m{n}", "web", "first") for n in range(6)))
    command = Command(node, "configmaps", "-l", "app=web")
    raw = watcher(selector="app=web")
    raw.read_list()
    try:
        command.read_until(lambda content: len(content) == 6, "the list")
        stopped = command.process.pid
        os.kill(stopped, signal.SIGSTOP)  # so that it starts no agent before the store was changed
        kill(node)
        with sqlite3.connect(f"{node.paths.state}/minipod.db") as store:  # as if killed between write and announcement
            for name, label, turn in (("m0", "db", "left"), ("m1", "web", "changed")):
                [[data]] = store.execute("SELECT data FROM objects WHERE kind='ConfigMap' AND name=?", (name,))
                item = json.loads(data)
                item["metadata"] |= {"labels": {"app": label}, "resourceVersion": str(int(raw.version) + 1)}
                item["data"] = {"turn": turn}
                store.execute(
                    "UPDATE objects SET data=?, version=? WHERE kind='ConfigMap' AND name=?",
                    (json.dumps(item).encode(), int(raw.version) + 1, name),
                )
            store.execute("DELETE FROM objects WHERE kind='ConfigMap' AND name='m2'")
        store.close()
        os.kill(stopped, signal.SIGCONT)
        command.read_until(lambda content: "m2" not in content, "the list after the kill")
        churn(node, 3, 6)
        apply(node, CONFIG_MAP % ("end", "web", "last"))
        command.read_until(lambda content: "end" in content, "changes of the new agent")
        assert command.content == listed(node, "app=web")
        again = watcher(selector="app=web", resource_version=raw.version)
        again.read()
        assert again.error is not None, "changes that it would miss are an error"
        assert again.error["kind"] == "Expired"
    finally:
        command.close()


def test_a_watching_command_goes_on_with_the_agent_that_takes_over(node: Node) -> None:
    apply(node, CONFIG_MAP % ("m", "web", "first"))
    command = Command(node, "configmaps")
    try:
        command.read_until(lambda content: "m" in content, "the list")
        node.ask("shutdown")
        apply_by_command = node("apply", "-f", "-", input=CONFIG_MAP % ("later", "web", "second"))
        assert "created" in apply_by_command.stdout
        command.read_until(lambda content: "later" in content, "changes of the new agent")
        assert command.content == listed(node)
    finally:
        command.close()


def test_a_pod_whose_label_changes_leaves_the_selecting_watch_and_its_row_is_printed_again(
    node: Node, tmp_path: Path
) -> None:
    (tmp_path / "pod.yaml").write_text(POD)
    node("run", "-d", "--until", "ready", tmp_path / "pod.yaml")
    words = ("get", "pods", "-w", "-l", "app=web", "-L", "app", "--output-watch-events")
    with node.popen(*words, stderr=subprocess.DEVNULL) as table:
        assert table.stdout is not None
        assert table.stdout.readline().split() == ["EVENT", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "APP"]
        assert table.stdout.readline().split()[:4] == ["ADDED", "web", "1/1", "Running"]
        node("label", "pod", "web", "app=db", "--overwrite")
        gone = table.stdout.readline().split()
        assert (gone[0], gone[1], gone[-1]) == ("DELETED", "web", "web"), "as it was when it was selected"
        node("label", "pod", "web", "app=web", "--overwrite")
        assert table.stdout.readline().split()[:2] == ["ADDED", "web"]
        node("delete", "pod", "web")
        while table.stdout.readline().split()[:2] != ["DELETED", "web"]:
            pass
        table.send_signal(signal.SIGINT)


def test_wait_survives_a_kill_of_the_agent(node: Node, tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(POD)
    node("run", "-d", "--until", "ready", tmp_path / "pod.yaml")
    with node.popen("wait", "--for=delete", "pod/web", "--timeout=60s") as waiting:
        deadline = time.monotonic() + WAIT_S
        while (status := node.ask("status")) is None or status["connections"] != 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        kill(node)
        node("delete", "pod", "web")
        assert waiting.communicate(timeout=WAIT_S)[0] == "pod/web condition met\n"
        assert waiting.returncode == 0


def test_events_and_the_node_are_listed_like_other_kinds(node: Node, tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(POD)
    with node.popen("events", "-w", "--for", "pod/web", stderr=subprocess.DEVNULL) as watching:
        node("run", "-d", "--until", "ready", tmp_path / "pod.yaml")
        assert watching.stdout is not None
        reasons = []
        while "Started" not in reasons:
            reasons.append(next(iter(watching.stdout.readline().split()[2:3]), ""))
        watching.send_signal(signal.SIGINT)
    assert {"Scheduled", "Created"} <= set(reasons)
    selected = node("get", "events", "--field-selector", "involvedObject.name=web,reason=Started", "-o", "wide").stdout
    assert selected.split("\n")[0].split()[:4] == ["LAST", "SEEN", "TYPE", "REASON"]
    assert len(selected.splitlines()) == 2
    listed_node = json.loads(node("get", "nodes", "-o", "json").stdout)["items"][0]
    assert listed_node["status"]["nodeInfo"]["kernelVersion"] == os.uname().release
    assert int(listed_node["status"]["capacity"]["cpu"]) == os.cpu_count()
    rows = node("get", "no", "-o", "wide").stdout.splitlines()
    assert rows[0].split()[:6] == ["NAME", "STATUS", "ROLES", "AGE", "VERSION", "INTERNAL-IP"]
    assert rows[1].split()[:3] == [listed_node["metadata"]["name"], "Ready", "<none>"]
    refused = node("delete", "node", listed_node["metadata"]["name"], check=False)
    assert refused.returncode != 0
