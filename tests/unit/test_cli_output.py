"""What the command line prints: YAML, JSONPath, selectors, tables, durations."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from minipod.cli.listing import sort_objects
from minipod.cli.show import jsonpath
from minipod.cli.show.custom_columns import CustomColumns
from minipod.cli.show.jsonpath import Template
from minipod.cli.show.table import tabbed, table
from minipod.cli.show.yamlout import to_yaml
from minipod.errors import UsageError


@pytest.mark.parametrize(
    "text",
    ["a\nb", "a\nb\n", "a\n\n\nb\n\n", "a\n  in\n", "  a\nb", "\na", "a\tb\n", "a\r\nb", "a \nb ", "---", "--x", "-c"],
)  # fmt: skip
def test_lines_and_flags_survive_yaml(text: str) -> None:
    assert yaml.safe_load(to_yaml({"key": text, "list": [text]})) == {"key": text, "list": [text]}


def test_yaml_looks_as_kubectl_writes_it() -> None:
    value = {
        "kind": "Pod",
        "apiVersion": "v1",
        "spec": {
            "containers": [{"name": "web", "command": ["sh", "-c", "a\nb\n"], "image": "busybox:1.36"}],
            "empty": {},
        },
        "numbers": [1, True, None, "1", "true"],
        "time": "2026-01-02T03:04:05Z",
    }
    assert to_yaml(value) == (
        "apiVersion: v1\nkind: Pod\nnumbers:\n- 1\n- true\n- null\n- \"1\"\n- \"true\"\nspec:\n  containers:\n"
        "  - command:\n    - sh\n    - -c\n    - |\n      a\n      b\n    image: busybox:1.36\n    name: web\n"
        '  empty: {}\ntime: "2026-01-02T03:04:05Z"\n'
    )  # fmt: skip


POD = {
    "metadata": {"name": "web", "labels": {"app.kubernetes.io/name": "x"}},
    "spec": {"containers": [{"name": "a", "image": "i1", "n": 1}, {"name": "b", "image": "i2", "n": 2}]},
    "status": {"phase": "Running", "ready": True, "conditions": [{"type": "Ready", "status": "True"}]},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.status.phase}", "Running"),
        ("name={.metadata.name}!", "name=web!"),
        ("{.spec.containers[*].name}", "a b"),
        ("{.spec.containers[0].name} {.spec.containers[-1].name}", "a b"),
        ("{.spec.containers[0:1].name}", "a"),
        ('{.spec.containers[?(@.name=="b")].image}', "i2"),
        ("{.spec.containers[?(@.n>1)].name}", "b"),
        ('{.status.conditions[?(@.type=="Ready")].status}', "True"),
        ("{range .spec.containers[*]}{.name}:{.image}{\"\\n\"}{end}", "a:i1\nb:i2\n"),
        (r"{.metadata.labels.app\.kubernetes\.io/name}", "x"),
        ("{.metadata.labels['app.kubernetes.io/name']}", "x"),
        ("{.metadata['name']}", "web"),
        ("{..image}", "i1 i2"),
        ("{.missing.field}", ""),
        ("{.status.ready}", "true"),
        ("{.spec.containers[0]}", '{"image":"i1","n":1,"name":"a"}'),
        ("{$.metadata.name}", "web"),
        ("{.spec.containers[0,1].name}", "a b"),
    ],
)  # fmt: skip
def test_jsonpath_templates_as_kubectls(template: str, text: str) -> None:
    assert Template(template).render(POD) == text


@pytest.mark.parametrize("template", ["{.a", "{range .a}", "{end}", "{.a[}", "{.a[?(x)]}", ""])
def test_a_wrong_template_is_refused(template: str) -> None:
    with pytest.raises(UsageError, match="jsonpath"):
        Template(template).render({"a": [1]})


def test_the_relaxed_form_needs_no_braces() -> None:
    assert [jsonpath.relaxed(text) for text in ("a.b", ".a.b", "{.a.b}")] == ["{.a.b}"] * 3


def test_a_jsonpath_union_is_paths_key_by_key_and_an_index_beyond_the_end_an_error() -> None:
    things = {"items": [{"m": {"n": "a", "k.x": 1}, "p": 3}, {"m": {"n": "b"}, "p": 4}]}
    assert Template("{.items[*]['m.n', 'p']}").render(things) == "a b 3 4"
    assert Template("{.items[*].m['k.x']}").render(things) == "1"
    assert Template("{.items[1,0].p}").render(things) == "4 3"
    with pytest.raises(UsageError, match="array index out of bounds: index 2, length 2"):
        Template("{.items[2].p}").render(things)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("600m", "600m"),
        ("0dcdf403-2d2c-4f15", "0dcdf403-2d2c-4f15"),
        ("10.0.0.1", "10.0.0.1"),
        ("a: b", "'a: b'"),
        ("it's: x", "'it''s: x'"),
        ("1e3", '"1e3"'),
        ("12:30:45", '"12:30:45"'),
        ("2026-11-28T11:31:32Z", '"2026-11-28T11:31:32Z"'),
        ("yes", '"yes"'),
        ("-", "'-'"),
        ("", '""'),
    ],
)
def test_scalars_are_quoted_as_kubectl_quotes_them(text: str, written: str) -> None:
    assert to_yaml({"a": text}) == f"a: {written}\n"


def test_custom_columns_are_kubectls() -> None:
    show = CustomColumns("NAME:.metadata.name,L:.metadata.labels,P:{.spec.ports[*]},NO:.x", False).show
    items: list[dict[str, Any]] = [
        {"metadata": {"name": "web", "labels": {"b": "1", "a": "2"}}, "spec": {"ports": [1, 2]}},
        {"metadata": {"name": "db"}},
    ]
    assert show({"kind": "List", "items": items}, False) == (
        "NAME   L              P        NO\n"
        "web    map[a:2 b:1]   1,2      <none>\n"
        "db     <none>         <none>   <none>\n"
    )
    assert show(items[1], True) == "db     <none>         <none>   <none>\n"
    with pytest.raises(UsageError, match="expected <header>:<json-path-expr>"):
        CustomColumns("NAME", False)


def test_objects_are_sorted_by_a_field_numbers_as_numbers() -> None:
    objects: list[dict[str, Any]] = [{"n": 10, "m": "b"}, {"n": 9, "m": "a"}, {"m": "c"}]
    assert [one.get("n") for one in sort_objects(objects, ".n")] == [None, 9, 10]
    assert [one["m"] for one in sort_objects(objects, "{.m}")] == ["a", "b", "c"]
    with pytest.raises(UsageError, match="couldn't find any field"):
        sort_objects(objects, ".nope")


def test_tables_remember_widths_and_pad_by_three() -> None:
    widths: list[int] = []
    assert table([["NAME", "AGE"], ["web", "5s"]], widths) == "NAME   AGE\nweb    5s\n"
    assert table([["longer-name", "5s"], ["x", 1]], widths) == "longer-name   5s\nx             1\n"


def test_tab_stops_are_those_of_gos_tabwriter() -> None:
    text = "Name:\tweb\nNamespace:\tdefault\nContainers:\n  app:\n    Image:\tbusybox\n    Port:\t<none>\nEnd:\t\tx"
    assert tabbed(text).split("\n") == [
        "Name:       web",
        "Namespace:  default",
        "Containers:",
        "  app:",
        "    Image:  busybox",
        "    Port:   <none>",
        "End:          x",
    ]
