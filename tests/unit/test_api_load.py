"""Loading: what the API server's decoder says to texts, where things are, what hostile texts cost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from minipod.api.check import check
from minipod.api.load import Document, field_keys, load
from minipod.api.text import MAX_NODES, MAX_TEXT_BYTES
from tests.conftest import CHECKOUT

TEXTS = (CHECKOUT / "tests" / "data" / "pods-yaml.jsonl").read_text().splitlines()
UNDECODABLE = {"Syntax", "WrongType", "UnknownField", "DuplicateKey"}
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: c, image: b}\n"


def only(text: bytes | str, **options: Any) -> Document:
    (document,) = load(text, **options)
    return document


def told(document: Document) -> list[tuple[str, str]]:
    return [(error.type, error.field) for error in document.errors]


def names_of(document: Document, kind: str) -> list[str]:
    return sorted(error.field for error in document.errors if error.type == kind)


def is_read_alike(case: dict[str, Any]) -> bool:
    documents = check(case["text"], support=False)
    if case["expect"] == "no objects":
        return documents == []
    (document,) = documents
    found = {(error.field, error.type) for error in document.errors}
    if case["expect"] != "undecodable":
        return found == {(error["field"], error["type"]) for error in case.get("errors", [])}
    repeated = sorted(field.rsplit(".", 1)[-1] for field in names_of(document, "DuplicateKey"))
    return (
        bool({kind for _, kind in found} & UNDECODABLE)
        and names_of(document, "UnknownField") == sorted(case.get("unknownFields", []))
        and repeated == sorted(case.get("duplicateKeys", []))
    )


#: here the server read YAML itself; kubectl merges before it sends JSON, and minipod reads what kubectl reads
MERGED_BY_KUBECTL = ["anchor-alias", "merge-override"]


def test_texts_are_read_as_the_api_server_reads_them() -> None:
    cases = [json.loads(line) for line in TEXTS]
    assert len(cases) == 74
    assert [case["name"] for case in cases if not is_read_alike(case)] == MERGED_BY_KUBECTL


MERGE_CASES: list[tuple[str, object, list[tuple[str, str]], list[str]]] = [
    # what stands under `metadata.labels`, the labels, the errors, the fields that are warned of
    ("{<<: {a: x, b: x}, b: own}", {"a": "x", "b": "own"}, [], []),
    ("{<<: [{a: x}, {a: v, b: v}]}", {"a": "x", "b": "v"}, [], []),
    ("{<<: {a: x}, <<: {a: v}}", {"a": "v"}, [], []),
    ("{b: own, <<: {b: x}}", {"b": "x"}, [], ["metadata.labels.b"]),
    ("{b: x, <<: {b: x}}", {"b": "x"}, [], []),
    ("{<<: {b: x}, b: own, b: two}", {"b": "two"}, [("DuplicateKey", "metadata.labels.b")], []),
    ("{b: own, <<: {b: x}, b: two}", {"b": "two"}, [("DuplicateKey", "metadata.labels.b")], ["metadata.labels.b"]),
    ("{b: own, b: two}", {"b": "two"}, [("DuplicateKey", "metadata.labels.b")], []),
    ('{"<<": x}', {"<<": "x"}, [], []),
]


def test_a_merge_gives_what_kubectl_sends_and_only_a_repeated_key_is_an_error() -> None:
    for text, labels, errors, warned in MERGE_CASES:
        found = only(f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n  labels: {text}\n")
        fields = [warning.partition(": ")[0] for warning in found.warnings]
        assert (found.object.metadata.labels, told(found), fields) == (labels, errors, warned), text


LIST = "apiVersion: v1\nkind: List\nitems:\n- &a {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n"


_NAMESPACE = '{"apiVersion":"v1","kind":"Namespace",\n"kind":"Namespace","metadata":{"name":"n"}}'


def test_a_repeated_key_in_a_list_is_one_error_of_the_item_that_has_it() -> None:
    cases: tuple[tuple[str, object], ...] = (
        (LIST + "- {<<: *a, metadata: {name: b}}\n", [[], []]),
        (LIST + "- {<<: *a, metadata: {name: b, name: c}}\n", [[], [("metadata.name", 5, 32)]]),
        (LIST + "kind: List\n", [[("kind", 5, 1)]]),
        ("apiVersion: v1\nkind: List\nkind: List\nitems: []\n", [[("kind", 3, 1)]]),
        (f'{{"apiVersion":"v1","kind":"List","items":[{_NAMESPACE}]}}', [[("kind", 2, 1)]]),
    )
    for text, wanted in cases:
        found = check(text)
        assert [[(e.field, e.line, e.column) for e in document.errors] for document in found] == wanted, text
        ignored = check(text, validation="ignore")
        assert [error for document in ignored for error in document.errors] == [], text
        assert [warning for document in ignored for warning in document.warnings] == [], text


KYAML = (
    '{{{}apiVersion: "v1", kind: "Pod", metadata: {{name: "p",}}, spec: {{containers: [{{name: "c", imag: "b"}},]}},}}'
)


@pytest.mark.parametrize("begin", ["", "\n  ", "---\n", "# a comment\n", "{comment}"])
def test_kyaml_is_read_with_and_without_a_line_of_dashes(begin: str) -> None:
    text = KYAML.format(" # c\n") if begin == "{comment}" else begin + KYAML.format("") + "\n"
    document = only(text)
    assert (document.kind, document.name) == ("Pod", "p")
    assert told(document) == [("UnknownField", "spec.containers[0].imag")]
    assert document.errors[0].line == text[: text.index("imag")].count("\n") + 1


def test_what_begins_with_a_quoted_key_is_json_and_its_faults_are_json_s() -> None:
    (error,) = only('{"kind": "Pod", "metadata": {"name": "p",}}').errors
    assert (error.type, error.line) == ("Syntax", 1)
    assert error.column in (41, 42)  # from 3.13 on, json points at the comma


def test_every_fault_of_a_document_is_reported_with_its_place() -> None:
    document = only(
        "apiVersion: v1\n"
        "kind: Pod\n"
        "metadata: {name: p}\n"
        "spec:\n"
        "  containers:\n"
        "  - name: c\n"
        "    image: 5\n"
        "    comand: [sh]\n"
        "    ports:\n"
        "    - containerPort: many\n"
        "  restartPolicy: Never\n"
        "  restartPolicy: Always\n"
    )
    assert [(error.line, error.column, error.type, error.field) for error in document.errors] == [
        (12, 3, "DuplicateKey", "spec.restartPolicy"),
        (7, 5, "WrongType", "spec.containers[0].image"),
        (8, 5, "UnknownField", "spec.containers[0].comand"),
        (10, 7, "WrongType", "spec.containers[0].ports[0].containerPort"),
    ]
    assert document.object is None
    assert 'did you mean "command"?' in document.errors[2].message


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("Image", 'did you mean "image"? (names are case-sensitive)'),
        ("volume_mounts", 'did you mean "volumeMounts"?'),
        ("imagePullpolicy", 'did you mean "imagePullPolicy"?'),
        ("restartPolcy", 'did you mean "restartPolicy"?'),
        ("hostNetwork", "it belongs into spec"),
        ("labels", "it belongs into metadata"),
    ],
)
def test_an_unknown_field_of_a_container_gets_a_hint(field: str, hint: str) -> None:
    document = only(POD.replace("image: b", f"image: b, {field}: x"))
    assert told(document) == [("UnknownField", f"spec.containers[0].{field}")]
    assert hint in document.errors[0].message


def test_positions_hold_for_every_document_of_a_file_and_for_what_is_missing() -> None:
    first, second = load(f"# one\n{POD}---\n# two\n{POD}")
    assert first.position("spec.containers[0].name") == (7, 6)
    assert second.position("spec.containers[0].image") == (15, 15)
    assert second.position("spec.containers[0].ports[3].name") == (15, 5)
    assert second.position("nothing") == (10, 1)


def test_positions_of_json_are_as_good() -> None:
    one = '{"apiVersion":"v1","kind":"Pod",\n "metadata":{"name":"p"},\n\t"spec":{"containers":[{"name":"c"}]}}'
    first, second = load(f"{one} {one}")
    assert first.position("metadata.name") == (2, 14)
    assert second.position("apiVersion") == (3, 41)
    assert second.position("spec.containers[0].name") == (5, 25)
    doubled = only('{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p",\n"name":"q"}}')
    assert [(e.type, e.field, e.line, e.column) for e in doubled.errors] == [("DuplicateKey", "metadata.name", 2, 1)]


def test_positions_of_aliases_and_flow_style_fall_back_to_what_is_around() -> None:
    document = only(POD.replace("- {name: c, image: b}", "- &a {name: c, image: b}\n  - *a"))
    assert document.position("spec.containers[1].name") == (7, 5)


def test_a_list_gives_a_document_for_each_item() -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- kind: Pod\n  apiVersion: v1\n  metadata: {name: a}\n- kind: Nope\n"
    first, second = load(text)
    assert (first.kind, first.name, first.index, first.errors) == ("Pod", "a", 0, ())
    assert [(error.field, error.line) for error in second.errors] == [("apiVersion", 7)]


def test_the_items_of_a_pod_list_are_pods() -> None:
    item = "- metadata: {name: a}\n  spec: {containers: [{name: a, image: b, x: 1}]}\n"
    document = only(f"apiVersion: v1\nkind: PodList\nitems:\n{item}")
    assert (document.kind, document.name) == ("Pod", "a")
    assert [(error.field, error.line) for error in document.errors] == [("spec.containers[0].x", 5)]


def test_lenient_loading_warns_of_unknown_and_repeated_fields() -> None:
    document = only(POD + "  foo: 1\n  hostPID: false\n  hostPID: true\n", validation="warn")
    assert not document.errors
    assert document.object.spec.host_pid is True
    assert {warning.split(":")[0] for warning in document.warnings} == {"spec.foo", "spec.hostPID"}


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("kind: Pod", "apiVersion", "Required value"),
        ("apiVersion: v1", "kind", "Required value"),
        ("apiVersion: apps/v1\nkind: Deployment", "kind", "spec.template"),
        ("apiVersion: v1\nkind: pod", "kind", 'did you mean "Pod"?'),
        ("apiVersion: v1beta1\nkind: Pod", "apiVersion", "Pod is of apiVersion v1"),
        ("just text", "", "a Kubernetes object is wanted"),
        ("# nothing", "", "only comments"),
        ("a:\n\tb: 1", "", "use spaces"),
        ("--- x", "", "nothing but a comment"),
    ],
)
def test_what_is_no_object_is_said_in_one_line(text: str, field: str, words: str) -> None:
    (error, *_) = only(text).errors
    assert error.field == field
    assert words in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize(
    ("written", "value"),
    {
        "yes": True,
        "n": False,
        "Off": False,
        "TRUE": True,
        "0o17": 15,
        "017": 15,
        "0x1F": 31,
        "1_000": 1000,
        "-0b11": -3,
        "1e3": 1000.0,
        ".5": 0.5,
        "089": 89.0,
        "~": None,
        "1:30": "1:30",
        "2026-01-01": "2026-01-01",
        "0.5Gi": "0.5Gi",
        "1e999": "1e999",
        "+.": "+.",
        "\u0665": "\u0665",
    }.items(),
)
def test_unquoted_words_mean_what_they_mean_to_go_yaml(written: str, value: object) -> None:
    from minipod.api.scalars import plain

    assert plain(written) == value
    assert type(plain(written)) is type(value)


@pytest.mark.parametrize(
    ("number", "text"), [(1e16, "10000000000000000"), (0.5, "0.5"), (1e-7, "1e-7"), (1e21, "1e+21")]
)
def test_numbers_are_written_as_go_writes_them(number: float, text: str) -> None:
    from minipod.api.scalars import number_text

    assert number_text(number) == text


@pytest.mark.parametrize(
    "text",
    [
        b"\x00" * 100,
        b"\xff\xfe\xfa",
        POD.encode() + b"# \xc3\x28\n",
        "[" * 100_000,
        "{a: " * 100_000,
        '{"a":' * 100_000,
        "- " * 100_000,
        "? " * 100_000,
        "&a [*a]",
        "a: *b",
        "a: &a [x, x, x]\n" + "".join(f"a{i}: &a [{'*a, ' * 10}]\n" for i in range(20)),
        "k: v\n" * MAX_NODES,
        "{" + '"a":1,' * MAX_NODES + '"b":1}',
        '{"a":' + "9" * 10_000 + "}",
        "{}" * 5_000,
        b"a" * (MAX_TEXT_BYTES + 1),
        "a: !!python/object/apply:os.system [x]",
    ],
    ids=range(17),
)
def test_hostile_texts_end_in_an_error(text: bytes | str) -> None:
    documents = load(text)
    assert documents
    assert all(document.errors for document in documents)


def test_a_wrong_type_behind_many_unknown_fields_is_seen() -> None:
    unknown = "".join(f"  x{number}: 1\n" for number in range(200))
    (document,) = check(POD + unknown + "  hostNetwork: sometimes\n")
    assert document.object is None
    assert ("WrongType", "spec.hostNetwork") in told(document)


def test_of_thousands_of_errors_the_first_are_reported_and_the_others_counted() -> None:
    wrong = "".join("  - {name: A_, image: b, x: 1}\n" for _ in range(2_000))
    (document,) = check(POD + wrong)
    assert len(document.errors) == 1_000
    assert any("more errors are not shown" in warning for warning in document.warnings)


def test_nothing_that_a_terminal_would_obey_is_reported() -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "\x1b[2J\n"}, "\x1b]0;x\x07": 1})
    for document in (*check(text), *check(text, validation="warn")):
        for words in (*(f"{error.field} {error.message}" for error in document.errors), *document.warnings):
            assert words.isprintable(), words


def test_byte_order_marks_and_utf_16_are_read() -> None:
    for raw in (POD.encode("utf-16"), b"\xef\xbb\xbf" + POD.encode(), POD.replace("\n", "\r\n").encode()):
        assert told(only(raw)) == []


def test_paths_are_split_as_kubernetes_writes_them() -> None:
    assert field_keys("spec.containers[0].resources.limits[nvidia.com/gpu]") == (
        "spec",
        "containers",
        "0",
        "resources",
        "limits",
        "nvidia.com/gpu",
    )
