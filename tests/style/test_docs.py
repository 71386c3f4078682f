"""The words: every link inside the repository leads somewhere, and README shows the commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from minipod.cli.main import VERBS
from tests.conftest import CHECKOUT

PAGES = [*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_readme_shows_commands_that_exist() -> None:
    shown = set(re.findall(r"minipod ([a-z]+)\b", "\n".join(indented_lines())))
    assert shown
    assert shown <= {*VERBS}


def test_readme_shows_examples_that_exist() -> None:
    shown = set(re.findall(r"examples/[\w-]+\.yaml", (CHECKOUT / "README.md").read_text()))
    assert [path for path in shown if not (CHECKOUT / path).exists()] == []


def indented_lines() -> list[str]:
    return [line for line in (CHECKOUT / "README.md").read_text().splitlines() if line.startswith("    ")]
