"""What may be asked of the runtime is written in one place, and nothing else can be asked of it."""

from __future__ import annotations

import inspect

from minipod.runtime import face
from minipod.runtime.runtime import Runtime
from tests.unit.agent_fakes import FakeRuntime


def verbs(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


def test_the_runtime_has_the_verbs_of_its_face_and_no_others() -> None:
    assert verbs(Runtime) == verbs(face.Runtime)


def test_every_verb_says_what_it_does() -> None:
    assert [name for name in sorted(verbs(face.Runtime)) if not getattr(face.Runtime, name).__doc__] == []


def test_parameters_are_named_as_in_the_face() -> None:
    def names(kind: type, verb: str) -> list[str]:
        return list(inspect.signature(getattr(kind, verb)).parameters)

    assert [verb for verb in verbs(face.Runtime) if names(Runtime, verb) != names(face.Runtime, verb)] == []


def test_the_agents_stand_in_has_no_verb_that_the_face_lacks() -> None:
    helpers = {"find", "end", "is_running"}  # what the kernel would do
    assert verbs(FakeRuntime) - helpers <= verbs(face.Runtime)
