"""A foreground run whose agent was killed or replaced continues with the next one (layer 6).

The pods belong to this process (the agent saved that), so the next agent keeps them as long as it lives. What
is printed is read from the pods' status, and the logs from their files as before.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import ExitStack

from minipod.cli.client import AgentLostError, Client, Request
from minipod.cli.pods import STATUS_LISTS
from minipod.cli.show.progress import TERMINAL, Progress
from minipod.cli.values import Object
from minipod.errors import ExpiredError, NotFoundError
from minipod.kernel.inotify import Inotify


def is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


class Resumed:
    """The pods of a run, followed by their status until all are gone."""

    def __init__(self, client: Client, progress: Progress, watches: Inotify) -> None:
        self._client = client
        self._progress = progress
        self._watches = watches
        self._added = {event["uid"]: event for event in progress.pod_events}
        self._pods: dict[str, Object] = {}  # by uid, as last seen
        self._gone: set[str] = set()
        self._listed: set[str] | None = None  # what is there, until the list of a watch is complete
        self._deletions = ExitStack()
        self._deleted: set[tuple[str, bool]] = set()

    def follow(self) -> list[Object]:
        """Until all pods have ended and are gone; their outcomes as the agent would report them. Raises AgentError."""
        everything = {"verb": "get", "kind": "pods", "namespace": None, "name": None, "output": "object"}
        with self._deletions:
            while len(self._gone) < len(self._added):
                try:
                    with self._client.request({**everything, "watch": True}) as watch:
                        self._listed = set()
                        self._follow_with(watch)
                except (AgentLostError, ExpiredError):
                    continue
        return [self._outcome(uid) for uid in self._added]

    def _follow_with(self, watch: Request) -> None:
        while True:
            while (event := watch.poll()) is not None:
                self._see(event)
            self._progress.drain()
            if len(self._gone) == len(self._added):
                return
            poll = select.poll()
            poll.register(watch, select.POLLIN)
            poll.register(self._watches, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            if self._watches.fileno() in ready:
                self._watches.read()
            if watch.fileno() in ready:
                watch.fill()

    def _see(self, event: Object) -> None:
        if event["event"] == "bookmark" and self._listed is not None:
            self._gone |= set(self._added) - self._listed  # these went while no agent ran
            self._listed = None
        if event["event"] != "object":
            return
        pod = event["object"]
        uid = pod["metadata"]["uid"]
        if uid not in self._added:
            return
        if self._listed is not None:
            self._listed.add(uid)
        self._pods[uid] = pod
        self._progress.show({**self._added[uid], "event": "ready", "ready": is_ready(pod)})
        for path, container in self._log_files(uid, pod):
            self._progress.show({**self._added[uid], "event": "log", "container": container, "path": path})
        if event["type"] == "DELETED":
            self._gone.add(uid)
        elif pod["status"].get("phase") in TERMINAL:
            self._delete(pod, kill=False)

    def _log_files(self, uid: str, pod: Object) -> Iterator[tuple[str, str]]:
        for key in STATUS_LISTS:
            for status in pod["status"].get(key) or []:
                if status.get("containerID"):
                    for number in range(int(status.get("restartCount") or 0) + 1):
                        yield f"{self._added[uid]['log_directory']}/{status['name']}/{number}.log", status["name"]

    def end(self, kill: bool) -> None:
        """Ask for the end of all pods, without waiting for it."""
        for uid, event in self._added.items():
            if uid not in self._gone:
                self._delete({"metadata": {**event, "uid": uid}}, kill)

    def _delete(self, pod: Object, kill: bool) -> None:
        meta = pod["metadata"]
        if (meta["uid"], kill) in self._deleted:
            return
        self._deleted.add((meta["uid"], kill))
        message = {"verb": "delete", "namespace": meta.get("namespace", "default"), "names": [meta["name"]]}
        grace = {"grace_period": 0 if kill else None, "force": kill}
        try:
            self._deletions.enter_context(self._client.request({**message, **grace}))
        except NotFoundError:
            self._gone.add(meta["uid"])

    def _outcome(self, uid: str) -> Object:
        status = (self._pods.get(uid) or {}).get("status") or {}
        codes = {
            entry["name"]: entry["state"]["terminated"]["exitCode"]
            for entry in status.get("containerStatuses") or []
            if "terminated" in (entry.get("state") or {})
        }
        fields = {key: status[key] for key in ("reason", "message") if status.get(key)}
        name = self._added[uid]["name"]
        return {"name": name, "phase": status.get("phase", "Unknown"), **fields, "exit_codes": codes}
