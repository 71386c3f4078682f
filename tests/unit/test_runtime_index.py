"""What the runtime looks up by pod and by sandbox, and the sums that it keeps of them."""

from __future__ import annotations

import random

import msgspec

from minipod.plan.configs import SandboxConfig
from minipod.runtime.index import Index
from minipod.runtime.records import SandboxRecord
from minipod.runtime.sandboxes import Ready
from minipod.runtime.status import SandboxState, SandboxStatus

READY, NOT_READY = SandboxState


class Numbers(Index[int]):
    """Numbers by name, in two groups."""

    def __init__(self) -> None:
        super().__init__(lambda number: "even" if number % 2 == 0 else "odd")


def test_an_index_finds_a_group_in_the_order_in_which_its_members_came() -> None:
    index = Numbers()
    for key, number in (("a", 2), ("b", 1), ("c", 4)):
        index[key] = number
    index["a"] = 6
    assert (index.of("even"), index.of("odd"), index.of("none")) == ([6, 4], [1], [])
    assert (list(index), len(index), index.get("b"), index.get("z"), "c" in index) == ([6, 1, 4], 3, 1, None, True)


def test_what_was_popped_is_in_no_group_and_an_empty_group_is_forgotten() -> None:
    index = Numbers()
    index["a"] = 2
    assert (index.pop("a"), index.pop("a")) == (2, None)
    assert (index.of("even"), list(index), index._groups) == ([], [], {})


def sandbox(number: int, tier: str, state: SandboxState, millicores: int) -> SandboxRecord:
    config = SandboxConfig(
        id=f"s{number}",
        name="web",
        namespace="default",
        uid=f"u{number}",
        hostname="web",
        log_directory="/l",
        cgroup_parent=f"/m/kubepods/{tier}/pod{number}",
        cpu_request_millicores=millicores,
    )
    return SandboxRecord(status=SandboxStatus(id=config.id, config=config, state=state, created_at_ns=1))


def test_the_burstable_class_weighs_what_its_ready_pods_request_together() -> None:
    ready = Ready()
    for number, (tier, state, millicores) in enumerate(
        [
            ("burstable", READY, 500),
            ("burstable", READY, 1501),
            ("burstable", NOT_READY, 9),
            ("besteffort", READY, 7),
        ]
    ):
        ready.replace(None, sandbox(number, tier, state, millicores))
    assert (ready.count, ready.cpu_requests("/m/kubepods/burstable")) == (3, 2001)
    assert ready.cpu_requests("/m/kubepods") == 0


def test_the_running_sums_are_those_of_a_look_at_every_sandbox() -> None:
    chance = random.Random(11)
    ready, known = Ready(), dict[int, SandboxRecord]()
    for _ in range(2000):
        number = chance.randrange(20)
        old = known.pop(number, None)
        new = None
        if chance.random() < 0.7:
            new = sandbox(number, "burstable", chance.choice((READY, NOT_READY)), chance.randrange(1000))
            known[number] = new
        ready.replace(old, new)
        there = [record.status.config for record in known.values() if record.status.state == READY]
        assert ready.count == len(there)
        assert ready.cpu_requests("/m/kubepods/burstable") == sum(config.cpu_request_millicores for config in there)


def test_a_resized_pod_counts_with_its_new_request() -> None:
    ready = Ready()
    before = sandbox(1, "burstable", READY, 100)
    config = msgspec.structs.replace(before.status.config, cpu_request_millicores=250)
    after = msgspec.structs.replace(before, status=msgspec.structs.replace(before.status, config=config))
    ready.replace(None, before)
    ready.replace(before, after)
    assert (ready.count, ready.cpu_requests("/m/kubepods/burstable")) == (1, 250)
