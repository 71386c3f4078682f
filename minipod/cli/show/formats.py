"""Output formats of whole objects (layer 6): YAML, JSON, names, JSONPath, Go templates, custom columns.

Pure, but for the files that hold templates and for the writers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from minipod.cli.show.output import write_exact
from minipod.cli.values import TYPE_CHECKING, Any
from minipod.errors import UsageError

if TYPE_CHECKING:
    import argparse

PLAIN = ("json", "name", "wide", "yaml")
#: formats that hold a text: `NAME=TEXT`, or `NAME` with --template
TEMPLATES = {
    "custom-columns": "custom columns",
    "custom-columns-file": "custom columns",
    "go-template": "template",
    "go-template-file": "template",
    "jsonpath": "template",
    "jsonpath-as-json": "template",
    "jsonpath-file": "template",
    "template": "template",
    "templatefile": "template",
}
#: other names of a format
_SAME = {"template": "go-template", "templatefile": "go-template-file"}
COLUMNS = ("wide", "custom-columns", "custom-columns-file")
#: what the result of a change can be printed as: no columns
RESULTS = tuple(sorted(name for name in {*PLAIN, *TEMPLATES} if name not in COLUMNS))
ALL = tuple(sorted({*PLAIN, *TEMPLATES}))

Print = Callable[[Any, bool], str]
"""A function of (object, is one of a stream) that gives its text."""


def configure(parser: argparse.ArgumentParser, words: str = "", metavar: str = "FORMAT") -> None:
    """-o and what templates need. `words`: instead of the formats that results have."""
    default = "name, yaml, json, jsonpath={…}, go-template={{…}}, or one of these with -file=FILE"
    parser.add_argument("-o", "--output", metavar=metavar, help=words or default)
    parser.add_argument(
        "--template", metavar="TEXT", help="of -o go-template or jsonpath; alone a go-template; with -file a path"
    )
    parser.add_argument(
        "--allow-missing-template-keys",
        action="store_true",
        default=True,
        help="a template may name fields that are not there (the default; =false: an error)",
    )


def chosen(args: argparse.Namespace, allowed: tuple[str, ...] = ALL) -> str | None:
    """The format in one piece: a plain one, or `NAME=TEXT` with the text of its file. Raises UsageError."""
    output: str = args.output or ""
    template: str | None = getattr(args, "template", None)
    if not output and template is not None:
        output = "go-template"
    if not output:
        return None
    name, equals, text = output.partition("=")
    if name not in allowed or (equals and name not in TEMPLATES):
        raise UsageError(
            f'unable to match a printer suitable for the output format "{output}", '
            f"allowed formats are: {','.join(allowed)}"
        )
    if name not in TEMPLATES:
        if template is not None:
            raise UsageError(f"--template goes with -o go-template or jsonpath, not with -o {name}")
        return name
    if not equals and template is not None:
        text = template
    if not text:
        what = TEMPLATES[name]
        raise UsageError(f"{what} format specified but no {what} given")
    name = _SAME.get(name, name)
    if name.endswith("-file"):
        return _from_file(name.removesuffix("-file"), text)
    return f"{name}={text}"


def _from_file(name: str, path: str) -> str:
    from minipod.cli.files import read_text

    text = read_text(path)
    if name == "custom-columns":  # titles on the first line, paths on the second (get/customcolumn.go)
        lines = [line.split() for line in text.splitlines() if line.split()]
        if len(lines) != 2 or len(lines[0]) != len(lines[1]):
            raise UsageError(f"{path}: custom columns are two lines: as many titles as paths")
        text = ",".join(f"{title}:{spec}" for title, spec in zip(*lines, strict=True))
    return f"{name}={text}"


def writer(output: str) -> Callable[[str], object]:
    """Only templates are exact: to a reader of JSON and YAML an escaped character is the same."""
    return write_exact if output.startswith(("jsonpath=", "go-template=")) else sys.stdout.write


def printer(output: str, no_headers: bool = False, allow_missing: bool = True) -> Print:
    """Of a format that `chosen` gave."""
    if output == "name":
        return lambda item, _stream: f"{str(item.get('kind', 'Pod')).lower()}/{item['metadata']['name']}\n"
    if output == "json":
        # A stream is read by programs: one object a line.
        return lambda item, stream: (
            json.dumps(item, indent=None if stream else 4, ensure_ascii=False, sort_keys=True) + "\n"
        )
    if output == "yaml":
        from minipod.cli.show.yamlout import to_yaml

        return lambda item, stream: ("---\n" if stream else "") + to_yaml(item)
    kind, _, text = output.partition("=")
    if kind == "custom-columns":
        from minipod.cli.show.custom_columns import CustomColumns

        return CustomColumns(text, no_headers).show
    if kind == "go-template":
        from minipod.cli.show import gotemplate

        made = gotemplate.Template(text, allow_missing)
        return lambda item, _stream: made.render(item)
    return _jsonpath(text, allow_missing, as_json=kind == "jsonpath-as-json")


def _jsonpath(text: str, allow_missing: bool, as_json: bool) -> Print:
    from minipod.cli.show import jsonpath

    template = jsonpath.Template(text, allow_missing)

    def show(item: Any, stream: bool) -> str:
        try:
            if as_json:
                return json.dumps(template.values(item), indent=4, ensure_ascii=False) + "\n"
            return template.render(item) + ("\n" if stream else "")
        except jsonpath.NotThereError as error:
            raise UsageError(f"error executing jsonpath {json.dumps(text, ensure_ascii=False)}: {error}") from None

    return show
