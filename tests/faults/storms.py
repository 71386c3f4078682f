"""Carries out a round of a storm: starts the commands, kills when it is due, waits, and asks the ledger."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests import leaks
from tests.builders import manifest
from tests.faults import ledger
from tests.faults.instance import Instance
from tests.faults.ledger import Finding, Seen
from tests.faults.pods import HOOKS, Pod
from tests.faults.pressure import HUNG, PRESSURES
from tests.faults.schedule import (
    APPLY,
    COMMAND,
    DELETE,
    EXEC,
    FOLLOW,
    HUNG_FOLDER,
    KILL,
    LABEL,
    PRESS,
    RESIZE,
    RUN,
    SET_CLOCK,
    SETTLED_S,
    STARTED,
    STOP,
    TERM,
    UPGRADE,
    WAKE,
    Round,
    Step,
)
from tests.patience import SLOWNESS

HANG_S = 60.0 * SLOWNESS
AGREE_S = 15.0 * SLOWNESS  # a status follows what happened
POLL_S = 0.1
SIGNALS = {KILL: signal.SIGKILL, TERM: signal.SIGTERM}
#: what docs/reliability.md names as lost, by the storm
EXCUSED = {
    "both": (ledger.EXIT, ledger.LINES, ledger.RESTARTS, ledger.PHASE),
    "disk": (ledger.LINES,),
    "inodes": (ledger.LINES,),
}
EXEC_CODE = 9
EXEC_COMMAND = f"echo one; echo two; exit {EXEC_CODE}"


@dataclass
class Started:
    """A command that runs, or has run. Its output is in files, so that nothing need read it meanwhile."""

    verb: str
    pod: str
    process: subprocess.Popen[str]
    output: Path
    began: float
    killed: bool = False
    ended: float | None = None

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def errors(self) -> str:
        return self.output.with_suffix(".err").read_text(errors="replace")


@dataclass
class Report:
    """What came of a round. `excused`: what docs/reliability.md names as lost when both die at once."""

    round: Round
    findings: list[Finding] = field(default_factory=list)
    excused: list[Finding] = field(default_factory=list)
    log: str = ""
    happened: list[str] = field(default_factory=list)
    kills: int = 0
    refused: int = 0  # commands that ended with an error
    lines: int = 0
    attempts: int = 0
    took_s: float = 0.0


class Storm:
    """One round on one instance. What has happened is in `report`, also when it fails."""

    def __init__(self, instance: Instance, plan: Round) -> None:
        self.instance = instance
        self.plan = plan
        self.report = Report(plan)
        self.commands: list[Started] = []
        self.pods = {pod.name: pod for pod in plan.pods}
        self.kills: list[float] = []
        self.began = time.monotonic()
        self.folder = Path(tempfile.mkdtemp(prefix="round", dir=instance.base))

    def play(self) -> Report:
        """The whole round, its checks and its clean-up."""
        for pod in self.plan.pods:
            text = manifest(pod.manifest(str(self.instance.truth / pod.name)))
            place = str(self.instance.base / HUNG)
            (self.folder / f"{pod.name}.yaml").write_text(text.replace(HUNG_FOLDER, place))
        with contextlib.ExitStack() as self.pressures:
            for step in self.plan.steps:
                threading.Event().wait(max(0.0, self.began + step.at_s - time.monotonic()))
                self._do(step)
            self._let_last()
        self._finish_commands()
        self._make_good()
        self._settle()
        self._check_commands()
        self._clear()
        self.report.took_s = time.monotonic() - self.began
        if self.report.findings:
            self.report.log = self.instance.log_tail()
        return self.report

    # --- what happens ----------------------------------------------------------------------------------------------

    def _do(self, step: Step) -> None:
        self._note(f"{step.do} {step.target}")
        if step.do in SIGNALS and step.target == COMMAND:
            self._kill_command(SIGNALS[step.do])
        elif step.do in SIGNALS:
            if self.plan.storm == "in-turn":
                self._wait_for_the_other()
            self.kills.append(time.monotonic())
            self.report.kills += len(self.instance.signal(step.target, SIGNALS[step.do]))
        elif step.do == STOP:
            self.kills.append(time.monotonic())
            self.report.kills += len(self.instance.signal(step.target, signal.SIGSTOP))
            again = threading.Timer(step.for_s, self.instance.signal, (step.target, signal.SIGCONT))
            again.start()
        elif step.do == PRESS:
            self.pressures.enter_context(PRESSURES[step.target](self.instance))
        elif step.do == SET_CLOCK:
            self.instance.set_clock(float(step.target))
        elif step.do == STARTED:
            self._wait_for_starts()
            self.began = time.monotonic() - step.at_s
        else:
            self._start(step.do, step.target)

    def _wait_for_the_other(self) -> None:
        """However slow the machine is: the last agent serves, and has had a moment with the last spawner."""
        waking = [command.process for command in self.commands if command.verb == WAKE]
        if any(process.poll() is None for process in waking):
            for process in waking:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(HANG_S)
            threading.Event().wait(SETTLED_S)

    def _wait_for_starts(self) -> None:
        pods = [step.target for step in self.plan.steps if step.at_s == 0 and step.do == APPLY]
        for _ in _until(time.monotonic() + HANG_S):
            if all(leaks.list_folder(self.instance.truth / pod) for pod in pods):
                return

    def _let_last(self) -> None:
        """Until the last stop and the last shortage are over."""
        end = max((step.at_s + step.for_s for step in self.plan.steps if step.for_s), default=0.0)
        threading.Event().wait(max(0.0, self.began + end - time.monotonic()))

    def _start(self, verb: str, pod: str) -> None:
        words: dict[str, tuple[object, ...]] = {
            APPLY: ("apply", "-f", self.folder / f"{pod}.yaml"),
            DELETE: ("delete", "pod", pod, "--ignore-not-found"),
            EXEC: ("exec", pod, "--", "sh", "-c", EXEC_COMMAND),
            RESIZE: ("resize", "pod", pod, "--limits", "cpu=400m,memory=80Mi"),
            LABEL: ("label", "pod", pod, "--overwrite", f"at={len(self.commands)}"),
            FOLLOW: ("logs", "-f", pod, "--all-containers"),
            RUN: ("run", self.folder / f"{pod}.yaml"),
            WAKE: ("get", "pods"),
            UPGRADE: ("get", "pods"),
        }
        output = self.folder / f"command-{len(self.commands)}"
        env = os.environ | self.instance.env
        if verb == UPGRADE:
            env["PYTHONPATH"] = self.instance.newer
        with output.open("w") as file, output.with_suffix(".err").open("w") as errors:
            process = self.instance.popen(*words[verb], stdout=file, stderr=errors, env=env)
        self.commands.append(Started(verb, pod, process, output, time.monotonic()))

    def _kill_command(self, number: int) -> None:
        for command in reversed(self.commands):
            if command.process.poll() is None:
                command.killed = True
                self.report.kills += 1
                command.process.send_signal(number)
                return

    def _note(self, text: str) -> None:
        self.report.happened.append(f"{time.monotonic() - self.began:6.2f} s  {text}")

    def _found(self, kind: str, what: str, text: str) -> None:
        self.report.findings.append(Finding(kind, what, text[-600:]))

    # --- afterwards ------------------------------------------------------------------------------------------------

    def _finish_commands(self) -> None:
        """Each ends by itself, `logs -f` when its pod does: those of pods that go on are ended."""
        self.instance.resume_all()
        deadline = time.monotonic() + HANG_S
        for command in self.commands:
            if command.verb == FOLLOW:
                continue
            try:
                command.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._found(ledger.HANG, f"{command.verb} {command.pod}", f"runs after {HANG_S:.0f} s")
                command.process.kill()
                command.process.wait()

    def _make_good(self) -> None:
        """What a death prevented is asked for again; a pod of which an apply has said that it is created is there."""
        done = self.instance("get", "pods", "-o", "name", check=False, timeout_s=HANG_S)
        self._must_be_so(done, "get pods", "")
        there = {name.removeprefix("pod/") for name in done.stdout.split()}
        created = {command.pod for command in self.commands if command.verb == APPLY and "created" in command.text()}
        for pod in self.plan.pods:
            if pod.doomed or pod.foreground or pod.name in there:
                continue
            if pod.name in created:
                self._found(ledger.HANG, f"{pod.kind} {pod.name}", "was created and is not there")
            done = self.instance("apply", "-f", self.folder / f"{pod.name}.yaml", check=False, timeout_s=HANG_S)
            self._must_be_so(done, f"apply {pod.name}", "created")

    def _must_be_so(self, done: subprocess.CompletedProcess[str], what: str, output: str) -> None:
        if done.returncode != 0 or output not in done.stdout:
            self._found(ledger.COMMAND, what, f"exit {done.returncode}: {done.stdout}{done.stderr}")

    def _look(self, pod: Pod) -> Seen | None:
        """The records first, then the status, then the logs: each later one may know more, never less."""
        answer = self.instance("get", "pod", pod.name, "-o", "json", check=False, timeout_s=HANG_S)
        if answer.returncode != 0:
            return None
        shown = json.loads(answer.stdout)
        names = tuple(container.name for container in pod.containers)
        return Seen(shown["status"], self.instance.attempts(pod.name, shown["metadata"]["uid"], names))

    def _settle(self) -> None:
        """Waits until each pod has nothing more to do, then compares; a status may need a moment to follow."""
        deadline = time.monotonic() + HANG_S
        for pod in self.plan.pods:
            if pod.foreground:
                self._must_go(pod, deadline)
            elif not pod.doomed:
                self._settle_pod(pod, deadline)

    def _must_go(self, pod: Pod, deadline: float) -> None:
        for _ in _until(deadline):
            if self._look(pod) is None:
                return
        self._found(ledger.HANG, f"{pod.kind} {pod.name}", "is there though its command has ended")

    def _settle_pod(self, pod: Pod, deadline: float) -> None:
        waiting = "is not there"
        for _ in _until(deadline):
            seen = self._look(pod)
            waiting = ledger.pending(pod, seen) if seen else "is not there"
            if not waiting:
                break
        if waiting:
            self._excuse([Finding(ledger.HANG, f"{pod.kind} {pod.name}", waiting)])
            return
        found: list[Finding] = []
        for _ in _until(time.monotonic() + AGREE_S):
            seen = self._look(pod)
            found = ledger.findings(pod, seen) if seen else [Finding(ledger.HANG, pod.name, "is not there")]
            if not found:
                break
        if seen:
            every = [attempt for attempts in seen.attempts.values() for attempt in attempts]
            self.report.attempts += len(every)
            self.report.lines += sum(len(attempt.logged or ()) for attempt in every)
        self._excuse(found)

    def _excuse(self, found: list[Finding]) -> None:
        for finding in found:
            excused = self.kills and finding.kind in EXCUSED.get(self.plan.storm, ())
            (self.report.excused if excused else self.report.findings).append(finding)

    def _check_commands(self) -> None:
        """What a command says it has done, it has done; one that was disturbed may have failed instead."""
        for command in self.commands:
            code = command.process.poll()
            if command.killed or code is None:
                continue
            what = f"{command.verb} {command.pod}"
            if "error: " in command.errors():
                self.report.refused += 1
                self.report.happened.append(f"{command.began - self.began:6.2f} s  {what}: {command.errors().strip()}")
            if command.verb == EXEC and code == EXEC_CODE and command.text() != "one\ntwo\n":
                self._found(ledger.COMMAND, what, f"exit {code} with {command.text()!r}")
            if command.verb == EXEC and code == 0:
                self._found(ledger.COMMAND, what, f"exit 0, not {EXEC_CODE}: {command.text()!r}")
            if "Traceback" in command.errors():
                self._found(ledger.COMMAND, what, command.errors())
            if command.verb == RUN:
                self._check_run(command, code)

    def _check_run(self, command: Started, code: int) -> None:
        """It has shown all that its pod wrote, and ends as it did, unless it says that it could not go on."""
        (container,) = self.pods[command.pod].containers
        shown = [" ".join(line.split(" ", 3)[:3]) for line in command.text().splitlines()]
        wanted = [f"{container.name} 0 {number + 1}" for number in range(container.lines)]
        what = f"run {command.pod}"
        if "error: " in command.errors():
            if not self.report.kills:
                self._found(ledger.COMMAND, what, f"exit {code}: {command.errors()}")
            return
        if code != container.code(0):
            words = f"exit {code}, not {container.code(0)}: {command.errors()[-600:]}"
            self._excuse([Finding(ledger.EXIT, what, words)])
        if shown != wanted:
            self._excuse([Finding(ledger.LINES, what, f"shows {len(shown)} of {len(wanted)} lines: {shown[-3:]}")])

    def _clear(self) -> None:
        done = self.instance("delete", "pods", "--all", check=False, timeout_s=HANG_S)
        self._must_be_so(done, "delete pods --all", "")
        for command in self.commands:
            if command.process.poll() is None:
                try:
                    command.process.wait(AGREE_S)
                except subprocess.TimeoutExpired:
                    self._found(ledger.HANG, f"{command.verb} {command.pod}", "runs though its pod is gone")
                    command.process.kill()
                    command.process.wait()
        for pod in self.plan.pods:
            if pod.hooks and not pod.doomed:
                self._check_hooks(pod)
        for words in leaks.wait_until_gone(self.instance.left):
            self._found(ledger.LEAK, "after the round", words)
        for pod in self.plan.pods:
            shutil.rmtree(self.instance.truth / pod.name, ignore_errors=True)
        shutil.rmtree(self.folder)

    def _check_hooks(self, pod: Pod) -> None:
        """Each once, and once more where agent or spawner dies with it."""
        hooks = leaks.read(str(self.instance.truth / pod.name / HOOKS)).decode().split()
        starts, stops = hooks.count("started"), hooks.count("stopping")
        most = 1 + len(self.kills)
        if not (1 <= starts <= most and 1 <= stops <= most):
            self._excuse([Finding(ledger.HOOK, pod.name, f"its hooks ran as {hooks}")])


def _until(deadline: float) -> Iterator[None]:
    """Once at least, then every POLL_S until then."""
    while True:
        yield
        if time.monotonic() > deadline:
            return
        threading.Event().wait(POLL_S)


def play(instance: Instance, plan: Round) -> Report:
    return Storm(instance, plan).play()
