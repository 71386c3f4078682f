"""The ledger: what each pod must show, compared with what it shows (pure).

Three witnesses: what the containers recorded themselves, the pod as `get -o json` shows it, and the logs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.faults.pods import Container, Pod

Status = dict[str, Any]
EXIT = "exit code"
LINES = "lines"
RESTARTS = "restarts"
PHASE = "phase"
LEAK = "leak"
HANG = "hang"
COMMAND = "command"
HOOK = "hook"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be. `kind`: one of the words above."""

    kind: str
    what: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}: {self.text}"


@dataclass(slots=True)
class Attempt:
    """What a container recorded of one attempt, and what the log has of it."""

    written: int = 0
    code: int | None = None
    logged: list[str] | None = None  # lines without the time; None: the log is not there any more


@dataclass(slots=True)
class Seen:
    """Everything that is known of one pod at one time."""

    status: Status
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)  # by container


def attempt_of(record: str) -> Attempt:
    """Of the file that a container has written: numbers, then `exit N`."""
    made = Attempt()
    for line in record.splitlines():
        if line.startswith("exit "):
            made.code = int(line[5:])
        elif line:
            made.written = int(line)
    return made


def container_status(status: Status, name: str) -> Status:
    every = (*status.get("initContainerStatuses", []), *status.get("containerStatuses", []))
    return next((found for found in every if found["name"] == name), {})


def exits_of(status: Status) -> list[tuple[int, str]]:
    """Code and reason of the last two ends that are shown, the newer one last; what waits shows only one of them."""
    ends = (status.get(state, {}).get("terminated") for state in ("lastState", "state"))
    return [(end["exitCode"], end.get("reason", "")) for end in ends if end]


def pending(pod: Pod, seen: Seen) -> str:
    """What the pod has still to do before its end can be looked at; empty: nothing."""
    phase = seen.status.get("phase")
    if phase != pod.phase() and phase not in ("Succeeded", "Failed"):
        return f"phase {phase}, not {pod.phase()} ({_state_of(seen.status)})"
    for container in pod.containers:
        shown = container_status(seen.status, container.name)
        attempts = seen.attempts.get(container.name, [])
        wanted = container.attempts(pod.policy)
        if phase == "Running" and container.endless and "running" not in shown.get("state", {}):
            return f"{container.name} does not run: {shown.get('state')}"
        if phase == "Running" and container.endless and not (attempts and attempts[-1].written):
            return f"{container.name} has written nothing"
        if phase == "Running" and not pod.doomed and "probes" in pod.kind and not shown.get("ready"):
            return f"{container.name} is not ready"
        if wanted is None and (len(attempts) < 2 or not shown.get("restartCount")):
            return f"{container.name} has not restarted"
    return ""


def findings(pod: Pod, seen: Seen) -> list[Finding]:
    """Everything that is wrong with a pod that has nothing more to do."""
    found = []
    phase = seen.status.get("phase")
    if phase != pod.phase():
        found.append(Finding(PHASE, pod.name, f"{phase}, not {pod.phase()}"))
    for container in pod.containers:
        attempts = seen.attempts.get(container.name, [])
        shown = container_status(seen.status, container.name)
        found += _compare(pod, container, attempts, shown)
    return found


def _compare(pod: Pod, container: Container, attempts: list[Attempt], shown: Status) -> list[Finding]:
    what = f"{pod.kind} {pod.name}/{container.name}"
    found = []
    wanted, count = container.attempts(pod.policy), shown.get("restartCount", 0)
    if wanted is not None and len(attempts) != wanted:
        found.append(Finding(RESTARTS, what, f"it ran {len(attempts)} times, not {wanted}"))
    if count != len(attempts) - 1:
        found.append(Finding(RESTARTS, what, f"restartCount {count} after {len(attempts)} attempts"))
    for number, attempt in enumerate(attempts[:-1]):
        if attempt.code is None:
            found.append(Finding(EXIT, what, f"attempt {number} was ended from outside"))
    found += _exits(what, container, attempts, shown)
    for number, attempt in enumerate(attempts):
        found += _lines(f"{what} attempt {number}", container, number, attempt, number >= len(attempts) - 2)
    return found


def _exits(what: str, container: Container, attempts: list[Attempt], shown: Status) -> list[Finding]:
    state = shown.get("state", {})
    running = "running" in state
    ended = len(attempts) - 1 if running else len(attempts)
    wanted = [container.code(number) for number in range(ended)]
    reported = exits_of(shown)
    codes = [code for code, _ in reported]
    if codes == wanted[len(wanted) - len(codes) :] and (codes or not ended):
        return []
    return [Finding(EXIT, what, f"shows {reported} in {sorted(state)}, must be {wanted[-2:]}")]


def _lines(what: str, container: Container, number: int, attempt: Attempt, kept: bool) -> list[Finding]:
    if attempt.logged is None:
        return [Finding(LINES, what, "has no log")] if kept else []
    expected = container.lines if attempt.code is not None and not container.endless else attempt.written
    wanted = [f"{container.name} {number} {line + 1}" for line in range(max(expected, len(attempt.logged)))]
    logged = [" ".join(line.split(" ", 3)[:3]) for line in attempt.logged]
    if logged == wanted[: len(logged)] and len(logged) >= expected:
        # a line is written before it is recorded: one more than was recorded may be there, and more written since
        return [] if container.endless or len(logged) == expected or attempt.code is None else [
            Finding(LINES, what, f"{len(logged)} lines, {expected} were written")]  # fmt: skip
    if logged == wanted[: len(logged)]:
        return [Finding(LINES, what, f"the last {expected - len(logged)} of {expected} lines are not there")]
    at = next((at for at, pair in enumerate(zip(logged, wanted, strict=False)) if pair[0] != pair[1]), len(wanted))
    return [Finding(LINES, what, f"{len(logged)} lines of {expected}; line {at + 1} is {logged[at]!r}")]


def _state_of(status: Status) -> str:
    every = (*status.get("initContainerStatuses", []), *status.get("containerStatuses", []))
    return "; ".join(f"{found['name']}: {found.get('state')}" for found in every)[:400]
