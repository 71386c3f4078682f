"""`scripts/vm-test`: prepares what is missing, runs pytest in the VM, ends with pytest's status (3: it did not run)."""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

from tests.tools import CHECKOUT, DidNotRunError, cache_folder, install_tools, locked, say
from tests.vm.boot import accelerator_for, run_in_vm
from tests.vm.image import KINDS, root_image
from tests.vm.kernel import RELEASES, kernel_of

#: Debian package → a program of it
TOOLS = {
    "busybox-static": "busybox",
    "e2fsprogs": "mke2fs",
    "kmod": "depmod",
    "mmdebstrap": "mmdebstrap",
    "qemu-system-x86": "qemu-system-x86_64",
}
NODE_TESTS = ("tests/node", "tests/attacks")
#: how much longer the tests' own time limits are: software emulation is 20 to 30 times slower
SLOWNESS = {"kvm": 1, "tcg": 10}
DID_NOT_RUN = 3
INTERRUPTED = 130

DESCRIPTION = """
Runs the node tests in a throw-away virtual machine with cgroup v2 alone and one of Debian's kernels. Without further
arguments those marked `vm`; every argument that is not known here is pytest's, as in: scripts/vm-test -k groups -x
What is missing is installed (QEMU, mmdebstrap), downloaded or built once and kept in ~/.cache/minipod-vm
(XDG_CACHE_HOME). The VM has no network and gets a copy of the working tree. MINIPOD_VM_MIRROR: the Debian mirror.
"""


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an end in either way ends the machine too
    parser = argparse.ArgumentParser(prog="scripts/vm-test", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--kernel", choices=RELEASES, default="trixie", help="whose kernel (default trixie's, 6.12)")
    parser.add_argument("--all", action="store_true", help="all node tests, not only those marked vm")
    parser.add_argument("--systemd", action="store_true", help="instead tests/systemd, in a Debian that systemd boots")
    parser.add_argument("--time-limit", type=float, default=5400, metavar="S", help="for the tests (default 5400)")
    parser.add_argument("--rebuild", action="store_true", help="first remove what was downloaded and built")
    parser.add_argument("--prepare", action="store_true", help="only download and build")
    args, pytest_arguments = parser.parse_known_args()
    try:
        return run(args, pytest_arguments)
    except DidNotRunError as error:
        say(str(error))
        return DID_NOT_RUN
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED


def run(args: argparse.Namespace, pytest_arguments: list[str]) -> int:
    install_tools(TOOLS)
    cache = cache_folder()
    with locked(cache):
        if args.rebuild:
            for kind in (*KINDS, "kernel"):
                for part in cache.glob(f"{kind}-*"):
                    shutil.rmtree(part)
        kernel = kernel_of(args.kernel, cache)
        root = root_image(cache, "systemd" if args.systemd else "root")
        accelerator = accelerator_for(kernel, cache)
    if args.prepare:
        return 0
    slow = ": software emulation, 20 to 30 times slower" if accelerator == "tcg" else ""
    say(f"booting Linux {kernel.version}, accelerator {accelerator}{slow}")
    begun = time.monotonic()
    slowness = SLOWNESS[accelerator]
    wanted = (
        under_systemd(pytest_arguments, slowness) if args.systemd else command(args.all, pytest_arguments, slowness)
    )
    status = run_in_vm(
        wanted,
        kernel=kernel,
        root=root,
        accelerator=accelerator,
        systemd=args.systemd,
        timeout_s=args.time_limit,
    )
    say(f"Linux {kernel.version}: status {status} after {time.monotonic() - begun:.0f} s")
    return status


def command(every: bool, arguments: list[str], slowness: int) -> str:
    """What the guest's shell runs. Tests that are chosen by name or mark are run whether they are marked vm or not."""
    paths = [word for word in arguments if Path(CHECKOUT, word.partition("::")[0]).exists()]
    chosen = bool(paths) or any(word.startswith(("-k", "-m")) for word in arguments)
    colour = "yes" if sys.stdout.isatty() else "no"
    words = ["python3", "-m", "pytest", "-p", "no:cacheprovider", f"--color={colour}", *arguments]
    if not paths:
        words += NODE_TESTS
    if not chosen and not every:
        words += ["-m", "vm"]
    return f"export MINIPOD_TEST_SLOWNESS={slowness} MINIPOD_TEST_VM=1\n{shlex.join(words)}\n"


def under_systemd(arguments: list[str], slowness: int) -> str:
    """What the guest's service runs at each boot: tests/systemd, which reboots the machine in between."""
    return f"export MINIPOD_TEST_SLOWNESS={slowness}\nexec python3 -m tests.systemd {shlex.join(arguments)}\n"


if __name__ == "__main__":
    sys.exit(main())
