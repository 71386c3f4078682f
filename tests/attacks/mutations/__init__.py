"""Mutations: each takes one defence out of the source, and names the test that must fail then.

One file a section of the catalogue, `a.toml` to `k.toml`; a new line is

    [[mutation]]
    row = 22                                        # of the catalogue
    defence = "a subPath is opened below its volume, without magic links"
    file = "minipod/plan/volumes/sub_path.py"
    old = '''RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS'''      # exactly once in the file
    new = '''0'''
    test = "tests/attacks/test_d_volumes.py::test_a_sub_path_never_leaves_its_volume"    # or its parameters: …[x]

A mutation is harmless, to everything that runs before its test too: the fixtures unpack images and start pods with the
same source. What keeps a process off the host's root (chroot, pivot_root, the mount namespace) is never taken out.

A defence in two places is two texts: `old2`, `new2` (and `file2`) take out the second. `scripts/mutations [ROW…]`
runs them, each in a copy of the checkout.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent


class Edit(NamedTuple):
    file: str
    old: str
    new: str


class Mutation(NamedTuple):
    row: int
    defence: str
    test: str
    edits: tuple[Edit, ...]


def all_mutations() -> list[Mutation]:
    """Of every section, in the order of the rows."""
    tables = [table for path in sorted(HERE.glob("*.toml")) for table in tomllib.loads(path.read_text())["mutation"]]
    return sorted(map(_mutation, tables), key=lambda mutation: mutation.row)


def _mutation(table: dict[str, str | int]) -> Mutation:
    text = {key: str(value) for key, value in table.items()}
    edits = [Edit(text["file"], text["old"], text["new"])]
    if "old2" in text:
        edits.append(Edit(text.get("file2", text["file"]), text["old2"], text["new2"]))
    return Mutation(int(table["row"]), text["defence"], text["test"], tuple(edits))


def mutated(source: str, edit: Edit) -> str:
    """The source without the defence. Raises ValueError where the text to take out is not there exactly once."""
    if (found := source.count(edit.old)) != 1:
        raise ValueError(f"{edit.file}: found {found} times: {edit.old!r}")
    return source.replace(edit.old, edit.new)
