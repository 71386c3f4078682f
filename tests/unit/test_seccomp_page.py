"""docs/seccomp.md is what the profile says, and no rule is weaker than containerd's (unit)."""

from __future__ import annotations

import json

import pytest

from minipod.plan.process.seccomp_page import WEAKER, compare, containerd_default, page
from minipod.plan.process.seccomp_profile import MACHINES, Profile, Refusal, Rule, runtime_default
from minipod.plan.process.security import CAPABILITIES, DEFAULT_CAPABILITIES
from tests.conftest import CHECKOUT

FACTS = json.loads((CHECKOUT / "scripts/data/containerd-seccomp.json").read_text())


def test_the_page_is_what_the_profile_says() -> None:
    assert (CHECKOUT / "docs/seccomp.md").read_text() == page(FACTS), "run scripts/generate-seccomp"
    assert f"| {WEAKER} |" not in page(FACTS)


@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_is_allowed_that_containerd_refuses(machine: str) -> None:
    sets = [frozenset(), DEFAULT_CAPABILITIES, frozenset(CAPABILITIES), *(frozenset({one}) for one in CAPABILITIES)]
    for capabilities in sets:
        ours, theirs = runtime_default(machine, capabilities), containerd_default(FACTS, machine, capabilities)
        names = {name for profile in (ours, theirs) for rule in profile.rules for name in rule.names}
        names |= {refusal.name for refusal in ours.refusals}
        weaker = [name for name in sorted(names) if compare(ours, theirs, name) == WEAKER]
        assert not weaker, (capabilities, weaker)
        assert {*ours.architectures} <= {*theirs.architectures}


ALLOWED = Profile(("X86_64",), rules=(Rule(names=("socket",)),))
REFUSED = Profile(("X86_64",), refusals=(Refusal("socket", 0, (38,)),))


def test_a_comparison_of_32_bits_is_stricter_than_none_and_not_the_other_way_round() -> None:
    assert compare(REFUSED, ALLOWED, "socket") == "stricter"
    assert compare(ALLOWED, REFUSED, "socket") == WEAKER
    assert compare(ALLOWED, ALLOWED, "socket") == "same"
