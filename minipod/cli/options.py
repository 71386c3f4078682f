"""What the verbs' parsers share (layer 6): global options, one-line errors, durations. Calls no agent."""

from __future__ import annotations

import argparse
import importlib
import os

from minipod.cli.commands import VALUE_OPTIONS
from minipod.cli.patience import patience
from minipod.cli.values import TYPE_CHECKING
from minipod.errors import UsageError
from minipod.paths import DATA_DIR_OPTIONS, RUN_DIR_OPTIONS, Paths

if TYPE_CHECKING:
    from typing import NoReturn, Protocol

    class VerbModule(Protocol):
        """A module of `minipod.cli.verbs`."""

        def configure(self, parser: argparse.ArgumentParser, /) -> None: ...

        def run(self, args: argparse.Namespace, /) -> int: ...


class Formatter(argparse.HelpFormatter):
    """argparse makes a formatter for each option that is added; its own look-up of the width imports shutil."""

    width = 0

    def __init__(self, prog: str) -> None:
        if not Formatter.width:
            Formatter.width = terminal_width()
        super().__init__(prog, max_help_position=32, width=Formatter.width)


def terminal_width() -> int:
    """Columns for help texts: the terminal's, at most 120; 100 where there is none."""
    try:
        return max(60, min(120, os.get_terminal_size(1).columns))
    except OSError:
        return 100


class Parser(argparse.ArgumentParser):
    """argparse with kubectl's habits: `--flag=true`, no abbreviations, errors as one line."""

    switched_off: list[str]

    def error(self, message: str) -> NoReturn:
        from minipod.cli.habits import option_hint

        raise UsageError(f"{message}; {option_hint(self.prog, message) or f'see {self.prog} --help'}")

    def switches(self) -> dict[str, str]:
        """All options that take no value, and where their value goes."""
        return {name: action.dest for action in self._actions if action.nargs == 0 for name in action.option_strings}

    def permuted(self, words: list[str]) -> list[str]:
        """Options first, then `--` and the rest: kubectl lets both stand in any order.

        argparse's own parse_intermixed_args formats the usage on each call, which costs 4 ms.
        """
        options: list[str] = []
        others: list[str] = []
        rest = iter(words)
        for word in rest:
            if word == "-" or not word.startswith("-"):
                others.append(word)
                continue
            options.append(word)
            if self.wants_next(word) and (value := next(rest, None)) is not None:
                options.append(value)
        return [*options, "--", *others] if others else options

    def wants_next(self, word: str) -> bool:
        """Whether an option's value is the word after it: `--tail 5`, `-o json`, `-it`-like groups ending in one."""
        actions = self._option_string_actions
        if word.startswith("--"):
            return word in actions and actions[word].nargs not in (0, "?")
        for position in range(1, len(word)):
            action = actions.get(f"-{word[position]}")
            if action is None or action.nargs != 0:
                return action is not None and position == len(word) - 1
        return False

    def has_sub_verbs(self) -> bool:
        return any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in self._actions)

    def names(self) -> set[str]:
        """Every option of the verb, and of its sub-verbs."""
        found = set(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    found |= parser.names()
        return found

    def own(self, verb: str, words: list[str]) -> list[str]:
        """Without the options of kubectl that have nothing to do here. Raises UsageError for those that are refused."""
        known = self.names()
        if not any(word[:1] == "-" and word.partition("=")[0] not in known for word in words):
            return words
        from minipod.cli import foreign

        return foreign.without(verb, words, known)

    def normalized(self, words: list[str]) -> list[str]:
        """`--flag=true` as `--flag`; `--flag=false` is left out and remembered: kubectl's booleans.

        An option whose value may be left out takes none but behind `=`: `--validate` as `--validate=strict`.
        """
        switches = self.switches()
        result = []
        for word in words:
            name, equals, value = word.partition("=")
            action = self._option_string_actions.get(word)
            if action is not None and action.nargs == "?":
                result.append(f"{word}={action.const}")
            elif not equals or name not in switches:
                result.append(word)
            elif value in ("true", "1"):
                result.append(name)
            elif value in ("false", "0"):
                self.switched_off.append(switches[name])
            else:
                self.error(f'invalid argument "{value}" for "{name}": true or false')
        return result


def load_verb(verb: str) -> VerbModule:
    """The module of a verb."""
    module: VerbModule = importlib.import_module(f"minipod.cli.verbs.{verb.replace('-', '_')}")
    return module


def parser_for(verb: str, module: VerbModule) -> Parser:
    """A verb's parser, with the global options in a group of their own."""
    parser = Parser(prog=f"minipod {verb}", allow_abbrev=False, formatter_class=Formatter)
    parser.set_defaults(command=[])
    parser.switched_off = []
    module.configure(parser)
    group = parser.add_argument_group("global options")
    _add_place(group, "root", RUN_DIR_OPTIONS, "what dies with the boot (MINIPOD_RUN_DIR; /run/minipod)")
    _add_place(group, "state", DATA_DIR_OPTIONS, "what survives it (MINIPOD_DATA_DIR; /var/lib/minipod)")
    group.add_argument("--config", metavar="FILE", help="the configuration (MINIPOD_CONFIG; /etc/minipod/config.toml)")
    group.add_argument("-n", "--namespace", metavar="N", help="the namespace of the pods (default)")
    group.add_argument(
        "--request-timeout",
        metavar="D",
        help="give up on a request that has no answer after 5s, 2m …; 0: never (the default)",
    )
    group.add_argument(
        "--warnings-as-errors", action="store_true", help="exit with 1 when there were warnings, whatever was done"
    )
    group.add_argument("-v", "--verbose", action="count", default=0, help="show what is sent to the agent; as -v=6")
    return parser


def _add_place(group: argparse._ArgumentGroup, dest: str, names: tuple[str, ...], words: str) -> None:
    """The first name is shown, the old ones are not."""
    shown, *old = names
    group.add_argument(shown, dest=dest, metavar="DIR", help=words)
    group.add_argument(*old, dest=dest, metavar="DIR", help=argparse.SUPPRESS)


def parse(verb: str, module: VerbModule, words: list[str]) -> argparse.Namespace:
    """The verb's arguments. What follows the first `--` is `args.command`, untouched."""
    parser = parser_for(verb, module)
    command: list[str] = []
    if "--" in words:
        cut = words.index("--")
        words, command = words[:cut], words[cut + 1 :]
    if (refuse := getattr(module, "refuse", None)) is not None:
        refuse(words)  # before the options: those of what is refused are unknown
    words = parser.normalized(parser.own(verb, words))
    args = parser.parse_args(hoisted(words) if parser.has_sub_verbs() else parser.permuted(words))
    args.command = command
    patience.limit_s = duration_s(args.request_timeout) if args.request_timeout else 0.0
    if patience.limit_s < 0:
        parser.error("--request-timeout must not be negative")
    for name in parser.switched_off:
        setattr(args, name, False)
    if command and not getattr(module, "TAKES_COMMAND", False):
        parser.error(f"unexpected argument {command[0]!r} after --")
    return args


def hoisted(words: list[str]) -> list[str]:
    """Global options first: behind a sub-verb its parser would not know them."""
    first: list[str] = []
    rest: list[str] = []
    index = 0
    while index < len(words):
        name, equals, _ = words[index].partition("=")
        width = 0 if name not in VALUE_OPTIONS else 1 if equals else 2
        first += words[index : index + width]
        rest += words[index : index + 1] if not width else []
        index += width or 1
    return first + rest


def paths_of(args: argparse.Namespace) -> Paths:
    return Paths.from_env(args.root, args.state)


def namespace_of(args: argparse.Namespace) -> str:
    return args.namespace or "default"


def duration_s(text: str) -> float:
    """Seconds of a Go duration (`300ms`, `1h30m`, `-1s`); a bare number counts seconds. Raises UsageError."""
    from minipod.api.timestamps import parse_duration

    bare = text.isascii() and text.removeprefix("-").removeprefix("+").replace(".", "", 1).isdigit()
    try:
        return parse_duration(f"{text}s" if bare else text)
    except ValueError:
        raise UsageError(f'invalid duration "{text}": use for example 90s, 5m or 1h30m') from None


def integer(text: str) -> int:
    """An ASCII decimal number, as the kernel and Kubernetes read one."""
    if not (text.isascii() and text.lstrip("-").isdigit() and text.count("-") <= (text[:1] == "-")):
        raise argparse.ArgumentTypeError(f'"{text}" is not a number')
    return int(text)


def pod_names(words: list[str], verb: str) -> list[str]:
    """The pods meant by kubectl's forms: `pod NAME…`, `pods NAME…`, `pod/NAME…`. Raises UsageError."""
    if not words:
        raise UsageError(f"{verb}: which pod? use for example: minipod {verb} pod NAME")
    if "/" not in words[0]:
        check_kind(words[0])
        return [name for name in words[1:] if _plain(name)]
    names = []
    for word in words:
        kind, slash, name = word.partition("/")
        if not slash or not name:
            raise UsageError(f"there is no need to mix resource/name with plain names: {word}")
        check_kind(kind)
        names.append(name)
    return names


def _plain(name: str) -> bool:
    if "/" in name:
        raise UsageError(f"there is no need to specify a resource type as a separate argument when passing {name}")
    return True


def one_pod(word: str) -> str:
    """The name in `NAME`, `pod/NAME` or `pods/NAME`."""
    kind, slash, name = word.partition("/")
    if not slash:
        return word
    check_kind(kind)
    return name


def check_kind(kind: str) -> None:
    if kind not in ("pod", "pods", "po"):
        raise UsageError(f'minipod doesn\'t have a resource type "{kind}"; it has pods')
