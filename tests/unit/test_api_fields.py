"""The support table: complete, without a word too many, and what docs/support.md says."""

from __future__ import annotations

from collections import Counter

from minipod.api import types
from minipod.api.check import check
from minipod.api.fields import CLUSTER, ROWS, UNSUPPORTED
from minipod.api.load import Document
from minipod.api.schema import fields_of
from minipod.api.support_page import every_struct, page
from tests.conftest import CHECKOUT

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n    image: b\n"


def test_every_field_has_exactly_one_row() -> None:
    rows = Counter((row.struct, name) for row in ROWS for name in row.fields)
    wanted = {(struct.__name__, wire) for struct, _ in every_struct() for wire in fields_of(struct)}
    missing, stale = wanted - rows.keys(), rows.keys() - wanted
    # structs that only an unsupported or conditional row leads to may have rows for the day when it changes
    stale = {(struct, name) for struct, name in stale if name not in fields_of(getattr(types, struct, types.Pod))}
    assert not missing, f"write a row in minipod/api/fields.py for {sorted(missing)}"
    assert not stale, f"no such field: {sorted(stale)}"
    assert [key for key, count in rows.items() if count > 1] == []


def test_every_refusal_and_every_warning_says_why() -> None:
    for row in ROWS:
        assert bool(row.note) is (row.level in (CLUSTER, UNSUPPORTED)), row


def test_the_page_is_what_the_table_says() -> None:
    assert (CHECKOUT / "docs" / "support.md").read_text() == page(), "run scripts/generate-support"


def test_what_is_not_supported_is_an_error_with_its_place() -> None:
    (document,) = check(POD + "  volumes:\n  - name: v\n    fc: {wwids: [a]}\n")
    (error,) = document.errors
    assert (error.field, error.type, error.line) == ("spec.volumes[0].fc", "Unsupported", 10)
    assert "hostPath" in error.message


def test_validate_takes_what_is_not_supported_for_a_warning() -> None:
    (document,) = check(POD + "  volumes:\n  - name: v\n    fc: {wwids: [a]}\n", support=False)
    assert not document.errors
    assert document.warnings[0].startswith("spec.volumes[0].fc: not supported by minipod")


def test_what_has_no_effect_is_one_warning_however_often_it_is_written() -> None:
    spread = "[{maxSkew: 1, topologyKey: a, whenUnsatisfiable: DoNotSchedule}]"
    (document,) = check(POD + f"  priority: 5\n  topologySpreadConstraints: {spread}\n")
    assert not document.errors
    assert [warning.split(":")[0] for warning in document.warnings] == [
        "spec.priority",
        "spec.topologySpreadConstraints",
    ]


def test_harmless_values_and_defaults_need_no_word() -> None:
    (document,) = check(POD + "  schedulerName: default-scheduler\n  hostUsers: true\n  os: {name: linux}\n")
    assert (document.errors, document.warnings) == ((), ())


def annotated(annotation: str) -> Document:
    (document,) = check(POD.replace("{name: p}", f"{{name: p, annotations: {{{annotation}}}}}"))
    return document


def test_a_profile_that_an_annotation_asks_for_is_not_passed_over() -> None:
    (error,) = annotated("container.apparmor.security.beta.kubernetes.io/c: localhost/x").errors
    assert error.field == "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]"
    (warning,) = annotated("seccomp.security.alpha.kubernetes.io/pod: localhost/x").warnings
    assert warning.startswith("metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: has no effect")


def test_an_annotation_may_ask_for_no_apparmor() -> None:
    document = annotated("container.apparmor.security.beta.kubernetes.io/c: unconfined")
    assert (document.errors, document.warnings) == ((), ())


def test_other_kinds_are_refused_by_run_with_a_word() -> None:
    (document,) = check("apiVersion: v1\nkind: Event\nmetadata: {name: c}\n")
    assert [(error.field, error.type) for error in document.errors] == [("kind", "Unsupported")]


def test_a_name_that_is_to_be_generated_is_no_fault() -> None:
    (document,) = check(POD.replace("name: p", "generateName: p-", 1))
    assert document.errors == ()
    (document,) = check(POD.replace("name: p", "generateName: P_", 1))
    assert {error.field for error in document.errors} == {"metadata.generateName", "metadata.name"}


def test_resources_that_are_not_enforced_are_a_warning() -> None:
    (document,) = check(POD + "    resources: {limits: {memory: 64Mi, hugepages-2Mi: 2Mi}}\n")
    assert document.errors == ()
    assert [warning.split(":")[0] for warning in document.warnings] == ["spec.containers[0].resources.limits"]
    (document,) = check(POD + "    resources: {limits: {memory: 64Mi, cpu: 1, ephemeral-storage: 1Gi}}\n")
    assert document.warnings == ()
