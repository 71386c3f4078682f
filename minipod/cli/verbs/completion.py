"""`minipod completion` (layer 6): scripts by which a shell asks minipod itself what may follow. Installs nothing."""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "fish")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print a completion script. bash: source <(minipod completion bash); zsh the same; fish: | source"
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")


def run(args: argparse.Namespace) -> int:
    print({"bash": BASH, "zsh": ZSH, "fish": FISH}[args.shell], end="")
    return 0


# The first line of `minipod __complete WORDS…` has flags, each other one a word and, after a tab, its meaning.

BASH = r"""# bash completion for minipod: the program says what may follow
_minipod() {
    local current="${COMP_WORDS[COMP_CWORD]}" word whole glue="" i
    local -a words=() lines=()
    # bash takes = and : for words of their own: put together again what was typed as one word
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word="${COMP_WORDS[i]}"
        if [[ (-n $glue || $word == [=:]) && ${#words[@]} -gt 0 ]]; then
            words[${#words[@]}-1]+="$word"
        else
            words+=("$word")
        fi
        if [[ $word == [=:] ]]; then glue=yes; else glue=""; fi
    done
    [[ $current == [=:] ]] && current=""
    whole="${words[${#words[@]}-1]}"
    mapfile -t lines < <("$1" __complete "${words[@]}" 2>/dev/null)
    COMPREPLY=()
    for word in "${lines[@]:1}"; do
        word="${word%%$'\t'*}"
        COMPREPLY+=("${word#"${whole%"$current"}"}")
    done
    if [[ ${lines[0]} == *files* ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current")
    fi
    if [[ ${lines[0]} == *more* ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -F _minipod minipod
"""

ZSH = r"""#compdef minipod
# zsh completion for minipod: the program says what may follow
_minipod() {
    local -a lines found space
    local line
    lines=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    for line in "${(@)lines[2,-1]}"; do
        if [[ $line == *$'\t'* ]]; then
            found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
        else
            found+=("${line//:/\\:}")
        fi
    done
    [[ ${lines[1]} == *more* ]] && space=(-S '')
    (( ${#found} )) && _describe minipod found "${space[@]}"
    [[ ${lines[1]} == *files* ]] && _files
}
(( ${+functions[compdef]} )) || { autoload -Uz compinit && compinit }
compdef _minipod minipod
"""

FISH = r"""# fish completion for minipod: the program says what may follow
function __minipod_offer
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l lines ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
    string match -q '*files*' -- $lines[1]; and __fish_complete_path "$current"
    printf '%s\n' $lines[2..-1]
end
complete -c minipod -f -a '(__minipod_offer)'
"""
