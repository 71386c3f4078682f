"""What happens in one round of a storm, and when: drawn from a seed (pure)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests import builders
from tests.faults.pods import KINDS, Pod

AGENT, SPAWNER, COMMAND = "agent", "spawner", "command"
KILL, TERM, STOP = "kill -9", "kill", "stop"
APPLY, RUN, DELETE, EXEC, RESIZE, LABEL, FOLLOW = "apply", "run", "delete", "exec", "resize", "label", "logs"
WAKE, UPGRADE, STARTED, PRESS, SET_CLOCK = "wake", "upgrade", "started", "press", "clock"
WINDOW_S = 2.2  # in which everything happens: the pods' own lives are about as long
SETTLED_S = 1.0  # between the death of one and that of the other, where not both may be dead at once
LONGEST_STOP_S = 0.6
LONGEST_SHORTAGE_S = 2.0
HUNG_FOLDER = "@HUNG@"  # the instance has it


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """At `at_s` seconds of the round. `target`: a pod, a process or a pressure; `for_s`: of a stop or a pressure.

    STARTED waits until all pods have begun; what comes later is counted from there.
    """

    at_s: float
    do: str
    target: str
    for_s: float = 0.0

    def __str__(self) -> str:
        lasting = f" for {self.for_s:.2f} s" if self.for_s else ""
        return f"{self.at_s:6.2f} s  {self.do} {self.target}{lasting}"


@dataclass(frozen=True, slots=True)
class Round:
    """`storm`: its kind; `seed`: what repeats it."""

    storm: str
    seed: str
    pods: tuple[Pod, ...]
    steps: tuple[Step, ...]

    @property
    def host(self) -> str:
        """What must be possible on its instance: `tests.faults.instance`."""
        return "small" if self.storm in SHORTAGES else "clock" if self.storm == "clock" else "plain"


def draw(seed: str, storms: tuple[str, ...] = ()) -> Round:
    """The round of a seed; `storms`: of these kinds only."""
    dice = random.Random(seed)
    storm = dice.choice(storms or ALL)
    if storm in SHORTAGES:
        return _shortage(storm, seed, dice)
    pods = _pods(dice, sorted(KINDS), 4)
    if dice.random() < 0.4:
        pods.append(_doomed(f"doomed-{len(pods)}", dice))
    steps = _client_steps(dice, pods)
    return Round(storm, seed, tuple(pods), tuple(sorted([*steps, *STORMS[storm](dice, steps)])))


def _pods(dice: random.Random, kinds: list[str], count: int) -> list[Pod]:
    return [KINDS[kind](f"{kind}-{number}", dice) for number, kind in enumerate(dice.sample(kinds, count))]


def _doomed(name: str, dice: random.Random) -> Pod:
    return replace(KINDS[dice.choice(("server", "hooks", "loop", "sidecar"))](name, dice), doomed=True)


def _shortage(storm: str, seed: str, dice: random.Random) -> Round:
    """What runs already must not suffer; what begins or is deleted meanwhile may fail, and must go."""
    pods = _pods(dice, ["job", "pair", "server", "probes", "burst"], 4)
    steps = [Step(0.0, APPLY, pod.name) for pod in pods]
    late = [_doomed(f"late-{number}", dice) for number in range(2)]
    for_s = dice.uniform(0.3, LONGEST_SHORTAGE_S)
    steps += [Step(0.1, STARTED, "pods"), Step(0.2, PRESS, dice.choice(SHORTAGES[storm]), for_s)]
    for pod in late:
        at_s = 0.2 + dice.uniform(0, for_s)
        if storm == "hung":
            pod.spec["volumes"] = [builders.host_path("hung", HUNG_FOLDER)]
        steps += [Step(at_s, APPLY, pod.name), Step(at_s + dice.uniform(0, 1), DELETE, pod.name)]
    early = KINDS["server"]("early", dice)
    steps += [Step(0.0, APPLY, "early"), Step(0.2 + dice.uniform(0, for_s), DELETE, "early")]
    if storm in ("disk", "inodes") and dice.random() < 0.5:
        at_s = 0.2 + dice.uniform(0, for_s)
        steps += [Step(at_s, KILL, AGENT), Step(at_s + dice.uniform(0, 1), WAKE, AGENT)]
    return Round(storm, seed, (*pods, replace(early, doomed=True), *late), tuple(sorted(steps)))


def _client_steps(dice: random.Random, pods: list[Pod]) -> list[Step]:
    steps = []
    for pod in pods:
        at_s = 0.0 if dice.random() < 0.7 else dice.uniform(0, WINDOW_S / 2)
        steps.append(Step(at_s, RUN if pod.foreground else APPLY, pod.name))
        if pod.doomed:
            steps.append(Step(at_s + dice.uniform(0, WINDOW_S), DELETE, pod.name))
        elif pod.kind == "server":
            for verb in [EXEC] * 4 + [RESIZE, LABEL]:
                steps.append(Step(at_s + 0.3 + dice.uniform(0, WINDOW_S), verb, pod.name))
        elif dice.random() < 0.2:
            steps.append(Step(at_s + dice.uniform(0.2, 1), FOLLOW, pod.name))
    return steps


def _deadly(dice: random.Random) -> str:
    return KILL if dice.random() < 0.6 else TERM


def _agent(dice: random.Random, clients: list[Step]) -> list[Step]:
    """Each death is followed by the next agent at once, or so late that containers have ended in between."""
    steps, at_s = [], 0.0
    for _ in range(dice.randint(1, 3)):
        at_s += dice.uniform(0.02, WINDOW_S / 2)
        steps.append(Step(at_s, _deadly(dice), AGENT))
        at_s += dice.choice((0.01, dice.uniform(0, 0.3), dice.uniform(0.3, 2)))
        steps.append(Step(at_s, WAKE, AGENT))
    return steps


def _spawner(dice: random.Random, clients: list[Step]) -> list[Step]:
    times = sorted(dice.uniform(0.02, WINDOW_S) for _ in range(dice.randint(1, 3)))
    return [Step(at_s, _deadly(dice), SPAWNER) for at_s in times]


def _in_turn(dice: random.Random, clients: list[Step]) -> list[Step]:
    """One after the other, each time with a living one of both in between."""
    steps, at_s = [], dice.uniform(0.1, 1)
    for victim in dice.choice(((AGENT, SPAWNER), (SPAWNER, AGENT), (SPAWNER, AGENT, SPAWNER))):
        steps.append(Step(at_s, _deadly(dice), victim))
        at_s += dice.uniform(0, 0.3)
        steps.append(Step(at_s, WAKE, AGENT))
        at_s += SETTLED_S + dice.uniform(0, 0.5)
    return steps


def _both(dice: random.Random, clients: list[Step]) -> list[Step]:
    at_s, order = dice.uniform(0.05, WINDOW_S), dice.sample((AGENT, SPAWNER), 2)
    gap_s = dice.choice((0.0, dice.uniform(0, 0.2)))
    steps = [Step(at_s, KILL, order[0]), Step(at_s + gap_s, KILL, order[1])]
    return [*steps, Step(at_s + gap_s + dice.uniform(0.01, 0.5), WAKE, AGENT)]


def _stops(dice: random.Random, clients: list[Step]) -> list[Step]:
    times = [dice.uniform(0.05, WINDOW_S) for _ in range(dice.randint(1, 4))]
    return [Step(at, STOP, dice.choice((AGENT, SPAWNER)), dice.uniform(0.05, LONGEST_STOP_S)) for at in times]


def _commands(dice: random.Random, clients: list[Step]) -> list[Step]:
    """A command takes some 40 ms, `apply` of a pod twice as long."""
    victims = dice.sample(clients, min(len(clients), dice.randint(2, 6)))
    return [Step(step.at_s + dice.uniform(0.005, 0.08), _deadly(dice), COMMAND) for step in victims]


def _mixed(dice: random.Random, clients: list[Step]) -> list[Step]:
    return [*_agent(dice, clients), *_commands(dice, clients)]


def _versions(dice: random.Random, clients: list[Step]) -> list[Step]:
    """A command of the next version replaces the agent, one of this version replaces that."""
    return [Step(dice.uniform(0.1, WINDOW_S), UPGRADE, AGENT) for _ in range(dice.randint(1, 2))]


def _clock(dice: random.Random, clients: list[Step]) -> list[Step]:
    """The wall clock jumps, and it is another agent that finds it so or the same."""
    shifts = (-3600.0, 3600.0, -86400.0, 30 * 86400.0, -1.0)
    steps = [Step(dice.uniform(0.1, WINDOW_S), SET_CLOCK, str(dice.choice(shifts))) for _ in range(dice.randint(1, 3))]
    return [*steps, *(_agent(dice, clients) if dice.random() < 0.5 else [])]


STORMS: dict[str, Callable[[random.Random, list[Step]], list[Step]]] = {
    "agent": _agent,
    "spawner": _spawner,
    "in-turn": _in_turn,
    "both": _both,
    "stops": _stops,
    "commands": _commands,
    "mixed": _mixed,
    "versions": _versions,
    "clock": _clock,
}
#: storm → pressures (tests/faults/pressure.py), of which a round has one
SHORTAGES = {
    "disk": ("full state", "full root"),
    "inodes": ("no inodes in state", "no inodes in root"),
    "descriptors": ("no descriptors for the agent", "no descriptors for the spawner"),
    "memory": ("no memory",),
    "threads": ("no threads",),
    "hung": ("hung file system",),
}
ALL = (*STORMS, *SHORTAGES)
