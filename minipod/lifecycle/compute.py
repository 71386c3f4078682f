"""What one pass has to do (layer 4, pure): kuberuntime_manager.go computePodActions over what the core knows.

Only decides; `lifecycle.passes` does it, in the kubelet's order: end containers, make the sandbox, start containers.
"""

from __future__ import annotations

import msgspec

from minipod.api.status import is_sidecar, matching_restart_rule
from minipod.api.types import Container
from minipod.lifecycle.model import PodState, Run
from minipod.lifecycle.publish import should_be_restarted
from minipod.lifecycle.resize import needs_restart


class ToKill(msgspec.Struct, frozen=True):
    """`reason`: livenessProbe | startupProbe | definition | resize | unknown"""

    name: str
    message: str
    reason: str


class PodActions(msgspec.Struct, frozen=True, kw_only=True):
    """`kill_pod`: end all containers, then the sandbox. `start`: in this order."""

    kill_pod: bool = False
    create_sandbox: bool = False
    restart_all: bool = False
    kill: tuple[ToKill, ...] = ()
    start: tuple[str, ...] = ()


def compute(state: PodState) -> PodActions:
    """The next pass of a pod that is neither terminal nor being deleted."""
    if state.restart_all:
        return PodActions(restart_all=True)
    if state.sandbox.state != "ready":
        return _new_sandbox(state)
    ephemerals = tuple(c.name for c in state.pod.spec.ephemeral_containers if _run(state, c.name) is None)
    inits = _Inits(state)
    if inits.kill_pod:
        return PodActions(kill_pod=True, start=ephemerals)
    if not inits.initialized:
        return PodActions(kill=tuple(inits.kill), start=ephemerals + tuple(inits.start))
    kill, start, kept = _mains(state)
    if not kept and not start:
        return PodActions(kill_pod=True, start=ephemerals)
    return PodActions(kill=(*inits.kill, *kill), start=(*ephemerals, *inits.start, *start))


def wants_restart_of_all(state: PodState) -> bool:
    """Whether a container has ended by a rule with the action RestartAllContainers."""
    for container in (*state.pod.spec.init_containers, *state.pod.spec.containers):
        if caused_restart_of_all(container, _run(state, container.name)):
            return True
    return False


def caused_restart_of_all(container: Container, run: Run | None) -> bool:
    if run is None or run.state != "exited":
        return False
    rule = matching_restart_rule(container, run.exit_code)
    return rule is not None and rule.action == "RestartAllContainers"


def _run(state: PodState, name: str) -> Run | None:
    container = state.containers.get(name)
    return container.run if container is not None else None


def _probe(state: PodState, run: Run, name: str, kind: str) -> str:
    """success | failure | unknown of this very instance; empty where nothing is known yet."""
    probe = state.containers[name].probes.get(kind)
    return probe.result if probe is not None and probe.container_id == run.id else ""


def _new_sandbox(state: PodState) -> PodActions:
    """There is no sandbox, or it is gone: everything starts again, as far as the restart policy wants it."""
    spec = state.pod.spec
    any_made = any(container.run is not None for container in state.containers.values())
    attempt = next_attempt(state)
    if spec.restart_policy == "Never" and attempt and any_made:
        return PodActions(kill_pod=True)
    start = [c.name for c in spec.containers if not _ran_once(state, c)]
    if not start and any(_run(state, c.name) is not None for c in spec.containers):
        return PodActions(kill_pod=True)
    if spec.init_containers:
        start = [spec.init_containers[0].name]
    return PodActions(kill_pod=True, create_sandbox=True, start=tuple(start))


def next_attempt(state: PodState) -> int:
    """The number of the next sandbox; a sandbox that could not be made does not count."""
    return state.sandbox.attempt + 1 if state.sandbox.id else state.sandbox.attempt


def _ran_once(state: PodState, container: Container) -> bool:
    """It has succeeded and is to run only until then."""
    policy = container.restart_policy or state.pod.spec.restart_policy
    run = _run(state, container.name)
    return policy == "OnFailure" and run is not None and run.state == "exited" and run.exit_code == 0


class _Inits:
    """Which init containers are to be started or ended (computeInitContainerActions): from the last to the first,
    since only the last one that was started shows how far the pod has come."""

    def __init__(self, state: PodState) -> None:
        self.state = state
        self.inits = state.pod.spec.init_containers
        self.kill_pod = False
        self.kill: list[ToKill] = []
        self.start: list[str] = []
        runs = (_run(state, c.name) for c in state.pod.spec.containers)
        self.initialized = not self.inits or any(r is not None and r.state in ("created", "running") for r in runs)
        self.previously = self.initialized
        for index in range(len(self.inits) - 1, -1, -1):
            self._look_at(index)
            if self.kill_pod:
                self.start = []
                return
        if self.inits and not self.previously:
            self.start.append(self.inits[0].name)
        self.start.reverse()

    def _look_at(self, index: int) -> None:
        container = self.inits[index]
        run = _run(self.state, container.name)
        sidecar = is_sidecar(container)
        if run is None:
            if self.previously and sidecar:
                self.start.append(container.name)
            return
        if self.previously and not sidecar:
            return
        if run.state == "running":
            if sidecar:
                self._running_sidecar(index, container, run)
        elif run.state == "exited" and not sidecar:
            self._exited(index, container, run)
        else:
            self.kill += _unknown("Init container", container.name, run)
            self.start.append(container.name)
        self.previously = True

    def _exited(self, index: int, container: Container, run: Run) -> None:
        if run.exit_code == 0:
            self._done(index)
        elif should_be_restarted(self.state, container, run):
            self.start.append(container.name)
        else:
            self.kill_pod = True

    def _done(self, index: int) -> None:
        """This init container is done: the next one's turn, or the main containers'."""
        if index == len(self.inits) - 1:
            self.initialized = True
        elif not self.previously:
            self.start.append(self.inits[index + 1].name)

    def _running_sidecar(self, index: int, container: Container, run: Run) -> None:
        if container.startup_probe is not None:
            result = _probe(self.state, run, container.name, "startup")
            if result == "failure":
                self._restart(container, f"Init container {container.name} failed startup probe", "startupProbe")
            if result != "success":
                return
        self._done(index)
        if run.spec_image != container.image:
            self._restart(container, f"Init container {container.name} definition changed", "definition")
        elif needs_restart(self.state, container):
            self._restart(container, f"Container {container.name} resize requires restart", "resize")
        elif _probe(self.state, run, container.name, "liveness") == "failure":
            self._restart(container, f"Init container {container.name} failed liveness probe", "livenessProbe")

    def _restart(self, container: Container, message: str, reason: str) -> None:
        self.kill.append(ToKill(container.name, message, reason))
        self.start.append(container.name)


def _mains(state: PodState) -> tuple[list[ToKill], list[str], int]:
    """What to end, what to start, and how many keep running."""
    kill: list[ToKill] = []
    start: list[str] = []
    kept = 0
    for container in state.pod.spec.containers:
        run = _run(state, container.name)
        if run is None or run.state != "running":
            if should_be_restarted(state, container, run):
                start.append(container.name)
                kill += _unknown("Container", container.name, run)
            continue
        message, reason = _why_to_kill(state, container, run)
        if not message:
            kept += 1
            continue
        policy = container.restart_policy or state.pod.spec.restart_policy
        if reason == "resize":
            start.append(container.name)
        elif policy != "Never" or reason == "definition":
            message += ", will be restarted"
            start.append(container.name)
        kill.append(ToKill(container.name, message, reason))
    return kill, start, kept


def _unknown(word: str, name: str, run: Run | None) -> list[ToKill]:
    """A container whose state is unknown is ended first, so that there are never two."""
    if run is None or run.state != "unknown":
        return []
    return [ToKill(name, f'{word} is in "unknown" state, try killing it before restart', "unknown")]


def _why_to_kill(state: PodState, container: Container, run: Run) -> tuple[str, str]:
    if run.spec_image != container.image:
        return f"Container {container.name} definition changed", "definition"
    if needs_restart(state, container):
        return f"Container {container.name} resize requires restart", "resize"
    if _probe(state, run, container.name, "liveness") == "failure":
        return f"Container {container.name} failed liveness probe", "livenessProbe"
    if _probe(state, run, container.name, "startup") == "failure":
        return f"Container {container.name} failed startup probe", "startupProbe"
    return "", ""
