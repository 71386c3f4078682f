"""One pod's life through many agents: each is killed, or sent SIGTERM, at one named step, and the next goes on.

A walk has one instance. `Walk.through(points)` starts an agent a point, armed with it (`minipod.failpoint`), does what
leads there where it does not come by itself, and waits for its end. Containers write numbered lines and record what
they do (`pods`), so that afterwards the ledger knows what was lost, restarted or counted twice.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from minipod.cli.start import agent_command, agent_environment
from tests import builders, leaks
from tests.builders import Object
from tests.failpoints import Hit, armed
from tests.faults import ledger
from tests.faults.instance import Instance
from tests.faults.ledger import Finding, Seen
from tests.faults.pods import TRUTH, Container, Pod
from tests.patience import SLOWNESS

WAIT_S = 30.0 * SLOWNESS
POLL_S = 0.02
LINES = 30
CODE = 7
NAME = "walker"
#: writes the first half, waits for its file, writes the rest and ends
GATED = """while [ $i -lt {half} ]; do say; done
until [ -e {truth}/go.{name} ]; do sleep 0.02; done
while [ $i -lt {lines} ]; do say; done
end $(code)"""


@dataclass(frozen=True, slots=True)
class Gated(Container):
    """Ends when the test has made its file."""

    def script(self) -> str:
        whole = Container.script(self)
        begin = whole.index("while [ $i -lt")
        return whole[:begin] + GATED.format(half=self.lines // 2, lines=self.lines, truth=TRUTH, name=self.name)


def say(word: str) -> Object:
    return {"exec": {"command": ["sh", "-c", f"echo {word} >> {TRUTH}/hooks"]}}


def walker(gated: int) -> Pod:
    """Everything that a pod may have: an init container, a sidecar, hooks, volumes, a port, a shared PID namespace.

    `gated`: how many main containers wait to be ended, beside one that never ends.
    """
    volumes = [
        builders.empty_dir("disk", sizeLimit="8Mi"),
        builders.empty_dir("memory", medium="Memory", sizeLimit="1Mi"),
        {"name": "map", "configMap": {"name": "map"}},
        {"name": "image", "image": {"reference": "busybox", "pullPolicy": "IfNotPresent"}},
        {"name": "claim", "persistentVolumeClaim": {"claimName": "claim"}},
    ]
    mounts = [builders.mount(volume["name"], f"/{volume['name']}") for volume in volumes]
    mounts.append(builders.mount("disk", "/part", subPath="part"))
    hooks = {"lifecycle": {"postStart": say("started"), "preStop": say("stopping")}}
    resources = {"requests": {"cpu": "10m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}
    endless = Container("main", fields={"volumeMounts": mounts, "resources": resources, **hooks})
    containers = (
        Gated("first", lines=LINES, init=True),
        Container("side", init=True, fields={"restartPolicy": "Always"}),
        *(Gated(f"m{number}", (CODE,), LINES) for number in range(gated)),
        endless,
    )
    spec = {
        "volumes": volumes,
        "shareProcessNamespace": True,
        "securityContext": {"fsGroup": 4711},
        "terminationGracePeriodSeconds": 5,
    }
    return Pod("walker", NAME, containers, spec=spec)


def others() -> tuple[Object, ...]:
    """The objects that the pod needs."""
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    return (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"a": "b"}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "claim"}, "spec": claim},
    )


def another() -> Object:
    """An object that nothing needs, another one each time."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{time.monotonic_ns()}"}}


def talker() -> Object:
    """Writes numbered lines without an end, some hundreds a second; has an input."""
    script = f"i=0; while :; do i=$((i+1)); echo $i {'x' * 200}; [ $((i % 50)) = 0 ] && sleep 0.05; done"
    talking = builders.container("c", script, stdin=True, stdinOnce=True)
    return builders.pod("talker", talking, terminationGracePeriodSeconds=0)


def prober() -> Object:
    """Its probe never answers, and is killed."""
    probe = {"exec": {"command": ["sleep", "1000"]}, "timeoutSeconds": 1, "periodSeconds": 1}
    return builders.pod(
        "prober", builders.container("c", "sleep 1000", readinessProbe=probe), terminationGracePeriodSeconds=0
    )


class Walk:
    """`action`: kill | term, what ends each agent."""

    def __init__(self, instance: Instance, action: str, pod: Pod, host_port: int) -> None:
        self.instance = instance
        self.host_port = host_port
        self.action = action
        self.pod = pod
        self.truth = instance.truth / pod.name
        self.passed: list[str] = []
        self._log = (instance.base / "agents.log").open("ab")
        self._commands: list[subprocess.Popen[str]] = []

    def close(self) -> None:
        for command in self._commands:
            command.kill()
            command.wait()
        self._log.close()

    # --- what clients do -------------------------------------------------------------------------------------------

    def apply(self, *things: Object) -> None:
        self._ask("apply", files=[{"name": "walk", "text": builders.manifest(*things)}])

    def apply_pod(self) -> None:
        made = self.pod.manifest(str(self.truth))
        made["spec"]["containers"][-1]["ports"] = [{"containerPort": 80, "hostPort": self.host_port}]
        self.apply(made)

    def delete_pod(self) -> None:
        """Asks for it; the answer comes when the pod is gone, or never."""
        threading.Thread(target=self._ask, args=("delete",), kwargs={"kind": "pods", "names": [NAME]}).start()

    def let_end(self, container: str) -> None:
        self.truth.mkdir(exist_ok=True)
        (self.truth / f"go.{container}").touch()

    def resize(self, cpu: str) -> None:
        self.run("resize", "pod", NAME, "-c", "main", "--limits", f"cpu={cpu},memory=65Mi")

    def shut_down(self) -> None:
        self._ask("shutdown")

    def run(self, *words: str) -> None:
        """A command that may lose its agent, and then starts no other."""
        started = self.instance.popen(*words, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT)
        self._commands.append(started)

    def _ask(self, verb: str, **fields: object) -> None:
        """The agent may be killed before it answers."""
        with contextlib.suppress(OSError):
            self.instance.ask(verb, **fields)

    # --- the walk --------------------------------------------------------------------------------------------------

    def through(self, *points: str, by: Callable[[], object] = lambda: None) -> None:
        """An agent for each point; `by` is called once it serves, where it does not end before."""
        for point in points:
            with armed(self.instance, point, self.action) as hit, self.agent() as agent:
                self.passed.append(point)
                if self._serves(agent, hit):
                    by()
                hit.wait(WAIT_S)
                agent.wait(WAIT_S)

    @contextlib.contextmanager
    def agent(self) -> Iterator[subprocess.Popen[str]]:
        """An agent in the foreground, ended afterwards."""
        command = agent_command(self.instance.paths, self.instance.env["MINIPOD_CONFIG"])
        environment = agent_environment() | self.instance.env
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait(WAIT_S)

    def _serves(self, agent: subprocess.Popen[str], hit: Hit) -> bool:
        """Waits until it answers: True; or until it has reached the step: False."""
        until = time.monotonic() + WAIT_S
        while hit.pid() is None:
            with contextlib.suppress(OSError):
                if self.instance.ask("status") is not None:
                    return True
            assert time.monotonic() < until, "the agent neither serves nor ends"
            assert agent.poll() is None or hit.pid() is not None, "the agent has ended by itself"
            time.sleep(POLL_S)
        return False

    def wait_for_agent(self) -> None:
        until = time.monotonic() + WAIT_S
        while self.instance.ask("status") is None:
            assert time.monotonic() < until, "no agent serves"
            time.sleep(POLL_S)

    # --- what must be ----------------------------------------------------------------------------------------------

    def expect_all(self) -> None:
        """With an agent that nothing ends: all comes to rest as the ledger wants it."""
        until = time.monotonic() + WAIT_S
        while True:
            seen = self.look()
            waiting = ledger.pending(self.pod, seen) if seen is not None else "is not there"
            found = [Finding(ledger.HANG, NAME, waiting)] if waiting or seen is None else self._findings(seen)
            if not found:
                return
            if time.monotonic() > until:
                pytest.fail("\n".join(map(str, found)))
            time.sleep(0.1)

    def expect_gone(self) -> None:
        """The deletion that another agent began has come to its end, and nothing is left but the other objects."""
        self.instance("delete", "pod", NAME, "--ignore-not-found")
        left = leaks.wait_until_gone(self.instance.left)
        assert left == [], f"after {self.passed[-2:]}: {left}"

    def expect_running(self, *names: str) -> None:
        for name in names:
            self.instance("wait", "--for=jsonpath={.status.phase}=Running", f"pod/{name}", "--timeout=30s")

    def expect_lines(self, pod: str) -> None:
        """None is missing between the first that is kept and the last, and none is there twice."""
        numbers = [int(line.split()[0]) for line in self.instance("logs", pod).stdout.splitlines()]
        breaks = [(before, after) for before, after in pairwise(numbers) if after != before + 1]
        assert not breaks, f"after {self.passed[-2:]}: lines of {pod} that do not follow each other: {breaks}"

    def _findings(self, seen: Seen) -> list[Finding]:
        hooks = Path(self.truth, "hooks").read_text().split() if Path(self.truth, "hooks").exists() else []
        found = ledger.findings(self.pod, seen)
        if hooks != ["started"]:
            found.append(Finding(ledger.HOOK, NAME, f"its hooks ran as {hooks}"))
        return found

    def look(self) -> Seen | None:
        answer = self.instance("get", "pod", self.pod.name, "-o", "json", check=False)
        if answer.returncode != 0:
            return None
        shown: Any = json.loads(answer.stdout)
        names = tuple(container.name for container in self.pod.containers)
        return Seen(shown["status"], self.instance.attempts(self.pod.name, shown["metadata"]["uid"], names))
