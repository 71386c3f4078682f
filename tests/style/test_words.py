"""Present-day English in the pages, and in identifiers, docstrings and comments of the source; British spelling.

`told` is reported, published or sent; `given` is what it is: the manifest, the argument; `one` as a variable is the
container, the line, the record that it stands for; nobody, somebody, whoever: the process, the caller.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator

import pytest

from tests.conftest import CHECKOUT

PACKAGE = CHECKOUT / "minipod"
#: in names of variables, functions, classes, attributes, modules: as a part (`tell_at`), or as the whole name
PARTS = {"told", "tell", "tells", "telling", "whoever", "somebody", "nobody", "meanwhile", "stray", "strays", "beside"}
NAMES = {"one", "given", "said"}
#: in docstrings and comments
PROSE = re.compile(r"\b(told|tells?|whoever|somebody|nobody|meanwhile|strays?|beside)\b", re.IGNORECASE)
#: in pages, whose readers are users
ARCHAIC = re.compile(
    r"\b(told|tells?|whoever|somebody|nobody|meanwhile|strays?|beside|anew|upon|thereof|whilst|(?:goes?|going|went) on"
    r"|is said|has had|folders?)\b",
    re.IGNORECASE,
)
AMERICAN = re.compile(
    r"\b(behaviors?|colors?|colored|(?:un)?recogniz\w+|initializ\w+|serializ\w+|organiz\w+|utiliz\w+|authoriz\w+"
    r"|normaliz\w+|neighbors?|honor(?:s|ed)?|favor\w*|defenses?|catalogs?|center(?:s|ed)?|gray"
    r"|(?:cancel|label|signal|travel)(?:ed|ing))\b",
    re.IGNORECASE,
)
MODULES = sorted(PACKAGE.rglob("*.py"))
GENERATED = {"support.md", "seccomp.md"}  # their words are those of modules and of the kernel
SPELT = [
    "minipod",
    "docs",
    "examples",
    "packaging",
    "rootfs",
    "scripts",
    *sorted(path.name for path in CHECKOUT.glob("*.md")),
]
PAGES = sorted(
    {*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")} - {CHECKOUT / "docs" / name for name in GENERATED}
)


def names_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The identifiers that a module makes or uses, with their lines."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 1)
        match node:
            case ast.Attribute(attr="tell"):  # a file's own method
                continue
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield line, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield line, name
            case ast.keyword(arg=str(name)) | ast.alias(asname=str(name)):
                yield line, name
            case ast.MatchAs(name=str(name)):
                yield line, name


def prose_of(text: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Docstrings and comments, with the line where each begins."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring is not None:
                yield node.body[0].lineno, docstring
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def words_of(name: str) -> set[str]:
    """`tell_all`, `tellAll`, `TellAll` → {tell, all}."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def findings(text: str) -> list[str]:
    """`line: word` of every archaic word, in the order of the lines."""
    tree = ast.parse(text)
    found: set[tuple[int, str]] = set()
    for line, name in names_of(tree):
        if name.strip("_") in NAMES or words_of(name) & PARTS:
            found.add((line, name))
    for line, prose in prose_of(text, tree):
        for match in PROSE.finditer(prose):
            found.add((line + prose.count("\n", 0, match.start()), match.group()))
    return [f"{line}: {word}" for line, word in sorted(found)]


def page_prose(page: str) -> str:
    """Without what is quoted: code, links' targets, words in quotation marks; lines stay where they are."""
    for quoted in (r"^```.*?^```", r"^ {4}.*?$", r"`[^`]*`", r"\]\([^)]*\)", r"\"[^\"\n]*\"", r"“[^”]*”"):
        page = re.sub(quoted, lambda match: "\n" * match.group().count("\n"), page, flags=re.DOTALL | re.MULTILINE)
    return page


def page_findings(page: str) -> list[str]:
    """`line: word` of every word of a page that has a plainer or a British form."""
    return [
        f"{number}: {match.group()}"
        for number, line in enumerate(page_prose(page).splitlines(), 1)
        for pattern in (ARCHAIC, AMERICAN)
        for match in pattern.finditer(line)
    ]


def test_archaic_words_stay_away() -> None:
    found = [f"{path.relative_to(CHECKOUT)}:{finding}" for path in MODULES for finding in findings(path.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def tell_all(given): pass", ["1: given", "1: tell_all"]),
        ("x = [one.name for one in y]", ["1: one"]),
        ("class Teller:\n    told: int = 0", ["2: told"]),
        ("f(told=1)\nimport a as strays", ["1: told", "2: strays"]),
        ("match x:\n    case [*_] as said: pass", ["2: said"]),
        ('"""Two lines.\n\nNobody reads it.\n"""', ["3: Nobody"]),
        ("x = 1  # beside it", ["1: beside"]),
        ('x = "it is told"', []),  # what users read has a reader of its own
        ("file.tell()", []),
        ("one_line = stone = storytelling = 1", []),
        ("def f() -> None:\n    '''At one time, as given. Besides.'''", []),
    ],
)
def test_words_are_found(text: str, found: list[str]) -> None:
    assert findings(text) == found


def test_pages_are_in_plain_british_english() -> None:
    found = [f"{path.relative_to(CHECKOUT)}:{finding}" for path in PAGES for finding in page_findings(path.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("a\nIt is told", ["2: told"]),
        ("The pod goes on,\nin colors", ["1: goes on", "2: colors"]),
        ("```\nfolder\n```\nfolder", ["4: folder"]),
        ('`folder` and [x](folder.md), as "nobody"', []),
        ("    folder\nbehavior of a folder", ["2: folder", "2: behavior"]),
        ("Tomorrow the colour of neighbours is catalogued", []),
    ],
)
def test_words_of_pages_are_found(page: str, found: list[str]) -> None:
    assert page_findings(page) == found


def test_nothing_is_misspelt() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "codespell_lib", *SPELT],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
