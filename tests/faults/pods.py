"""The pods of a round: what each writes, how each attempt of each container ends, and its manifest (pure).

A container writes numbered lines to stdout and keeps a record of its own in a hostPath folder: a file an attempt, with
the numbers that it has written and how it ended. So what is true is known without anything of minipod's.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests import builders
from tests.builders import Object

TRUTH = "/truth"
HOOKS = "hooks"
GRACE_S = 5
#: Where a signal arrives before the trap stands, the shell is process 1 and ignores it: the trap is the first thing.
SCRIPT = """trap 'end {stopped}' TERM
t={truth}/{name}; n=0; i=0
while [ -e $t.$n ]; do n=$((n+1)); done
exec 9>>$t.$n
say() {{ i=$((i+1)); echo "{name} $n $i"; echo $i >&9; }}
end() {{ echo "exit $1" >&9; exit $1; }}
code() {{ set -- {codes}; [ $# -gt $n ] && shift $n || shift $(($#-1)); echo $1; }}
{body}
"""
WRITE = "while [ $i -lt {lines} ]; do say; [ $((i%{batch})) = 0 ] && sleep 0.05; done\nend $(code)"
#: nothing is recorded until the end, so that it writes as fast as a shell can
BURST = 'while [ $i -lt {lines} ]; do i=$((i+1)); echo "{name} $n $i {pad}"; done\necho $i >&9\nend $(code)'
GO_ON = "while :; do say; sleep 0.1; done"
PAD = "." * 80


@dataclass(frozen=True, slots=True)
class Container:
    """What one container does. `codes`: the exit code of each attempt, the last one of all later ones too."""

    name: str
    codes: tuple[int, ...] = (0,)
    lines: int = 0  # that an attempt writes; 0: it goes on until it is sent SIGTERM
    batch: int = 10  # lines between two pauses of 50 ms; 0: none, and nothing recorded before the end
    init: bool = False
    fields: Object = field(default_factory=dict)

    @property
    def endless(self) -> bool:
        return self.lines == 0

    def code(self, attempt: int) -> int:
        return self.codes[min(attempt, len(self.codes) - 1)]

    def script(self) -> str:
        if self.endless:
            body = GO_ON
        elif self.batch == 0:
            body = BURST.format(lines=self.lines, name=self.name, pad=PAD)
        else:
            body = WRITE.format(lines=self.lines, batch=self.batch)
        codes = " ".join(map(str, self.codes))
        return SCRIPT.format(truth=TRUTH, name=self.name, codes=codes, stopped=self.codes[0], body=body)

    def attempts(self, policy: str) -> int | None:
        """How often it runs when nothing ends it from outside; None: for ever."""
        if self.endless:
            return 1
        if policy == "Always" and not self.init:
            return None
        if policy == "Never":
            return 1
        return next((number + 1 for number, code in enumerate(self.codes) if code == 0), None)


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of a round.

    `doomed`: it is deleted in the middle, so that its end is not looked at. `foreground`: of a `minipod run` that waits
    for it, and deletes it.
    """

    kind: str
    name: str
    containers: tuple[Container, ...]
    policy: str = "Never"
    doomed: bool = False
    hooks: bool = False
    foreground: bool = False
    spec: Object = field(default_factory=dict)

    @property
    def mains(self) -> tuple[Container, ...]:
        return tuple(container for container in self.containers if not container.init)

    def phase(self) -> str:
        """The one that it stays in."""
        if any(container.attempts(self.policy) is None or container.endless for container in self.mains):
            return "Running"
        last = [container.code((container.attempts(self.policy) or 1) - 1) for container in self.mains]
        return "Failed" if any(last) else "Succeeded"

    def manifest(self, truth: str) -> Object:
        """`truth`: the folder on the host for what its containers record."""
        volumes = [builders.host_path("truth", truth, type="DirectoryOrCreate"), *self.spec.get("volumes", [])]
        made = {container.name: self._container(container) for container in self.containers}
        return builders.pod(
            self.name,
            *(made[container.name] for container in self.mains),
            init=[made[container.name] for container in self.containers if container.init],
            **{"restartPolicy": self.policy, "terminationGracePeriodSeconds": GRACE_S, **self.spec, "volumes": volumes},
        )

    def _container(self, container: Container) -> Object:
        fields = dict(container.fields)
        mounts = [builders.mount("truth", TRUTH), *fields.pop("volumeMounts", [])]
        return builders.container(container.name, container.script(), volumeMounts=mounts, **fields)


def _lines(dice: random.Random) -> int:
    return dice.randint(20, 150)


def _code(dice: random.Random) -> int:
    return dice.choice((0, 1, 3, 7, 42, 200))


def job(name: str, dice: random.Random) -> Pod:
    return Pod("job", name, (Container("main", (_code(dice),), _lines(dice)),))


def pair(name: str, dice: random.Random) -> Pod:
    return Pod("pair", name, tuple(Container(part, (_code(dice),), _lines(dice)) for part in ("one", "two")))


def retry(name: str, dice: random.Random) -> Pod:
    codes = (*(dice.randint(1, 90) for _ in range(dice.randint(1, 2))), 0)
    return Pod("retry", name, (Container("main", codes, dice.randint(10, 60)),), "OnFailure")


def loop(name: str, dice: random.Random) -> Pod:
    codes = tuple(dice.randint(0, 90) for _ in range(40))
    return Pod("loop", name, (Container("main", codes, dice.randint(5, 30)),), "Always")


def sidecar(name: str, dice: random.Random) -> Pod:
    beside = Container("side", init=True, fields={"restartPolicy": "Always"})
    first = Container("first", lines=dice.randint(5, 30), init=True)
    main = Container("main", (_code(dice),), _lines(dice))
    return Pod("sidecar", name, (first, beside, main))


def hooks(name: str, dice: random.Random) -> Pod:
    def say(word: str) -> Object:
        return {"exec": {"command": ["sh", "-c", f"echo {word} >> {TRUTH}/{HOOKS}"]}}

    main = Container("main", fields={"lifecycle": {"postStart": say("started"), "preStop": say("stopping")}})
    return Pod("hooks", name, (main,), "Always", hooks=True)


def probes(name: str, dice: random.Random) -> Pod:
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1, "timeoutSeconds": 10}
    fields = {"readinessProbe": probe, "livenessProbe": probe, "startupProbe": probe}
    return Pod("probes", name, (Container("main", fields=fields),), "Always")


def burst(name: str, dice: random.Random) -> Pod:
    return Pod("burst", name, (Container("main", (_code(dice),), dice.randint(2000, 5000), batch=0),))


def volumes(name: str, dice: random.Random) -> Pod:
    places = [builders.empty_dir("disk"), builders.empty_dir("memory", medium="Memory", sizeLimit="1Mi")]
    mounts = [builders.mount(place["name"], f"/{place['name']}") for place in places]
    codes = (dice.randint(1, 90), 0)
    main = Container("main", codes, dice.randint(10, 60), fields={"volumeMounts": mounts})
    shared = {"shareProcessNamespace": dice.random() < 0.5}
    return Pod("volumes", name, (main,), "OnFailure", spec={"volumes": places, **shared})


def server(name: str, dice: random.Random) -> Pod:
    """Commands are run in it, its resources are changed."""
    resources = {"requests": {"cpu": "10m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}
    return Pod("server", name, (Container("main", fields={"resources": resources}),), "Always")


def foreground(name: str, dice: random.Random) -> Pod:
    return Pod("foreground", name, (Container("main", (_code(dice),), _lines(dice)),), foreground=True)


KINDS: dict[str, Callable[[str, random.Random], Pod]] = {
    maker.__name__: maker
    for maker in (job, pair, retry, loop, sidecar, hooks, probes, burst, volumes, server, foreground)
}
