"""`minipod completion` (layer 6): completion scripts made from the verbs' own parsers. Installs nothing."""

from __future__ import annotations

import argparse

from minipod.cli.commands import VERBS
from minipod.cli.options import Parser, load_verb, parser_for

POD_VERBS = ("describe", "logs", "exec", "delete", "get", "wait")
KIND_VERBS = ("describe", "delete", "get")
FILE_VERBS = ("run", "apply", "plan", "validate")
SHELLS = ("bash", "zsh", "fish")
VALUES = {"--output": "wide yaml json name jsonpath=", "--until": "created running ready succeeded"}
PLACES = ("--filename", "--run-dir", "--data-dir", "--config")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print a completion script. bash: source <(minipod completion bash); zsh the same; fish: | source"
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")


def run(args: argparse.Namespace) -> int:
    parsers = {verb: parser_for(verb, load_verb(verb)) for verb in VERBS if verb != "completion"}
    print({"bash": bash, "zsh": zsh, "fish": fish}[args.shell](parsers), end="")
    return 0


def options_of(parser: Parser) -> list[tuple[list[str], str, bool]]:
    """(names, help, takes a value) of every option."""
    return [
        (list(action.option_strings), (action.help or "").replace("%%", "%"), action.nargs != 0)
        for action in parser._actions
        if action.option_strings and action.help != argparse.SUPPRESS
    ]


def words_of(verb: str, parser: Parser) -> str:
    """The fixed words that may follow a verb: kinds, sub-verbs, choices."""
    words = [choice for action in parser._actions if not action.option_strings for choice in action.choices or ()]
    return " ".join((["pods"] if verb in KIND_VERBS else []) + words)


def bash(parsers: dict[str, Parser]) -> str:
    """One case a verb; pods, files and containers are found when they are asked for."""
    cases = []
    for verb, parser in parsers.items():
        flags = " ".join(name for names, _, _ in options_of(parser) for name in names)
        kind = "pods" if verb in POD_VERBS else "files" if verb in FILE_VERBS else "none"
        cases.append(f'        {verb}) flags="{flags}" words="{words_of(verb, parser)}" kind={kind} ;;')
    valued = sorted({name for p in parsers.values() for names, _, value in options_of(p) if value for name in names})
    return BASH.format(
        verbs=" ".join(VERBS),
        cases="\n".join(cases),
        valued="|".join(valued),
        shells=" ".join(SHELLS),
        output=VALUES["--output"],
        until=VALUES["--until"],
    )


def zsh(parsers: dict[str, Parser]) -> str:
    return ZSH.format(bash=bash(parsers))


def fish(parsers: dict[str, Parser]) -> str:
    lines = [FISH_HEAD]
    for verb, text in VERBS.items():
        lines.append(f"complete -c minipod -n __fish_use_subcommand -a {verb} -d {_fish(text)}")
    for verb, parser in parsers.items():
        seen = f"-n '__fish_seen_subcommand_from {verb}'"
        for names, text, takes_value in options_of(parser):
            spelled = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in names)
            lines.append(
                f"complete -c minipod {seen} {spelled} {_fish_value(names) if takes_value else ''}-d {_fish(text)}"
            )
        if verb in POD_VERBS:
            lines.append(f"complete -c minipod {seen} -f -a '(__minipod_pods)'")
        if words := words_of(verb, parser):
            lines.append(f"complete -c minipod {seen} -f -a '{words}'")
        if verb in FILE_VERBS:
            lines.append(f"complete -c minipod {seen} -F")
    lines.append(f"complete -c minipod -n '__fish_seen_subcommand_from completion' -f -a '{' '.join(SHELLS)}'")
    return "\n".join(lines) + "\n"


def _fish_value(names: list[str]) -> str:
    """What may follow an option: words, or a file."""
    if names[-1] == "--container":
        return "-x -a '(__minipod_containers)' "
    if words := VALUES.get(names[-1]):
        return f"-x -a '{words}' "
    return "-r -F " if names[-1] in PLACES else "-x "


def _fish(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


BASH = """# bash completion for minipod
_minipod_pods() {{
    minipod "${{globals[@]}}" get pods -o name 2>/dev/null
}}

_minipod_containers() {{
    [[ -z $1 ]] && return
    local names="jsonpath={{.spec.containers[*].name}} {{.spec.initContainers[*].name}}"
    minipod "${{globals[@]}}" get pod "${{1#pod/}}" -o "$names" 2>/dev/null
}}

_minipod() {{
    local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}"
    local verb="" pod="" word flags="" words="" kind=none skip="" i pods
    local -a globals=()
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word="${{COMP_WORDS[i]}}"
        if [[ -n $skip ]]; then
            [[ $skip == keep ]] && globals+=("$word")
            skip=""
            continue
        fi
        case "$word" in
            --) return ;;
            --run-dir|--data-dir|--root|--state|-n|--namespace) globals+=("$word"); skip=keep ;;
            {valued}) skip=yes ;;
            -*) ;;
            *) if [[ -z $verb ]]; then verb="$word"; elif [[ -z $pod ]]; then pod="$word"; fi ;;
        esac
    done
    if [[ -z $verb ]]; then
        COMPREPLY=($(compgen -W "{verbs} --run-dir --data-dir --config --namespace --help" -- "$cur"))
        return
    fi
    case "$verb" in
{cases}
        completion) words="{shells}" ;;
    esac
    case "$prev" in
        -f|--filename) [[ $verb != logs ]] && kind=files words="" ;;
        -c|--container)
            COMPREPLY=($(compgen -W "$(_minipod_containers "$pod")" -- "$cur"))
            return ;;
        -n|--namespace|--tail|--since|--timeout) return ;;
        --for)
            words="condition=Ready condition=Ready=False delete create"
            [[ $verb == wait ]] && COMPREPLY=($(compgen -W "$words" -- "$cur"))
            return ;;
        -o|--output)
            COMPREPLY=($(compgen -W "{output}" -- "$cur"))
            return ;;
        --until)
            COMPREPLY=($(compgen -W "{until}" -- "$cur"))
            return ;;
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    elif [[ $kind == pods ]]; then
        pods="$(_minipod_pods)"
        [[ $cur == pod/* ]] || pods="${{pods//pod\\//}}"
        COMPREPLY=($(compgen -W "$words $pods" -- "$cur"))
    elif [[ $kind == files ]]; then
        COMPREPLY=($(compgen -f -- "$cur"))
    else
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    fi
}}
complete -o default -F _minipod minipod
"""

ZSH = """#compdef minipod
# zsh completion for minipod: the bash function, by zsh's own bashcompinit
autoload -U +X compinit && compinit
autoload -U +X bashcompinit && bashcompinit
{bash}"""

FISH_HEAD = """# fish completion for minipod
function __minipod_pods
    minipod get pods -o name 2>/dev/null | string replace 'pod/' ''
end
function __minipod_containers
    # the words after the verb: the first is the pod
    set -l words (commandline -opc | string match -v -- '-*')
    test (count $words) -ge 3; or return
    set -l path "jsonpath={.spec.containers[*].name} {.spec.initContainers[*].name}"
    minipod get pod (string replace 'pod/' '' -- $words[3]) -o $path 2>/dev/null | string split ' '
end
complete -c minipod -f"""
