"""A kubelet's world without a kernel: a virtual clock and a runtime that plays small shell scripts.

Only what the tests of the lifecycle need: `sleep`, `exit`, `touch`, `rm`, `true`, `false`, `trap`; anything else takes
no time. A shell as PID 1 ignores TERM unless it has a trap for it, so it ends by KILL when its grace is over.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from minipod.api.types import ContainerStatus, Pod
from minipod.lifecycle import core, model
from minipod.lifecycle.probes import WantedProbe, first_at, is_asked_at_once, wanted_probes
from minipod.lifecycle.spec import find_container

START = 1_700_000_000.0
STEP_LIMIT = 20_000
PROBE_S = 0.002  # what a probe takes: its answer comes after the other probes' turn of the same moment


def make_pod(spec: dict[str, Any], name: str = "p") -> Pod:
    """A pod as it comes from the manifest's reader: with the defaults that the lifecycle relies on."""
    spec = {"restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "nodeName": "node", **spec}
    for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
        container.setdefault("image", "busybox")
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if kind in container:
                defaults = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
                container[kind] = {**defaults, **container[kind]}
    metadata = {"name": name, "namespace": "default", "uid": "u-1", "generation": 1}
    return msgspec.convert({"metadata": metadata, "spec": spec}, Pod)


class Process:
    """One instance of a container, with what its script will do."""

    def __init__(self, name: str, container_id: str, script: str, started_at: float, stamp: float) -> None:
        """`stamp`: the wall clock's time, `started_at`: that which nobody sets."""
        self.name, self.id, self.started_at, self.stamp = name, container_id, started_at, stamp
        self.files: list[tuple[float, str, bool]] = []  # (since the start, path, there)
        self.trap = re.search(r"trap ([\"'])(.*?)\1 TERM", script)
        self.ends_after: float | None = None
        self.exit_code = 0
        self.alive = True
        if "while" not in script:
            self._read(re.sub(r"trap ([\"']).*?\1 TERM;?", "", script))

    def _read(self, script: str) -> None:
        at = 0.0
        for word in (part.strip().removesuffix("& wait").strip() for part in script.split(";")):
            if found := re.fullmatch(r"sleep (\d+)", word):
                at += int(found[1])
            elif found := re.fullmatch(r"exit (\d+)", word):
                self.exit_code = int(found[1])
                break
            elif found := re.fullmatch(r"(touch|rm) (\S+)", word):
                self.files.append((at, found[2], found[1] == "touch"))
        if at < 900:
            self.ends_after = at

    def has(self, path: str, now: float) -> bool:
        changes = [there for at, name, there in self.files if name == path and self.started_at + at <= now]
        return bool(changes) and changes[-1]


class Simulator:
    """One pod and its world. `published` holds every published status with its time since the start."""

    def __init__(self, pod: Pod, *, max_backoff_s: float = 300.0, save: bool = True) -> None:
        self.now = START
        self.ahead_s = 0.0  # of the wall clock, which may be set
        self.state = core.new_state(pod, self.now, max_backoff_s=max_backoff_s)
        self.save = save
        self.published: list[tuple[float, model.PodState]] = []
        self.actions: list[tuple[float, model.Action]] = []
        self.recorded: list[tuple[float, model.RecordEvent]] = []
        self.processes: dict[str, Process] = {}
        self.latency = {"image": 0.0, "start": 0.01, "sandbox": 0.05, "volumes": 0.01, "stop": 0.01, "tear": 0.01}
        self.fail: dict[str, model.Event] = {}  # container name -> the event that ends its start
        self.hangs: set[str] = set()  # containers whose start is never answered
        self.sandbox_errors = 0
        self.verdict: dict[str, tuple[int, str, str]] = {}  # container name -> exit code, reason, message of its end
        self.hook: Callable[[str, str], tuple[float, bool]] = lambda name, hook: (0.0, True)
        self.probe: Callable[[WantedProbe], str] | None = None
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._probing: dict[WantedProbe, float] = {}

    # -- time ------------------------------------------------------------------------------------------------------

    def at(self, delay_s: float, what: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._queue, (self.now + delay_s, self._number, what))

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.now + seconds
        for _ in range(STEP_LIMIT):
            wakeup = core.next_wakeup(self.state)
            queued = self._queue[0][0] if self._queue else None
            times = [t for t in (wakeup, queued) if t is not None]
            if not times or min(times) > end:
                self.now = end
                return
            if queued is not None and queued <= min(times):
                self.now = max(queued, self.now)
                heapq.heappop(self._queue)[2]()
            else:
                self.now = max(min(times), self.now)
                self.send(model.Tick())
        raise AssertionError("the core never comes to rest")

    def start(self) -> Simulator:
        self.send(model.PodAdded())
        return self

    @property
    def wall(self) -> float:
        return self.now + self.ahead_s

    @property
    def t(self) -> float:
        return round(self.now - START, 3)

    # -- the worker ------------------------------------------------------------------------------------------------

    def send(self, event: model.Event) -> None:
        before = self.state.published
        self.state, actions = core.step(self.state, event, self.now, self.ahead_s)
        if self.save:
            self.state = msgspec.json.decode(msgspec.json.encode(self.state), type=model.PodState)
        if self.state.published != before:
            self.published.append((self.t, self.state))
        for action in actions:
            self.actions.append((self.t, action))
            self._do(action)
        self._compare_probes()
        if self.state.published != before:
            for probe in self._probing:
                if is_asked_at_once(self.state, probe):
                    self._ask(probe)

    def _do(self, action: model.Action) -> None:
        match action:
            case model.RecordEvent():
                self.recorded.append((self.t, action))
            case model.SetUpVolumes():
                self.later("volumes", model.VolumesReady())
            case model.CreateSandbox():
                self._create_sandbox(action)
            case model.StartContainer():
                self._start(action)
            case model.KillContainer():
                self._kill(action)
            case model.RunHook():
                seconds, ok = self.hook(action.name, action.hook)
                done = model.HookDone(
                    name=action.name, container_id=action.container_id, hook=action.hook, ok=ok, message="hook"
                )
                self.at(seconds, lambda: self.send(done))
            case model.StopSandbox():
                for process in list(self.processes.values()):
                    self._end(process, 137)
                self.later("stop", model.SandboxStopped(id=action.id))
            case model.TearDown():
                self.later("tear", model.TornDown())

    def later(self, what: str, event: model.Event) -> None:
        self.at(self.latency[what], lambda: self.send(event))

    def _create_sandbox(self, action: model.CreateSandbox) -> None:
        if self.sandbox_errors:
            self.sandbox_errors -= 1
            self.later("sandbox", model.SandboxFailed(message="no address left"))
            return
        self.later("sandbox", model.SandboxReady(id=f"sandbox-{action.attempt}", ips=("10.1.0.2",)))

    def _start(self, action: model.StartContainer) -> None:
        failure = self.fail.get(action.name)
        if action.name in self.hangs:
            return
        if isinstance(failure, model.ImageFailed):
            if not action.pull_allowed:
                failure = msgspec.structs.replace(failure, reason="ImagePullBackOff")
            event = failure
            self.at(self.latency["image"], lambda: self.send(event))
            return
        self.at(self.latency["image"], lambda: self.send(model.ImageReady(name=action.name)))
        if isinstance(failure, model.ContainerCreateFailed):
            self.later("start", failure)
            return
        self.at(self.latency["image"] + self.latency["start"], lambda: self._created(action))

    def _created(self, action: model.StartContainer) -> None:
        container_id = f"{action.name}-{action.attempt}"
        self.send(model.ContainerCreated(name=action.name, container_id=container_id, image_id="sha256:1"))
        if isinstance(self.fail.get(action.name), model.ContainerStartFailed):
            failure = model.ContainerStartFailed(
                name=action.name, container_id=container_id, at=self.wall, message="no such file or directory"
            )
            self.send(failure)
            return
        container = find_container(self.state.pod, action.name)
        assert container is not None
        script = container.command[-1] if container.command else "sleep 1000"
        process = Process(action.name, container_id, script, self.now, self.wall)
        self.processes[container_id] = process
        if process.ends_after is not None:
            self.at(process.ends_after + 0.02, lambda: self._end(process, process.exit_code))
        self.send(model.ContainerStarted(name=action.name, container_id=container_id, pid=100, at=self.wall))

    def _kill(self, action: model.KillContainer) -> None:
        process = self.processes.get(action.container_id)
        if process is None:
            return
        if process.trap and process.trap[2]:
            slept, code = (re.search(rf"{word} (\d+)", process.trap[2]) for word in ("sleep", "exit"))
            seconds, exit_code = (float(found[1]) if found else 0.0 for found in (slept, code))
            self.at(min(seconds + 0.01, action.grace_s), lambda: self._end(process, int(exit_code)))
        else:
            self.at(action.grace_s, lambda: self._end(process, 137))

    def _end(self, process: Process, exit_code: int) -> None:
        if not process.alive:
            return
        process.alive = False
        del self.processes[process.id]
        exit_code, reason, message = self.verdict.get(process.name, (exit_code, "", ""))
        self.send(
            model.ContainerExited(
                name=process.name,
                container_id=process.id,
                exit_code=exit_code,
                reason=reason,
                message=message,
                started_at=process.stamp,
                finished_at=self.wall,
            )
        )

    def end(self, name: str, exit_code: int) -> None:
        """The container ends by itself, now."""
        for process in list(self.processes.values()):
            if process.name == name:
                self._end(process, exit_code)

    # -- probes ------------------------------------------------------------------------------------------------------

    def _compare_probes(self) -> None:
        wanted = set(wanted_probes(self.state))
        self._probing = {probe: at for probe, at in self._probing.items() if probe in wanted}
        for probe in wanted:
            if probe not in self._probing:
                self._ask(probe)

    def _ask(self, probe: WantedProbe) -> None:
        self._probing[probe] = first_at(probe, self.now)
        self._probe_at(probe, self._probing[probe])

    def _probe_at(self, probe: WantedProbe, at: float) -> None:
        self.at(max(at - self.now, 0.0), lambda: self._make(probe, at))

    def _make(self, probe: WantedProbe, at: float) -> None:
        if self._probing.get(probe) != at:
            return
        self._probing[probe] = at + probe.probe.period_seconds
        self._probe_at(probe, self._probing[probe])
        result = self.probe(probe) if self.probe is not None else self._exec(probe)
        answer = model.ProbeResult(
            name=probe.name, container_id=probe.container_id, kind=probe.kind, result=result, message="m"
        )
        self.at(PROBE_S, lambda: self.send(answer))

    def _exec(self, probe: WantedProbe) -> str:
        process = self.processes.get(probe.container_id)
        action = probe.probe.exec
        if process is None or action is None:
            return "failure"
        if action.command[:2] == ("test", "-e"):
            return "success" if process.has(action.command[2], self.now) else "failure"
        return "failure" if action.command == ("false",) else "success"

    # -- what was seen -----------------------------------------------------------------------------------------------

    def history(self) -> Iterator[dict[str, Any]]:
        """Every distinct status, in the shape of the recorded ones."""
        last = None
        for t, state in self.published:
            entry = snapshot(state)
            if entry != last:
                yield {"t": t, **entry}
            last = entry

    def reasons(self, reason: str, container: str = "") -> list[float]:
        """When such an event was recorded."""
        return [
            t
            for t, e in self.recorded
            if e.reason == reason and (not container or e.field_path.endswith(f"{{{container}}}"))
        ]

    def container(self, name: str) -> Any:
        """A ContainerStatus; untyped, as a test that looks into a state which is not there fails by that."""
        status = self.state.status
        everything = (*status.init_container_statuses, *status.container_statuses, *status.ephemeral_container_statuses)
        return next(s for s in everything if s.name == name)

    def condition(self, kind: str) -> str:
        found: str = snapshot(self.state)["conditions"][kind]
        return found


def snapshot(state: model.PodState) -> dict[str, Any]:
    status = state.status
    conditions = {c.type: c.status + (f":{c.reason}" if c.reason else "") for c in status.conditions}
    entry: dict[str, Any] = {
        "phase": status.phase,
        "conditions": conditions,
        "init": {s.name: _container(s) for s in status.init_container_statuses},
        "containers": {s.name: _container(s) for s in status.container_statuses},
        "terminating": state.pod.metadata.deletion_timestamp is not None,
    }
    if status.reason:
        entry["reason"] = status.reason
    return entry


def _container(status: ContainerStatus) -> dict[str, Any]:
    result: dict[str, Any] = {"restartCount": status.restart_count, "ready": status.ready, "started": status.started}
    for name in ("waiting", "running", "terminated"):
        part = getattr(status.state, name)
        if part is None:
            continue
        result["state"] = name
        if name != "running" and part.reason:
            result["reason"] = part.reason
        if name == "terminated":
            result["exitCode"] = part.exit_code
            if part.message and part.reason not in ("ContainerStatusUnknown", "StartError"):
                result["message"] = part.message
    last = status.last_state.terminated
    if last is not None:
        result["lastTerminated"] = {"reason": last.reason, "exitCode": last.exit_code}
    return result
