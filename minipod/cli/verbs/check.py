"""`minipod check` (layer 6): what this kernel and host offer, and what that means for running pods."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from minipod.cli.finding import Finding
from minipod.cli.show.output import write_painted
from minipod.cli.show.style import Style
from minipod.cli.show.table import table
from minipod.errors import NEGATIVE, SUCCESS
from minipod.terminal import escaped


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Show what this kernel and host offer; exit status 1 if run could not work. Best as root."
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="text or json")


def run(args: argparse.Namespace) -> int:
    from minipod.cli.check_host import ALL

    findings = [finding for probe in ALL for finding in probed(probe)]
    if args.output == "json":
        import json

        fields = ("name", "word", "detail", "why", "remedy", "needed")
        print(json.dumps([{key: getattr(finding, key) for key in fields} for finding in findings], indent=2))
    else:
        write_painted(render(findings))
    return NEGATIVE if any(finding.is_fatal for finding in findings) else SUCCESS


def probed(probe: Callable[[], list[Finding]]) -> list[Finding]:
    """A probe's findings; a probe that breaks is a finding too."""
    try:
        return probe()
    except OSError as error:
        name = probe.__name__.replace("_", " ")
        return [Finding(name, None, str(error).lower(), needed=False)]


def render(findings: list[Finding]) -> str:
    style = Style(1)
    rows = [[finding.name, finding.word, finding.detail] for finding in findings]
    lines = table(rows, padding=2).splitlines()
    text = []
    for finding, line in zip(findings, lines, strict=True):
        paint = {"ok": style.good, "missing": style.bad, "unknown": style.dim}[finding.word]
        text.append(line.rstrip().replace(finding.word, paint(finding.word), 1) if finding.word in line else line)
        if finding.ok is not True:
            text += [f"    why: {escaped(finding.why)}"] if finding.why else []
            text += [f"    how: {escaped(finding.remedy)}"] if finding.remedy else []
    missing = [finding.name for finding in findings if finding.is_fatal]
    unknown = [finding.name for finding in findings if finding.ok is None and finding.needed]
    if missing:
        text.append(style.bad(f"minipod run cannot work here: {', '.join(missing)}"))
    elif unknown:
        text.append("nothing is known to be missing; run it as root to see everything: sudo minipod check")
    else:
        text.append(style.good("minipod run works here"))
    return "\n".join(text) + "\n"
