"""Keeps the static pods of a directory (layer 5): creates those whose files are there, ends those whose files are not.

As pkg/kubelet/config/file.go and file_linux.go, with these differences: there is one object where a cluster has a
static pod and its mirror, and the pod of a file that cannot be read any more keeps running.
"""

from __future__ import annotations

import asyncio
import logging

from minipod.agent.events import PodReference
from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.agent.pods.worker import PodWorker
from minipod.agent.static.decide import Existing, decide
from minipod.agent.static.directory import SUFFIXES, Directory, Found
from minipod.agent.static.watch import Watch
from minipod.api.static_pod import Host, StaticPod, file_of, static_pod
from minipod.api.timestamps import timestamp
from minipod.config import STATIC_POD_PATH
from minipod.errors import HostError, MinipodError
from minipod.kernel.error_text import text_of
from minipod.lifecycle import model
from minipod.runtime.images.digest import sha256_hex
from minipod.runtime.offload import ANSWER_S, within

log = logging.getLogger("minipod.agent")

REASON = "InvalidStaticPod"


def path_of(node: Node) -> str:
    """The directory; empty: none."""
    path = node.config.static_pod_path
    return path if path != STATIC_POD_PATH or node.paths.is_default else ""


class StaticPods:
    """`run` returns when it is cancelled, or at once where no directory is configured. `problems`: by file."""

    def __init__(self, node: Node, pods: Pods) -> None:
        self._node = node
        self._pods = pods
        self.path = path_of(node)
        self.problems: dict[str, str] = {}
        self._host = Host(node.facts.node_name, "", sha256_hex)
        self._ignored: set[str] = set()
        self._warned: set[str] = set()
        self._awaited: set[str] = set()  # uids of pods whose end brings another look

    async def run(self) -> None:
        if not self.path:
            self._end_all()
            return
        directory = Directory(self.path, self._read)
        with Watch(self.path) as watch:
            self._pods.on_resume = watch.look_again
            while True:
                watch.follow()
                found = await self._look(directory, watch)
                if found is not None:
                    await self._act(found, watch)
                await watch.changed(soon=found is not None and found.has_unfinished)

    def _read(self, text: str, path: str) -> StaticPod:
        return static_pod(text, path, self._host, timestamp(self._node.clock()))

    async def _look(self, directory: Directory, watch: Watch) -> Found | None:
        """None where the directory cannot be read: its pods keep running."""
        try:
            self._host = self._host._replace(node_uid=self._node.host_node().metadata.uid)
            found = await within(ANSWER_S, self.path, directory.look, frozenset(watch.unfinished))
        except (OSError, TimeoutError, HostError) as error:
            why = str(error) if isinstance(error, (TimeoutError, HostError)) else text_of(error)
            self._report(self.problems | {self.path: f"{why}: static pods keep running as they are"})
            return None
        for path in sorted(set(found.ignored) - self._ignored):
            log.info("static pods: %s is not read: the names of manifests end with %s", path, ", ".join(SUFFIXES))
        self._ignored = set(found.ignored)
        return found

    async def _act(self, found: Found, watch: Watch) -> None:
        decision = decide(found.files, [_existing(worker) for worker in self._pods.select(None, None)])
        problems = dict(decision.problems)
        for uid in decision.end:
            worker = self._pods.by_uid(uid)
            if worker is not None:
                log.info("static pod %s/%s ends: its file has changed or is gone", worker.namespace, worker.name)
                worker.post(model.DeleteRequested())
        for worker in self._pods.select(None, None):
            if file_of(worker.pod):
                self._await_end(worker, watch)
        for static in () if self._pods.halted else decision.create:
            self._create(static, watch, problems)
            await asyncio.sleep(0)  # between thousands
        self._report(problems)

    def _create(self, static: StaticPod, watch: Watch, problems: dict[str, str]) -> None:
        path = file_of(static.pod)
        try:
            worker = self._pods.create_static(static.pod)
        except MinipodError as error:
            problems[path] = f"{path}: {error}"
            return
        self._await_end(worker, watch)
        log.info("static pod %s/%s of %s", worker.namespace, worker.name, path)
        for warning in static.warnings:
            if (line := f"{path}: {warning}") not in self._warned:
                self._warned.add(line)
                log.warning("%s", line)

    def _await_end(self, worker: PodWorker, watch: Watch) -> None:
        def ended(_: asyncio.Future[None]) -> None:
            self._awaited.discard(worker.uid)
            watch.look_again()

        if worker.uid not in self._awaited:
            self._awaited.add(worker.uid)
            worker.forgotten.add_done_callback(ended)

    def _end_all(self) -> None:
        """No directory is configured any more."""
        for worker in self._pods.select(None, None):
            if file_of(worker.pod):
                log.info("static pod %s/%s ends: no static_pod_path", worker.namespace, worker.name)
                worker.post(model.DeleteRequested())

    def _report(self, problems: dict[str, str]) -> None:
        """Each problem once: in the log and as an event of the node."""
        node, name = self._node, self._node.facts.node_name
        about = PodReference("default", name, name, kind="Node")  # its uid is the name, as the kubelet writes it
        for path, problem in problems.items():
            if self.problems.get(path) != problem:
                log.warning("static pods: %s", problem)
                node.events.note(about, "Warning", REASON, problem, node.clock())
        for path in self.problems.keys() - problems.keys():
            log.info("static pods: %s: no problem any more", path)
        self.problems = problems


def _existing(worker: PodWorker) -> Existing:
    is_ending = bool(worker.pod.metadata.deletion_timestamp) or worker.forgotten.done()
    return Existing(worker.namespace, worker.name, worker.uid, file_of(worker.pod), is_ending)
