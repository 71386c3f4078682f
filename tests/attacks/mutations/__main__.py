"""`scripts/mutations [ROW…]`: takes each defence out in a copy of the checkout and shows whether its test fails then.

Ends with 0 where every mutation was noticed. The checkout itself is never changed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.attacks.mutations import Mutation, all_mutations, mutated
from tests.conftest import CHECKOUT

PASSED, FAILED = 0, 1  # pytest's exit status
#: in a mount namespace of its own; the tests need the three that stay writable. In a chroot whose folder is no mount
#: point there is nothing to remount: the folder is bound next to the copy, and is the root from then on
HOST_READ_ONLY = """
for place in /run /tmp /var; do mount --rbind "$place" "$place"; done
if ! mount -o remount,bind,ro / 2>/dev/null; then
    mkdir "$PWD/../root"
    mount --rbind / "$PWD/../root"
    mount -o remount,bind,ro "$PWD/../root"
    exec chroot "$PWD/../root" sh -ec 'cd "$1"; shift; exec "$@"' sh "$PWD" "$@"
fi
cd "$PWD"
exec "$@"
"""
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "build", "dist", "*.egg-info")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/mutations", description=__doc__, allow_abbrev=False)
    parser.add_argument("rows", nargs="*", type=int, metavar="ROW", help="of the catalogue; default: all")
    parser.add_argument("--no-baseline", action="store_true", help="do not first run the tests on the source as it is")
    args = parser.parse_args()
    chosen = [mutation for mutation in all_mutations() if not args.rows or mutation.row in args.rows]
    if not chosen:
        parser.error("no mutation for these rows")
    if not args.no_baseline and not passes_as_it_is(chosen):
        return 1
    print("| row | without | the test | then | how |\n|---|---|---|---|---|")
    noticed = [show(mutation) for mutation in chosen]
    print(f"\n{sum(noticed)} of {len(noticed)} mutations were noticed")
    return 0 if all(noticed) else 1


def passes_as_it_is(mutations: Sequence[Mutation]) -> bool:
    with tempfile.TemporaryDirectory(prefix="mutation") as folder:
        done = run(copy_to(folder), sorted({mutation.test for mutation in mutations}))
    if done.returncode == PASSED:
        return True
    print(f"on the source as it is, these tests fail already:\n{done.stdout}")
    return False


def show(mutation: Mutation) -> bool:
    """One line of the table."""
    with tempfile.TemporaryDirectory(prefix="mutation") as folder:
        copy = copy_to(folder)
        for edit in mutation.edits:
            (copy / edit.file).write_text(mutated((copy / edit.file).read_text(), edit))
        done = run(copy, [mutation.test])
    outcome = {PASSED: "PASSES", FAILED: "fails"}.get(done.returncode, f"pytest ended with {done.returncode}")
    test = mutation.test.rpartition("::")[2]
    print(f"| {mutation.row} | {mutation.defence} | {test} | {outcome} | {first_error(done.stdout)} |", flush=True)
    return done.returncode == FAILED


def copy_to(folder: str) -> Path:
    """Times are kept, so that only what is changed is compiled anew."""
    return Path(shutil.copytree(CHECKOUT, Path(folder, "copy"), symlinks=True, ignore=NOT_COPIED))


def run(copy: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """pytest below the copy imports the copy: its folder comes first in sys.path, in nodes by PYTHONPATH.

    The host's root file system is read-only to it: a defence that is out is out for the fixtures too.
    """
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", HOST_READ_ONLY, "sh", *pytest]
    return subprocess.run(command, cwd=copy, stdout=subprocess.PIPE, text=True, check=False)


def first_error(output: str) -> str:
    """Of the test itself where it failed, else of its fixtures: the canary, what was left behind."""
    lines: list[str] = re.findall(r"^E +(.+)$", output.partition(" FAILURES ")[2] or output, re.MULTILINE) or [""]
    return lines[0].replace("|", "\\|")[:110]


if __name__ == "__main__":
    sys.exit(main())
