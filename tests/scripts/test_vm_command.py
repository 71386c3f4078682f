"""What scripts/vm-test has pytest run: the marked tests, unless tests are chosen."""

from __future__ import annotations

import shlex

import pytest

from tests.vm.__main__ import command


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
    assert setting == "export MINIPOD_TEST_SLOWNESS=10"
    words = shlex.split(line)
    assert words[:5] == ["python3", "-m", "pytest", "-p", "no:cacheprovider"]
    assert words[6:] == then
