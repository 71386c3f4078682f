"""The pods that a real cluster ran (tests/data/behaviour*.json), played again by the core with a virtual clock.

What is compared is `tests.recorded`'s to say.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable

import msgspec
import pytest

from minipod.lifecycle import model
from tests.recorded import RECORDED, compare_events, compare_rest, compare_states, events, is_ahead
from tests.unit.lifecycle_simulator import Simulator, make_pod

CONFIG = model.ContainerCreateFailed(name="c", reason="CreateContainerConfigError", message="m")
NEVER = model.ImageFailed(name="c", reason="ErrImageNeverPull", message="m")
NO_START = model.ContainerStartFailed(name="c", container_id="", at=0, message="")
# What these pods need from outside the lifecycle: by container.
FAILURES: dict[str, dict[str, model.Event]] = {
    "no-such-command": {"c": NO_START},
    "no-configmap-env": {"c": CONFIG},
    "nonroot-violated": {"c": CONFIG},
    "image-never": {"c": NEVER},
    "exit-126": {"c": NO_START},
    "init-bad-command-never": {"i1": NO_START},
    "init-image-never": {"i1": msgspec.structs.replace(NEVER, name="i1")},
    "init-config-error": {"i1": msgspec.structs.replace(CONFIG, name="i1")},
    "deadline-config-error": {"c": CONFIG},
    "image-invalid-name": {"c": msgspec.structs.replace(NEVER, reason="InvalidImageName")},
}
VERDICTS = {
    "killed-by-signal": (1, "Error", ""),
    "oom": (137, "OOMKilled", ""),
    "term-message": (4, "Error", "bye\n"),
    "exit-127": (127, "Error", ""),
    "message-fallback": (2, "Error", "one\ntwo\n"),
    "message-long": (1, "Error", "x" * 4096),
    "message-path": (0, "Completed", "hi\n"),
    "init-message": (2, "Error", "why\n"),
}
CUT_HOOKS = {"prestop-too-slow": (3.0, False), "poststart-exits-first": (1.03, False)}
# These ask the kernel: for files that outlive a container, for a server, for a path, for an object that comes later.
ON_THE_KERNEL_ONLY = {
    "init-rule-restart",
    "rule-restart-all",
    "rule-restart-all-init",
    "rule-restart-all-sidecar",
    "readiness-tcp",
    "readiness-http-named",
    "configmap-comes",
    "hostpath-missing",
}
PLAYED = sorted(set(RECORDED) - ON_THE_KERNEL_ONLY)


def hook_of(name: str) -> Callable[[str, str], tuple[float, bool]]:
    """What a pod's hooks do: how long they take, and whether they succeed."""
    spec = RECORDED[name]["spec"]
    containers = {c["name"]: c for c in (*spec["containers"], *spec.get("initContainers", ()))}

    def hook(container: str, kind: str) -> tuple[float, bool]:
        if name in CUT_HOOKS:
            return CUT_HOOKS[name]
        handler = containers[container]["lifecycle"][kind]
        if "sleep" in handler:
            return float(handler["sleep"]["seconds"]), True
        command = " ".join(handler["exec"]["command"])
        slept = re.search(r"sleep (\d+)", command)
        return (float(slept[1]) if slept else 0.1), command != "false"

    return hook


def play(name: str) -> Simulator:
    recorded = RECORDED[name]
    sim = Simulator(make_pod(copy.deepcopy(recorded["spec"]), name))
    sim.latency["sandbox"], sim.latency["start"] = 0.05, 0.02
    sim.fail.update(FAILURES.get(name, {}))
    if name in VERDICTS:
        sim.verdict[(*recorded["spec"].get("initContainers", ()), *recorded["spec"]["containers"])[0]["name"]] = (
            VERDICTS[name]
        )
    sim.hook = hook_of(name)
    sim.start().run(recorded["seconds"])
    if recorded["deleteSeconds"] is not None:
        sim.send(model.DeleteRequested())
        sim.run(60)
    return sim


@pytest.mark.parametrize("name", PLAYED)
def test_pod_lives_as_on_a_cluster(name: str) -> None:
    """The same states, the same rest, the same events."""
    sim = play(name)
    history = list(sim.history())
    lines = compare_states(name, history, late_s=1)
    if not is_ahead(name, history):
        counted = Counter((event.reason, event.field_path, event.message) for _, event in sim.recorded)
        told = events((reason, path, count) for (reason, path, _), count in counted.items())
        lines += compare_rest(name, history, late_s=0) + compare_events(name, told)
    assert not lines, "\n".join(lines)
