"""The table of mutations: each can still be applied, and names a test that is there."""

from __future__ import annotations

import ast

import pytest

from tests.attacks.catalogue import SECTIONS
from tests.attacks.mutations import Edit, Mutation, all_mutations, mutated
from tests.conftest import CHECKOUT


def fault_of(mutation: Mutation) -> str:
    path, _, name = mutation.test.partition("::")
    if mutation.row not in set().union(*SECTIONS.values()):
        return "no such row"
    if not (CHECKOUT / path).exists() or f"\ndef {name.partition('[')[0]}(" not in (CHECKOUT / path).read_text():
        return f"no such test: {mutation.test}"
    for edit in mutation.edits:
        try:
            ast.parse(mutated((CHECKOUT / edit.file).read_text(), edit))
        except (ValueError, SyntaxError, OSError) as error:
            return str(error)
    return ""


def test_every_mutation_can_be_applied() -> None:
    mutations = all_mutations()
    assert mutations
    assert [f"row {one.row} ({one.defence}): {fault}" for one in mutations if (fault := fault_of(one))] == []


@pytest.mark.parametrize("source", ["", "guard()\nguard()\n"])
def test_what_is_not_there_exactly_once_is_no_mutation(source: str) -> None:
    with pytest.raises(ValueError, match="times"):
        mutated(source, Edit("a.py", "guard()", "pass"))


def test_no_mutation_lets_a_process_onto_the_host_s_root() -> None:
    """It would run with the fixtures too, and they unpack whole images."""
    confining = ("chroot(", "pivot_root", "PivotRoot(", "CLONE_NEWNS")
    texts = [(one.defence, edit.old) for one in all_mutations() for edit in one.edits]
    assert [defence for defence, old in texts if any(word in old for word in confining)] == []
