"""`scripts/chroot-test`: pytest in chroots of bare Debian, and the host compared; ends with pytest's status.

3: the tests did not run; 4: the host is not as before.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, NamedTuple

from minipod.kernel.process import set_child_subreaper
from tests.chroot import host
from tests.chroot.debian import INSIDE, bare_debian, copy_of, environment
from tests.chroot.descendants import end_descendants, wait_and_reap
from tests.conftest import IN_CHROOT_VARIABLE
from tests.leaks import SHARED_HOST_VARIABLE
from tests.tools import DidNotRunError, install_tools, locked, say

SUITES = ("bookworm", "trixie")  # Debian 12 and 13
TOOLS = {"debootstrap": "debootstrap", "util-linux": "unshare"}
PYTHON = f"{INSIDE}/.venv/bin/python3"
INTO = Path(__file__).with_name("inside")
#: where the packages of the examples are, for tests/manifests
PACKAGES = "/var/tmp/packages"
INSTALL_PACKAGES = "import sys; from tests.manifests.test_package_images import install; install(sys.argv[1])"
#: what needs the network
SET_UP = (("scripts/setup", "--test"), (PYTHON, "-c", INSTALL_PACKAGES, PACKAGES))
#: these only look
HARMLESS = ("-q", "tests/chroot")
DID_NOT_RUN = 3
HOST_CHANGED = 4
INTERRUPTED = 130

DESCRIPTION = """
Runs the whole test suite in a chroot of bare Debian (python3, git and ca-certificates), set up there as README says, in
private mount and network namespaces. First come the tests in tests/chroot, which destroy nothing and show that commands
in pods are in the pod's root; where they fail, nothing else is run. Afterwards the host has to be as before: files,
devices, settings, mounts, network, cgroups, processes. What follows -- is pytest's. MINIPOD_TEST_MIRROR: the Debian
mirror. MINIPOD_TEST_SHARED_HOST=1: others make namespaces here at the same time, and theirs are not compared.
"""


class Result(NamedTuple):
    suite: str
    status: int
    closing: str
    differences: list[str]

    @property
    def exit_status(self) -> int:
        return self.status or (HOST_CHANGED if self.differences else 0)


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # either way of ending it ends what it has started
    args, pytest_arguments = parsed(sys.argv[1:])
    if os.geteuid() != 0:
        say("needs root: sudo scripts/chroot-test")
        return DID_NOT_RUN
    results = []
    try:
        install_tools(TOOLS)
        args.chroots.mkdir(parents=True, exist_ok=True)
        set_child_subreaper()  # so that nothing that was started is out of sight
        with locked(args.chroots):
            for suite in args.suites:
                results.append(tested(suite, args, pytest_arguments))
                report(results[-1])
    except DidNotRunError as error:
        say(str(error))
        return DID_NOT_RUN
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    return max(result.exit_status for result in results)


def parsed(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our arguments, and pytest's: those after `--`."""
    at = words.index("--") if "--" in words else len(words)
    place = Path("/var/tmp/minipod-chroots")
    parser = argparse.ArgumentParser(prog="scripts/chroot-test", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"Debian's (default: {' '.join(SUITES)})")
    parser.add_argument("--chroots", type=Path, default=place, metavar="FOLDER", help=f"where they are kept ({place})")
    parser.add_argument("--keep", action="store_true", help="keep what was set up, and use it the next time")
    parser.add_argument("--time-limit", type=float, default=5400, metavar="S", help="for one suite (default 5400)")
    args = parser.parse_args(words[:at])
    args.suites = args.suites or list(SUITES)
    return args, words[at + 1 :]


def tested(suite: str, args: argparse.Namespace, pytest_arguments: list[str]) -> Result:
    """Sets the suite's copy up, looks, tests; the host is compared whatever came of that."""
    bare = bare_debian(suite, args.chroots)
    say(f"{suite}: looking at the host")
    before = host.picture()
    with copy_of(bare, args.keep) as root:
        try:
            status, closing = run_all(root, pytest_arguments, args.time_limit)
        except DidNotRunError as error:
            status, closing = DID_NOT_RUN, str(error)
        finally:
            left = [f"left: {text}" for text in end_descendants()]
    shared = bool(os.environ.get(SHARED_HOST_VARIABLE))
    return Result(suite, status, closing, left + host.differences(before, host.picture(), shared))


def run_all(root: Path, pytest_arguments: list[str], time_limit_s: float) -> tuple[int, str]:
    """(pytest's status, its closing line) of the suite, or of the tests that did not let it begin."""
    pytest = (PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "--color=no")
    deadline = time.monotonic() + time_limit_s
    for command in SET_UP:
        status, closing = run_in(root, command, {}, deadline, network=True)
        if status != 0:
            raise DidNotRunError(f"{' '.join(command)} failed in {root}: {closing}")
    say("first what destroys nothing: whether commands in pods are in the pod's root")
    status, closing = run_in(root, (*pytest, *HARMLESS), {}, deadline)
    if status != 0:
        say("commands in pods are not in the pod's root: nothing else is run here")
        return status, closing
    variables = {IN_CHROOT_VARIABLE: "1", "MINIPOD_TEST_DEBIAN": PACKAGES}
    return run_in(root, (*pytest, *pytest_arguments), variables, deadline)


def run_in(
    root: Path, command: tuple[str, ...], variables: dict[str, str], deadline: float, network: bool = False
) -> tuple[int, str]:
    """(status, last line) of the command in the chroot, in the checkout there; its output goes to ours.

    Without the host's network: nftables of another release can end a program that reads them with an older library.
    """
    unshare = ["unshare", "--mount", "--propagation", "private"]
    begin = f"cd {INSIDE}" if network else f"cd {INSIDE} && ip link set lo up"
    words = [*unshare, *([] if network else ["--net"]), "sh", str(INTO), str(root)]
    words += ["sh", "-c", f'{begin} && exec "$@"', "sh", *command]
    child = subprocess.Popen(
        words, env=environment() | variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert child.stdout is not None
    lines: list[str] = [""]
    relay = threading.Thread(target=relayed, args=(child.stdout, lines), daemon=True)
    relay.start()
    try:
        status = wait_and_reap(child.pid, deadline)
    finally:
        child.returncode = 0  # it is waited for here or ended with the others, never by Popen
    relay.join(timeout=5)  # what was left running may hold the pipe
    return status, lines[-1]


def relayed(stream: IO[bytes], lines: list[str]) -> None:
    for line in stream:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        if text := line.decode(errors="replace").strip(" =\n"):
            lines.append(text)


def report(result: Result) -> None:
    say(f"{result.suite}: status {result.status}: {result.closing}")
    if result.differences:
        say(f"{result.suite}: the host is not as before:\n  " + "\n  ".join(result.differences))
    else:
        say(f"{result.suite}: the host is as before")


if __name__ == "__main__":
    sys.exit(main())
