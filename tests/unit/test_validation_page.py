"""docs/errors.md shows what minipod really prints."""

from __future__ import annotations

import re

from minipod.api.check import check
from tests.conftest import CHECKOUT

PAIRS = re.compile(r"```yaml\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


def printed(manifest: str) -> str:
    lines = []
    for document in check(manifest, "pod.yaml", support=False):
        for error in sorted(document.errors, key=lambda error: (error.line, error.column)):
            lines.append(f"{document.file}:{error.line}:{error.column}: {error.field}: {error.message}\n")
    return "".join(lines)


def test_the_page_of_ten_mistakes_shows_what_is_printed() -> None:
    pairs = PAIRS.findall((CHECKOUT / "docs" / "errors.md").read_text())
    assert len(pairs) == 10
    assert [shown for _, shown in pairs] == [printed(manifest) for manifest, _ in pairs]
