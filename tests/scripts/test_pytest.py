"""How the tests are run: in which order, and what is printed of one that hangs."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, TEST_LIMIT_S
from tests.random_order import UNSHUFFLED

TESTS = """
import pytest
@pytest.fixture(scope="module", params=[1, 2])
def shared(request): return request.param
""" + "".join(f"def test_{number}(): pass\ndef test_shared_{number}(shared): pass\n" for number in range(10))


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Two folders with modules of many tests, under the configuration and the conftest of the checkout."""
    top = tmp_path / "tests"
    for folder in ("unit", "style"):
        (top / folder).mkdir(parents=True)
        for module in ("test_x.py", "test_y.py", "test_z.py"):
            (top / folder / module).write_text(TESTS)
        (top / folder / "__init__.py").touch()
    for name in ("__init__.py", "conftest.py", "flaky.py", "random_order.py", "patience.py"):
        top.joinpath(name).write_bytes((CHECKOUT / "tests" / name).read_bytes())
    (tmp_path / "pyproject.toml").write_bytes((CHECKOUT / "pyproject.toml").read_bytes())
    return tmp_path


def run(suite: Path, *words: str) -> str:
    command = [sys.executable, "-m", "pytest", *words]
    environment = os.environ | {"PYTHONPATH": f"{suite}:{CHECKOUT}"}
    done = subprocess.run(command, cwd=suite, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def order(suite: Path, *words: str) -> list[str]:
    return [line for line in run(suite, "--collect-only", "-q", *words).splitlines() if "::" in line]


def test_a_seed_repeats_an_order_also_of_a_part(suite: Path) -> None:
    whole = order(suite, "--seed", "7")
    assert whole == order(suite, "--seed", "7")
    assert order(suite, "--seed", "7", "-k", "shared_3") == [name for name in whole if "shared_3" in name]
    assert sorted(whole) == sorted(order(suite, "--seed", UNSHUFFLED))
    assert whole != order(suite, "--seed", "8") != order(suite, "--seed", UNSHUFFLED)


def test_without_a_seed_each_run_has_its_own_which_is_printed(suite: Path) -> None:
    seeds = {re.findall(r"--seed (\d+)", run(suite, "tests/unit/test_x.py"))[0] for _ in range(4)}
    assert len(seeds) > 1
    (suite / "tests" / "unit" / "test_x.py").write_text("def test_fails(): assert False")
    assert re.search(r"--seed \d+\n", run(suite, "-q", "tests/unit/test_x.py"))


def test_modules_and_what_shares_a_fixture_stay_together(suite: Path) -> None:
    names = [name.split("::") for name in order(suite, "tests/unit", "tests/style", "--seed", "3")]
    modules = [module for module, _ in names]
    assert list(dict.fromkeys(modules)) == [
        m for m, before in zip(modules, ["", *modules], strict=False) if m != before
    ]
    assert list(dict.fromkeys(module.split("/")[1] for module in modules)) == ["unit", "style"]
    for wanted in set(modules):
        shared = [name.split("[")[1] for module, name in names if module == wanted and "[" in name]
        assert sum(before != after for before, after in itertools.pairwise(shared)) == 1


def test_what_passes_when_it_is_run_again_is_printed_and_kept(suite: Path) -> None:
    body = "from pathlib import Path\ndef test_is_broken(): assert False, 'for ever'\n"
    body += "def test_is_flaky():\n    there = Path('mark').exists(); Path('mark').touch(); assert there, 'too early'\n"
    (suite / "tests" / "unit" / "test_x.py").write_text(body)
    assert "2 failed" in run(suite, "--seed", "5", "tests/unit/test_x.py")
    kept = suite / "build" / "flaky.jsonl"
    assert not kept.exists()
    again = run(suite, "--again", "--last-failed", "--last-failed-no-failures", "none")
    _, _, rest = again.partition("failed first, passed when run again")[2].partition("\n")
    assert rest.splitlines()[0] == "tests/unit/test_x.py::test_is_flaky: AssertionError: too early"
    assert again.splitlines()[-1].startswith("=")
    (line,) = map(json.loads, kept.read_text().splitlines())
    assert (line["test"], line["seed"]) == ("tests/unit/test_x.py::test_is_flaky", "5")
    assert "1 failed, 1 passed" in again
    assert "2 failed" not in run(suite, "-p", "no:cacheprovider", "--again", "tests/unit/test_x.py")


def test_two_processes_run_one_order_and_keep_what_failed(suite: Path) -> None:
    (suite / "tests" / "unit" / "test_x.py").write_text("def test_fails(): assert False, 'in one of them'\n" + TESTS)
    printed = run(suite, "-n", "2", "--dist", "loadfile")
    assert re.search(r"1 failed, \d+ passed", printed), printed
    again = run(suite, "--again", "--last-failed", "--last-failed-no-failures", "none")
    assert "1 failed" in again
    assert not (suite / "build" / "flaky.jsonl").exists()


def test_of_a_test_that_hangs_every_thread_is_printed_before_it_is_ended(
    suite: Path, pytestconfig: pytest.Config
) -> None:
    assert 0 < float(pytestconfig.getini("faulthandler_timeout")) < TEST_LIMIT_S
    hanging = "import threading\ndef waiting(e): e.wait(1)\ndef test_hangs():\n"
    hanging += "    e = threading.Event(); t = threading.Thread(target=waiting, args=(e,)); t.start(); t.join()\n"
    (suite / "tests" / "unit" / "test_x.py").write_text(hanging)
    printed = run(suite, "-o", "faulthandler_timeout=0.1", "tests/unit/test_x.py")
    assert "in waiting" in printed
    assert "in test_hangs" in printed


@pytest.mark.parametrize(
    ("of_tests", "of_report", "status"),
    [(0, 0, 0), (1, 0, 1), (0, 2, 2)],
    ids=["good", "a test fails", "below the floor"],
)
def test_coverage_fails_with_its_tests_and_below_its_floor(
    tmp_path: Path, of_tests: int, of_report: int, status: int
) -> None:
    script = tmp_path / "scripts" / "coverage"
    python = tmp_path / "venv" / "bin" / "python3"
    for file, text in (
        (script, (CHECKOUT / "scripts" / "coverage").read_text()),
        (
            python,
            f'#!/bin/sh\ncase "$*" in *report*) echo "TOTAL 9 1 90%"; exit {of_report} ;; esac; exit {of_tests}\n',
        ),
    ):
        file.parent.mkdir(parents=True)
        file.write_text(text)
        file.chmod(0o755)
    environment = {"PATH": os.defpath, "MINIPOD_VENV": str(python.parents[1])}
    done = subprocess.run([str(script)], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (status, "branch coverage of tests/unit and tests/corpus: 90%\n")
