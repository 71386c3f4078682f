"""docs/cli.md from the parsers (layer 6): `python -m minipod.cli.reference > docs/cli.md`. A test holds it true."""

from __future__ import annotations

import argparse

from minipod.cli import foreign
from minipod.cli.commands import VERBS
from minipod.cli.options import Parser, load_verb, parser_for
from minipod.errors import EXIT_STATUSES

GLOBAL = "global options"
HEAD = """# The command line

kubectl's verbs, flags, output and wording wherever there is one; this page is made from the program
(`python -m minipod.cli.reference > docs/cli.md`). Global options stand before or after the command.

Errors are one line on stderr. `NO_COLOR` and a pipe switch colours off.

| exit status | when |
|---|---|
{statuses}
`exec` and `attach` exit as what they ran, `run` of a pod with a single container as the container.

| global option | what it does |
|---|---|
{options}
`--root`, `--state`, `MINIPOD_ROOT` and `MINIPOD_STATE` are the old names of `--run-dir`, `--data-dir` and their
variables; they still work.

## kubectl's options without effect here

They are accepted, so that scripts and habits work, and do nothing:

| option | of | why there is nothing to do |
|---|---|---|
{accepted}
These are refused, with what to do instead:

| option | of | instead |
|---|---|---|
{refused}
`-v=N` is taken as kubectl takes it: from 6 on it shows what is sent to the agent, as `-v` does.
"""
EXAMPLES = {
    "run": [
        "minipod run pod.yaml",
        "minipod run -d --until ready --timeout 1m pod.yaml",
        "minipod run --replace pod.yaml",
        "minipod run - < pod.yaml",
        "minipod run web --image=nginx --port=80",
        "minipod run shell --image=busybox --rm -it --restart=Never --command -- sh",
        "minipod run web --image=nginx --dry-run=client -o yaml > web.yaml",
    ],
    "apply": [
        "minipod apply -f pod.yaml",
        "minipod apply --force -f pod.yaml",
        "minipod apply -f directory -R -l app=web",
        "minipod apply -f directory --prune -l app=web",
        "minipod apply -f pod.yaml --dry-run=server -o yaml",
    ],
    "create": [
        "minipod create -f pod.yaml",
        "minipod create configmap settings --from-file=conf --from-literal=key=value",
        "minipod create secret generic login --from-env-file=login.env --dry-run=client -o yaml",
    ],
    "replace": ["minipod replace --force -f pod.yaml", "minipod get pod web -o yaml | minipod replace --force -f -"],
    "get": [
        "minipod get pods -A -o wide",
        "minipod get pod web -o yaml",
        "minipod get pods -w",
        "minipod get pods -l app=web -o jsonpath='{.items[*].status.podIP}'",
    ],
    "describe": ["minipod describe pod web"],
    "logs": [
        "minipod logs -f web -c app",
        "minipod logs web --all-containers --prefix --tail 20",
        "minipod logs -p web",
    ],
    "exec": [
        "minipod exec -it web -- sh",
        "minipod exec web -c app -- cat /etc/hosts",
        "tar c . | minipod exec -i web -- tar x",
    ],
    "inspect": ["minipod inspect web", "minipod inspect web -o json"],
    "ps": ["minipod ps -a", "minipod ps --format '{{.Pod}} {{.Name}} {{.Ports}}'"],
    "top": ["minipod top pod -A --sort-by memory", "minipod top pod web --containers", "minipod top node"],
    "delete": ["minipod delete pod web", "minipod delete -f pod.yaml --now", "minipod delete pods --all"],
    "wait": [
        "minipod wait --for=condition=Ready pod/web --timeout 1m",
        "minipod wait --for=jsonpath='{.status.phase}'=Succeeded pod/web",
        "minipod wait --for=delete pod/web",
    ],
    "events": ["minipod events --for pod/web", "minipod events -A -w"],
    "plan": ["minipod plan pod.yaml", "minipod plan -o json pod.yaml"],
    "status": ["minipod status", "minipod status -o json"],
    "gc": ["minipod gc --dry-run"],
    "completion": ["source <(minipod completion bash)", "minipod completion fish | source"],
}


def text() -> str:
    """The whole page."""
    some = parser_for("version", load_verb("version"))
    statuses = "".join(f"| {status} | {when} |\n" for status, when in EXIT_STATUSES.items())
    options = "".join(_row(action) for action in options_of(some, is_global=True))
    accepted, refused = (
        "".join(f"| `{names}` | {verbs} | {why} |\n" for names, verbs, why in foreign.rows(each))
        for each in (True, False)
    )
    lines = [HEAD.format(statuses=statuses, options=options, accepted=accepted, refused=refused)]
    lines += [f"\n{_section(verb, parser_for(verb, load_verb(verb)))}" for verb in VERBS]
    return "".join(lines)


def _section(verb: str, parser: Parser) -> str:
    synopsis = synopsis_of(verb, parser)
    section = f"## minipod {verb}\n\n{(parser.description or '').replace('%%', '%')}\n\n    {synopsis}\n"
    rows = [_row(action) for action in options_of(parser, is_global=False)]
    if rows:
        section += "\n| option | what it does |\n|---|---|\n" + "".join(rows)
    if commands := sub_verbs_of(parser):
        section += "\n| command | what it does |\n|---|---|\n"
        section += "".join(f"| `{name}` | {text} |\n" for name, text, _ in commands)
    examples = EXAMPLES.get(verb, [])
    return section + ("\nExamples:\n\n" + "".join(f"    {line}\n" for line in examples) if examples else "")


def synopsis_of(verb: str, parser: Parser) -> str:
    words = [_operand(action) for action in parser._actions if not action.option_strings]
    return parser.usage or " ".join(["minipod", verb, *words, "[options]"])


def sub_verbs_of(parser: Parser) -> list[tuple[str, str, Parser]]:
    """(name, what it does, its parser) of the commands of a command: `image pull`."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [
        (choice.dest, choice.help or "", group.choices[choice.dest])
        for group in groups
        for choice in group._choices_actions
    ]


def _operand(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest)
    return f"[{name}…]" if action.nargs == "*" and "…" not in name else f"[{name}]" if action.nargs == "?" else name


def options_of(parser: Parser, is_global: bool) -> list[argparse.Action]:
    """Those of every command, or those of this one alone."""
    found = {id(action) for group in parser._action_groups if group.title == GLOBAL for action in group._group_actions}
    options = [action for action in parser._actions if action.option_strings and is_shown(action)]
    return [action for action in options if (id(action) in found) == is_global]


def is_shown(action: argparse.Action) -> bool:
    return action.dest != "help" and action.help != argparse.SUPPRESS


def _row(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {action.metavar or ','.join(map(str, action.choices or [action.dest]))}"
    names = ", ".join(action.option_strings)
    words = (action.help or "").replace("%%", "%").replace("|", "\\|")
    return f"| `{names}{value}` | {words} |\n"


if __name__ == "__main__":
    print(text(), end="")
