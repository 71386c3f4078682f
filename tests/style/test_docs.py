"""The words: every link inside the repository leads somewhere, and README shows the commands that exist."""

from __future__ import annotations

import re

from msgspec.structs import asdict

from minipod.cli.commands import VERBS
from minipod.config import Config
from tests.conftest import CHECKOUT

RULES = CHECKOUT / "tests" / "unit" / "README.md"
PAGES = [*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md"), RULES]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def test_links_lead_somewhere() -> None:
    links = [(page, target) for page in PAGES for target in LINK.findall(page.read_text()) if "://" not in target]
    assert links
    assert [(page, target) for page, target in links if not (page.parent / target).exists()] == []


def test_readme_shows_commands_that_exist() -> None:
    shown = set(re.findall(r"minipod ([a-z]+)\b", "\n".join(indented_lines())))
    assert shown
    assert shown <= {*VERBS}


def test_readme_shows_examples_that_exist() -> None:
    shown = set(re.findall(r"examples/[\w-]+\.yaml", (CHECKOUT / "README.md").read_text()))
    assert [path for path in shown if not (CHECKOUT / path).exists()] == []


def test_the_rules_name_tests_that_exist() -> None:
    missing, tests = [], ""
    for line in RULES.read_text().splitlines():
        if line.startswith("* `"):
            tests = (RULES.parent / line.strip("* `")).read_text()
        elif line.startswith("  * ") and f"def test_{line[4:].replace(' ', '_')}(" not in tests:
            missing.append(line)
    assert missing == []


def test_what_is_reliable_names_tests_that_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py): (test_\w+)`", (CHECKOUT / "docs" / "reliability.md").read_text())
    assert len(named) > 20
    assert [
        f"{file}: {test}"
        for file, test in named
        if not (CHECKOUT / file).exists() or f"def {test}(" not in (CHECKOUT / file).read_text()
    ] == []


def test_each_line_of_what_is_reliable_names_its_test() -> None:
    tables = (CHECKOUT / "docs" / "reliability.md").read_text().partition("## What cannot survive")[0]
    rows = [line for line in tables.splitlines() if line.startswith("| ") and not line.startswith("| what")]
    assert len(rows) > 20
    assert [row for row in rows if not re.search(r"`tests/[\w/]+\.py: test_\w+` ?[|,]", row)] == []


def indented_lines() -> list[str]:
    return [line for line in (CHECKOUT / "README.md").read_text().splitlines() if line.startswith("    ")]


def test_every_key_of_the_configuration_is_documented_with_its_default() -> None:
    text = (CHECKOUT / "docs" / "agent.md").read_text()
    rows = re.findall(r"^\| `([a-z_0-9`, ]+)` \| ([^|]+) \|", text, re.MULTILINE)
    documented = {key: defaults for keys, defaults in rows for key in keys.split("`, `")}
    for key, default in asdict(Config()).items():
        assert key in documented
        assert f"`{str(default).lower()}`" in documented[key].replace('"', "") or default in ("", ()), key
