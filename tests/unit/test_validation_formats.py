"""What strings must look like, and how paths and messages are written."""

from __future__ import annotations

import pytest

from minipod.api.validation import formats
from minipod.api.validation.check import Check, Format, Key, render

LONG = "a" * 64


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (formats.dns_label, ["a", "0", "a-b"], ["", "-a", "a-", "A", "a.b", "a\n", "ü", LONG]),
        (formats.dns_subdomain, ["a", "a.b-c.d", LONG], ["", ".", "a..b", "A.b", "a_b", "a." * 127 + "a"]),
        (formats.dns_subdomain_prefix, ["a-", "a.b-", "A-", "--"], ["-", "Ab-"]),
        (formats.dns_search, [".", "a.", "_tcp.a", "a_b"], ["", "..", "A", "a-_."]),
        (formats.qualified_name, ["a", "A_b.c", "a.b/C"], ["", "/a", "a/", "A/b", "a/b/c", f"a/{LONG}", "a_"]),
        (formats.annotation_key, ["A.B/C"], ["A_B/C"]),
        (formats.label_value, ["", "A", "a_b.c"], ["-", "a/b", LONG]),
        (formats.port_name, ["http", "8a", "a-b"], ["", "80", "a--b", "-a", "a-", "A", "a" * 16]),
        (formats.env_name, ["A", "1", "a b", "a.b-c", "#"], ["", "=", "a=b", "ü", "\t"]),
        (formats.config_key, ["a", "A_b.c-d", ".a"], ["", ".", "..", "..a", "a/b", "a" * 254]),
        (formats.http_header, ["X-A", "1"], ["", "X_A", "X A"]),
        (formats.sysctl_name, ["kernel.sem", "net/core/x", "a"], ["", "a.", "A", "a..b", "-a"]),
        (
            formats.ip_address,
            ["1.2.3.4", "::", "FE80::1", "::1.2.3.4"],
            ["", "1.2.3", "01.2.3.4", "::ffff:1.2.3.4", "fe80::1%eth0", "1.2.3.4/8", "1.2.3.٤"],
        ),
        (
            formats.cidr,
            ["10.0.0.0/8", "::/0", "fd00::/64"],
            ["", "10.0.0.0", "10.0.0.1/8", "10.0.0.0/08", "10.0.0.0/33", "::ffff:10.0.0.0/104", "10.0.0.0/٨"],
        ),
        (formats.no_backsteps, ["", "/a", "a..b", "..a"], ["..", "a/..", "/../a"]),
        (formats.descending_path, ["", "a/b", "..a"], ["/", "/a", "a/../b"]),
        (formats.file_path, ["", "a/b", "a/..b"], ["..a", "../a", "/a"]),
        (formats.csi_driver, ["a.B.c"], ["", "a_b"]),
        (formats.host_and_port, ["a:1", ":", "[::1]:80", "[]:"], ["", "a", "::1", "[::1]", "a:b:c", "[a]b:1", "a]:1"]),
        (formats.declared_feature, ["A", "Aa/b", "A1/B2"], ["", "a", "A/", "A/1", "A_b"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_format_takes_the_good_and_complains_about_the_bad(form: Format, good: list[str], bad: list[str]) -> None:
    assert [value for value in good if form(value)] == []
    assert [value for value in bad if not form(value)] == []


def test_paths_are_written_as_kubernetes_writes_them() -> None:
    container = (("spec",), "containers", 0)
    assert render((container, "ports", 1, "hostPort")) == "spec.containers[0].ports[1].hostPort"
    assert render((container, "resources", "limits", Key("cpu"))) == "spec.containers[0].resources.limits[cpu]"
    assert render(("",)) == "[]"


def test_a_rule_reports_and_returns_what_it_found() -> None:
    check = Check()
    names: set[str] = set()
    assert check.unique("a", names, "name")
    assert not check.unique("a", names, "name")
    assert not check.choice("", ("x",), "word")
    assert not check.in_range(9, 1, 8, "number")
    assert not check.short_enough("ü" * 3, 5, "text")
    assert [f"{error.field}: {error.type}: {error.message}" for error in check.errors] == [
        'name: FieldValueDuplicate: Duplicate value: "a"',
        "word: FieldValueRequired: Required value",
        "number: FieldValueInvalid: Invalid value: 9: must be between 1 and 8, inclusive",
        "text: FieldValueTooLong: Too long: may not be more than 5 bytes",
    ]


def test_long_values_are_shortened_in_messages() -> None:
    check = Check()
    check.invalid("name", value="x" * 1000, why="is long")
    assert len(check.errors[0].message) < 150
