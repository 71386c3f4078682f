"""Man pages from the parsers (layer 6): `python -m minipod.cli.man FOLDER` writes minipod.1 and a page a command."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from minipod import __version__
from minipod.cli.commands import VERBS
from minipod.cli.options import Parser, load_verb, parser_for
from minipod.cli.reference import EXAMPLES, options_of, sub_verbs_of, synopsis_of
from minipod.errors import EXIT_STATUSES

_FILES = {
    "/etc/minipod/config.toml": "the configuration of the agent; every key is optional",
    "/etc/minipod/registries.toml": "registries: mirrors, certificates, plain HTTP",
    "/run/minipod": "what dies with the boot: the control socket, the agent's log, sandboxes",
    "/var/lib/minipod": "what survives it: objects, images, volumes",
    "/var/log/pods": "the logs of containers, as a kubelet keeps them",
}


def pages() -> dict[str, str]:
    """File name -> page."""
    some = parser_for("version", load_verb("version"))
    found = {"minipod.1": _overview(some)}
    for verb in VERBS:
        found[f"minipod-{verb}.1"] = _page(verb, parser_for(verb, load_verb(verb)))
    return found


def _overview(some: Parser) -> str:
    lines = _head("minipod", "runs Kubernetes Pods on one Linux host, without Kubernetes")
    lines += [".SH SYNOPSIS", r"\fBminipod\fR \fICOMMAND\fR [options]", ".SH COMMANDS"]
    for verb, text in VERBS.items():
        lines += [".TP", rf"\fBminipod\-{_roff(verb)}\fR(1)", _roff(text)]
    lines += [".SH OPTIONS", *_options(options_of(some, is_global=True))]
    lines += [".SH EXIT STATUS"]
    for status, text in EXIT_STATUSES.items():
        lines += [".TP", rf"\fB{status}\fR", _roff(text)]
    lines.append(".SH FILES")
    for path, text in _FILES.items():
        lines += [".TP", rf"\fI{_roff(path)}\fR", _roff(text)]
    return _text(lines)


def _page(verb: str, parser: Parser) -> str:
    lines = _head(f"minipod-{verb}", VERBS[verb])
    lines += [".SH SYNOPSIS", rf"\fB{_roff(synopsis_of(verb, parser))}\fR"]
    lines += [".SH DESCRIPTION", _roff((parser.description or "").replace("%%", "%"))]
    if options := options_of(parser, is_global=False):
        lines += [".SH OPTIONS", *_options(options)]
    if commands := sub_verbs_of(parser):
        lines.append(".SH COMMANDS")
        for name, text, command in commands:
            lines += [f".SS {_roff(synopsis_of(f'{verb} {name}', command))}", _roff(command.description or text)]
            lines += _options(options_of(command, is_global=False))
    if examples := EXAMPLES.get(verb):
        lines += [".SH EXAMPLES", ".nf", *map(_roff, examples), ".fi"]
    return _text([*lines, ".SH SEE ALSO", r"\fBminipod\fR(1): the global options, exit statuses and files"])


def _head(name: str, what: str) -> list[str]:
    title = _roff(name.upper())
    return [f'.TH {title} 1 "" "minipod {__version__}" "minipod"', ".SH NAME", rf"{_roff(name)} \- {_roff(what)}"]


def _options(options: list[argparse.Action]) -> list[str]:
    lines = []
    for option in options:
        names = ", ".join(rf"\fB{_roff(name)}\fR" for name in option.option_strings)
        choices = ",".join(map(str, option.choices or [option.dest]))
        value = "" if option.nargs == 0 else rf" \fI{_roff(str(option.metavar or choices))}\fR"
        lines += [".TP", names + value, _roff((option.help or "").replace("%%", "%"))]
    return lines


def _roff(text: str) -> str:
    """groff_man(7): a backslash, a hyphen that is typed, and no line that begins as a request does."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return "\n".join(rf"\&{line}" if line[:1] in (".", "'") else line for line in escaped.split("\n"))


def _text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for file_name, page in pages().items():
        (folder / file_name).write_text(page, encoding="utf-8")
