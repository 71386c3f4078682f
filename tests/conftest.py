"""What all tests share: where the checkout is, and which tests need root."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from minipod.kernel.probe import in_chroot
from tests.flaky import Flaky
from tests.patience import SLOWNESS
from tests.random_order import UNSHUFFLED, in_order, new_seed

CHECKOUT = Path(__file__).resolve().parent.parent
NEEDS_ROOT = ("node", "attacks", "faults", "manifests", "package", "chroot")
#: of these, what may run in a chroot: it shows whether the others may
HARMLESS = "chroot"
IN_CHROOT_VARIABLE = "MINIPOD_TEST_IN_CHROOT"
#: what is destroyed "in the pod" would be the host's, should a process join a namespace and not the chroot in it
IN_CHROOT = f"""these tests destroy files inside pods, and this process is in a chroot: a pod that is not confined there
would have them destroy the host's. Run them where `/` is the root of the mount namespace, in scripts/chroot-test, or
set {IN_CHROOT_VARIABLE}=1 once tests/{HARMLESS} has passed here."""
TEST_LIMIT_S = 240


SEED = pytest.StashKey[str]()
WORKERS_SEED = "minipod_seed"


def pytest_addoption(parser: pytest.Parser) -> None:
    words = f"the order of the tests: a number repeats one, {UNSHUFFLED!r} is that of the files"
    parser.addoption("--seed", default=None, metavar="N", help=words)
    parser.addoption("--again", action="store_true", help="say and keep which tests failed in the run before only")


@pytest.hookimpl(tryfirst=True)  # before pytest's own, which reads basetemp
def pytest_configure(config: pytest.Config) -> None:
    given = getattr(config, "workerinput", {}).get(WORKERS_SEED)
    if given:  # a worker of pytest-xdist: sockets are in its temporary directory, and their paths have to be short
        base = Path(config.option.basetemp)
        config.option.basetemp = str(base.with_name(base.name.removeprefix("popen-gw")))
    config.stash[SEED] = given or config.getoption("--seed") or new_seed()
    config.pluginmanager.register(Flaky(config, config.stash[SEED], config.rootpath / "build" / "flaky.jsonl"))


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's: several processes run tests of one order
def pytest_configure_node(node: Any) -> None:
    node.workerinput[WORKERS_SEED] = node.config.stash[SEED]


def pytest_report_header(config: pytest.Config) -> str:
    return _order(config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if terminalreporter.stats.get("failed") or terminalreporter.stats.get("error"):
        terminalreporter.line(_order(config))


def _order(config: pytest.Config) -> str:
    return f"order of the tests: --seed {config.stash[SEED]}"


@pytest.hookimpl(tryfirst=True)  # pytest itself then brings together what shares a parametrized fixture
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items[:] = in_order(items, config.stash[SEED])
    folders = {item: item.path.relative_to(CHECKOUT / "tests").parts[0] for item in items}
    privileged = [item for item in items if folders[item] in NEEDS_ROOT]
    if os.geteuid() == 0:
        harmful = any(folders[item] != HARMLESS for item in privileged)
        if harmful and not os.environ.get(IN_CHROOT_VARIABLE) and in_chroot() is not False:
            pytest.exit(IN_CHROOT, returncode=pytest.ExitCode.USAGE_ERROR)
        return
    skip = pytest.mark.skip(reason="needs root: run sudo scripts/test")
    for item in privileged:
        item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test that hangs fails by itself, fixtures included, and the rest still runs."""

    def expired(*_: object) -> None:
        # no Exception, so that nothing under test takes it for an error of its own
        pytest.fail(f"{item.nodeid} took more than {TEST_LIMIT_S * SLOWNESS:.0f} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, TEST_LIMIT_S * SLOWNESS, 5)  # again, should a clean-up hang too
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def checkout() -> Path:
    return CHECKOUT
