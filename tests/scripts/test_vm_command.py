"""What scripts/vm-test has pytest run: the marked tests, unless tests are chosen."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT
from tests.vm.__main__ import command, under_systemd


@pytest.mark.parametrize(
    ("every", "arguments", "then"),
    [
        (False, [], ["tests/node", "tests/attacks", "-m", "vm"]),
        (False, ["-x"], ["-x", "tests/node", "tests/attacks", "-m", "vm"]),
        (True, ["-x"], ["-x", "tests/node", "tests/attacks"]),
        (False, ["-k", "groups or limits"], ["-k", "groups or limits", "tests/node", "tests/attacks"]),
        (
            False,
            ["tests/node/test_groups.py::test_usage_is_reported"],
            ["tests/node/test_groups.py::test_usage_is_reported"],
        ),
        (False, ["tests/manifests", "-m", "vm"], ["tests/manifests", "-m", "vm"]),
    ],
)
def test_chosen_tests_run_whatever_their_marks(every: bool, arguments: list[str], then: list[str]) -> None:
    setting, line, _ = command(every, arguments, slowness=10).split("\n")
    assert setting == "export MINIPOD_TEST_SLOWNESS=10 MINIPOD_TEST_VM=1"
    words = shlex.split(line)
    assert words[:5] == ["python3", "-m", "pytest", "-p", "no:cacheprovider"]
    assert words[6:] == then


def test_with_systemd_it_runs_the_tests_of_the_units() -> None:
    assert under_systemd(["-k", "a or b"], slowness=10) == (
        "export MINIPOD_TEST_SLOWNESS=10\nexec python3 -m tests.systemd -k 'a or b'\n"
    )


def test_the_tests_of_the_units_are_collected_in_the_machine_alone() -> None:
    command = (sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", "tests/systemd")
    statuses = [
        subprocess.run(command, cwd=CHECKOUT, env=os.environ | more, capture_output=True, check=False).returncode
        for more in ({}, {"MINIPOD_TEST_SYSTEMD": "1"})
    ]
    assert statuses == [5, 0]
