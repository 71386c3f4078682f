"""Output formats of whole objects (layer 6): YAML, JSON, names, JSONPath, custom columns. Pure, but for its writers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from minipod.cli.show.output import write_exact
from minipod.cli.values import Any
from minipod.errors import UsageError

FORMATS = ("wide", "yaml", "json", "name")
TEMPLATES = ("jsonpath", "jsonpath-as-json", "custom-columns")


def check_format(output: str | None) -> None:
    """Raises UsageError for what is no output format."""
    if output and output not in FORMATS and output.partition("=")[0] not in TEMPLATES:
        raise UsageError(
            f'unable to match a printer suitable for the output format "{output}", '
            f"allowed formats are: custom-columns=,json,jsonpath=,jsonpath-as-json=,name,wide,yaml"
        )


def writer(output: str) -> Callable[[str], object]:
    """Only jsonpath is exact: to a reader of JSON and YAML an escaped character is the same."""
    return write_exact if output.startswith("jsonpath=") else sys.stdout.write


def printer(output: str, no_headers: bool = False) -> Any:
    """A function of (object, is one of a stream) that gives its text."""
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
    from minipod.cli.show import jsonpath

    template = jsonpath.Template(text)
    if kind == "jsonpath-as-json":
        return lambda item, _stream: json.dumps(template.values(item), indent=4, ensure_ascii=False) + "\n"
    return lambda item, stream: template.render(item) + ("\n" if stream else "")
