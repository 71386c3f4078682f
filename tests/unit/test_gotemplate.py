"""Go templates: what kubectl 1.36 prints of an object, and where it stops (tests/data/gotemplates.jsonl)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minipod.cli.show.gotemplate import Template
from minipod.errors import UsageError
from tests.unit.cli_fakes import Object, fake_agent, minipod_command, pod

LINES = (Path(__file__).parents[1] / "data" / "gotemplates.jsonl").read_text().splitlines()
OBJECT, *CASES = map(json.loads, LINES)


def rendered(template: str, allow_missing: bool) -> Object:
    try:
        return {"text": Template(template, allow_missing).render(OBJECT["object"])}
    except UsageError as error:
        return {"error": str(error)}


def test_templates_print_what_kubectl_prints() -> None:
    """`strict`: with --allow-missing-template-keys=false, where that differs."""
    wrong = []
    for case in CASES:
        wanted = {name: case[name] for name in ("text", "error") if name in case}
        for allow_missing, want in ((True, wanted), (False, case.get("strict", wanted))):
            if (found := rendered(case["template"], allow_missing)) != want:
                wrong.append((case["template"], allow_missing, found, want))
    assert wrong == []
    assert len(CASES) > 60


@pytest.mark.parametrize(
    "template", ["{{", "{{end", "{{.}}{{", '{{"', "{{`", "{{(}}", "{{)}}", "{{|}}", "{{:=}}", "{{$}}{{$x"]
)
def test_what_is_no_template_is_an_error(template: str) -> None:
    with pytest.raises(UsageError, match=r"^error parsing template .*template: output:1: "):
        Template(template)


def test_a_template_comes_from_a_file_and_shows_a_list(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "names"
    file.write_text("{{range .items}}{{.metadata.name}} {{end}}")
    with fake_agent(tmp_path) as agent:
        agent.serve_pods(pod(), pod("db"))
        for words in ([f"-o=go-template-file={file}"], [f"--template={file}", "-o", "templatefile"]):
            assert minipod_command(agent.paths, "get", "pods", *words) == 0
            assert capfd.readouterr().out == "web db "
        assert minipod_command(agent.paths, "get", "pods", "-o", "go-template-file=/nope") == 2
        assert minipod_command(agent.paths, "get", "pods", "-o", "go-template") == 2
    errors = capfd.readouterr().err.splitlines()
    assert errors == [
        "error: /nope: no such file or directory",
        "error: template format specified but no template given",
    ]


def test_bytes_of_a_secret_come_out_as_they_are(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    secret = {"kind": "Secret", "metadata": {"name": "s", "namespace": "default"}, "data": {"k": "/wD+gA=="}}
    with fake_agent(tmp_path) as agent:
        agent.serve_pods(secret)
        template = "go-template={{.data.k | base64decode}}{{len (base64decode .data.k)}}"
        assert minipod_command(agent.paths, "get", "secret", "s", "-o", template) == 0
    assert capfdbinary.readouterr().out == b"\xff\x00\xfe\x804"


def test_no_template_takes_all_memory_or_the_stack() -> None:
    for nested in ("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "{{if .}}" * 3000 + "{{end}}" * 3000):
        with pytest.raises(UsageError, match="nested too deeply"):
            Template(nested).render({"a": 1})
    assert Template('{{printf "%9999999999d|%.99999999f" 1 2.0}}').render({}) == "%!(BADWIDTH)1|%!(BADPREC)2"
