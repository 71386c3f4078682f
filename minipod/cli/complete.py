"""What may stand at the end of a command line (layer 6): `minipod __complete WORDS…`, which the shells' scripts call.

It follows from the verbs' parsers and the tables here. Asks a running agent for names and starts none; where
something is wrong, nothing is offered.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable

from minipod.api.kinds import ALL_KINDS, POD, Kind, kind_of_word
from minipod.cli.commands import VALUE_OPTIONS, VERBS, find_verb
from minipod.cli.habits import ALIASES, translated
from minipod.cli.options import Parser, load_verb, parser_for
from minipod.cli.patience import patience
from minipod.cli.values import Object
from minipod.errors import MinipodError, UsageError
from minipod.paths import DATA_DIR_OPTIONS, RUN_DIR_OPTIONS, Paths

ANSWER_S = 2.0  # an agent that takes longer is not waited for
#: metavars of options and operands that are paths of this host
_PATHS = ("FILE", "PATH", "DIR", "FOLDER")
_FORMATS = ("wide", "yaml", "json", "name", "text", "jsonpath=", "jsonpath-as-json=", "custom-columns=", "go-template=")
#: option -> what may follow it, where its parser has no choices
_VALUES = {
    "--for": ("condition=", "create", "delete", "jsonpath="),
    "--types": ("Normal", "Warning"),
}


class Offer:
    """Words with what they mean. `files`: paths of this host fit too. `more`: no space after the word."""

    def __init__(self, words: Iterable[tuple[str, str]] = (), *, files: bool = False, more: bool = False) -> None:
        self.words = list(words)
        self.files = files
        self.more = more

    @classmethod
    def of(cls, words: Iterable[str]) -> Offer:
        return cls((word, "") for word in words)


class NoVerb:
    """For a parser of the global options alone."""

    def configure(self, parser: argparse.ArgumentParser, /) -> None:
        pass

    def run(self, args: argparse.Namespace, /) -> int:
        raise NotImplementedError


class Host:
    """What there is on this host, for the places and the namespace that a command line names."""

    def __init__(self, paths: Paths, namespace: str) -> None:
        self._paths = paths
        self._namespace = namespace

    def names(self, kind: Kind) -> list[str]:
        """Of all objects of the kind; none where no agent runs."""
        message = {"verb": "get", "kind": kind.plural, "namespace": self._namespace, "output": "table"}
        return [entry[1] for event in self._ask(message) for entry in event.get("objects", ())]

    def containers(self, pod: str) -> list[str]:
        from minipod.cli.pods import all_containers

        name = pod.rpartition("/")[2]
        message = {"verb": "get", "kind": "pods", "namespace": self._namespace, "name": name, "output": "object"}
        return [name for event in self._ask(message) for name, _ in all_containers(event["object"])]

    def images(self) -> list[str]:
        from minipod.api.references import parse_reference
        from minipod.runtime.images.store import ImageStore

        return [parse_reference(image.reference).familiar for image in ImageStore(self._paths).list()]

    def _ask(self, message: Object) -> list[Object]:
        from minipod.cli.client import Client, Request

        client = Client(self._paths)
        channel = client.try_connect()
        if channel is None:
            return []
        events = []
        with Request(client, message, (), channel, replaces=False) as request:
            while (event := request.next()) is not None:
                events.append(event)
        return events


def main(words: list[str]) -> int:
    """Prints a line of flags, then a word a line, with its meaning after a tab. `words`: the last one is incomplete."""
    patience.limit_s = ANSWER_S
    try:
        found = offered(words)
    except (MinipodError, OSError):
        found = Offer()
    flags = [*(["files"] if found.files else []), *(["more"] if found.more else [])]
    lines = [" ".join(flags), *(f"{word}\t{text}" if text else word for word, text in found.words)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def offered(words: list[str]) -> Offer:
    """What may stand in the place of the last word."""
    *before, current = words or [""]
    found = _offered(before, current)
    fitting = [entry for entry in found.words if entry[0].startswith(current)]
    more = found.more or (bool(fitting) and all(word.endswith(("=", ":")) for word, _ in fitting))
    return Offer(fitting, files=found.files, more=more)


def _offered(before: list[str], current: str) -> Offer:
    if "--" in before:
        return Offer()
    verb, rest = find_verb(before)
    place = Place(before)
    if verb is None or verb == "help":
        if before and before[-1] in VALUE_OPTIONS:
            return place.global_value(before[-1])
        return Offer(_options(parser_for("", NoVerb())) if current.startswith("-") else VERBS.items())
    try:
        verb, rest = translated(verb, rest, VERBS)
    except UsageError:
        return Offer.of(sorted(typed.split()[1] for typed in ALIASES if typed.startswith(f"{verb} ")))
    parser = parser_for(verb, load_verb(verb))
    operands, waiting = split(parser, rest)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            if not operands and waiting is None and not current.startswith("-"):
                return Offer((choice.dest, choice.help or "") for choice in action._choices_actions)
            globals_of = parser
            if operands:
                parser = action.choices.get(operands[0], parser)
                verb = f"{verb} {operands[0]}"
                operands, waiting = split(parser, _without(rest, operands[0]), also=globals_of)
    place.verb, place.operands = verb, operands
    if waiting is not None:
        return place.value(waiting)
    name, equals, _ = current.partition("=")
    if current.startswith("-"):
        option = parser._option_string_actions.get(name)
        if not equals or option is None:
            return Offer(_options(parser))
        values = place.value(option)
        return Offer(((f"{name}={word}", text) for word, text in values.words), files=values.files)
    return place.operand(parser, current)


def _without(words: list[str], word: str) -> list[str]:
    """The words without the first one of that name: the sub-verb."""
    at = words.index(word)
    return words[:at] + words[at + 1 :]


def split(parser: Parser, words: list[str], also: Parser | None = None) -> tuple[list[str], argparse.Action | None]:
    """The operands, and the option at the end that waits for its value. `also`: another parser's options count too."""
    operands: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "-" or not word.startswith("-"):
            operands.append(word)
            continue
        for known in (parser, also):
            if known is not None and known.wants_next(word) and next(rest, None) is None:
                name = word if word.startswith("--") else f"-{word[-1]}"
                return operands, known._option_string_actions[name]
            if known is not None and known.wants_next(word):
                break
    return operands, None


def _options(parser: Parser) -> list[tuple[str, str]]:
    """The long name of each option, the short one where it has no other."""
    shown = [action for action in parser._actions if action.option_strings and action.help != argparse.SUPPRESS]
    return [(action.option_strings[-1], (action.help or "").replace("%%", "%")) for action in shown]


class Place:
    """A place on a command line: what was typed before it, and what the host has for it."""

    def __init__(self, before: list[str]) -> None:
        self._before = before
        self.verb = ""
        self.operands: list[str] = []
        paths = Paths.from_env(self._typed(*RUN_DIR_OPTIONS), self._typed(*DATA_DIR_OPTIONS))
        self._host = Host(paths, self._typed("-n", "--namespace") or "default")

    def _typed(self, *names: str) -> str | None:
        """The value of an option among the words before."""
        for index, word in enumerate(self._before):
            name, equals, value = word.partition("=")
            if name in names:
                return value if equals else next(iter(self._before[index + 1 :]), None)
        return None

    def global_value(self, name: str) -> Offer:
        if name in ("-n", "--namespace"):
            return Offer.of(self._host.names(_kind("Namespace")))
        return Offer(files=name != "--request-timeout")

    def value(self, option: argparse.Action) -> Offer:
        """What may follow an option."""
        name = option.option_strings[-1]
        if option.choices:
            return Offer.of(map(str, option.choices))
        if name in VALUE_OPTIONS:
            return self.global_value(name)
        if name in ("--container", "--target"):
            pods = [word for word in self.operands if word not in ("pod", "pods", "po")]
            return Offer.of(self._host.containers(pods[0].partition(":")[0]) if pods else ())
        if name == "--image":
            return Offer.of(self._host.images())
        if name == "--for" and self.verb == "events":
            return Offer.of(f"pod/{pod}" for pod in self._host.names(POD))
        if name == "--field-selector":
            kind = kind_of_word(self.operands[0]) if self.operands else POD
            return Offer.of(f"{field}=" for field in (kind or POD).fields)
        if name == "--output":
            shown = option.help or ""
            found = [word for word in _FORMATS if word.rstrip("=") in shown.replace("=", " ").replace(",", " ").split()]
            return Offer.of(found)
        if name in _VALUES:
            return Offer.of(_VALUES[name])
        return Offer(files=_is_path(option))

    def operand(self, parser: Parser, current: str) -> Offer:
        """What may stand where no option stands."""
        if (offer := _OPERANDS.get(self.verb)) is not None:
            return offer(self, current)
        actions = [action for action in parser._actions if not action.option_strings]
        if not actions:
            return Offer()
        action = actions[min(len(self.operands), len(actions) - 1)]
        if action.choices and len(self.operands) < len(actions):
            return Offer.of(map(str, action.choices))
        return Offer(files=_is_path(action))

    def resources(self, current: str) -> Offer:
        """Kinds, then names of that kind; `kind/NAME` each."""
        kind, slash, _ = current.partition("/")
        if slash:
            found = kind_of_word(kind)
            return Offer.of(f"{kind}/{name}" for name in (self._host.names(found) if found else ()))
        if self.operands and "/" not in self.operands[0]:
            return self.names(kind_of_word(self.operands[0].rpartition(",")[2]))
        return Offer((kind.plural, kind.name) for kind in ALL_KINDS)

    def names(self, kind: Kind | None) -> Offer:
        """Those that have not been typed yet."""
        return Offer.of(name for name in (self._host.names(kind) if kind else ()) if name not in self.operands)

    def pods(self, current: str) -> Offer:
        prefix = "pod/" if current.startswith("pod/") else ""
        return Offer.of(f"{prefix}{name}" for name in self._host.names(POD) if name not in self.operands)

    def pod(self, current: str) -> Offer:
        """A single pod, then nothing."""
        return Offer() if self.operands else self.pods(current)

    def pod_then_container(self, current: str) -> Offer:
        if len(self.operands) == 1:
            return Offer.of(self._host.containers(self.operands[0]))
        return self.pod(current)

    def copied(self, current: str) -> Offer:
        if ":" in current or current.startswith((".", "/")):
            return Offer(files=":" not in current)
        return Offer(((f"{name}:", "") for name in self._host.names(POD)), files=True)

    def waited_for(self, current: str) -> Offer:
        if self.operands and "/" not in self.operands[0]:
            return self.resources(current)
        return Offer.of(f"pod/{name}" for name in self._host.names(POD) if f"pod/{name}" not in self.operands)

    def measured(self, current: str) -> Offer:
        return self.names(POD) if self.operands[:1] in (["pod"], ["pods"], ["po"]) else Offer.of(("pod", "node"))

    def image_names(self, current: str) -> Offer:
        return Offer.of(name for name in self._host.images() if name not in self.operands)

    def fields(self, current: str) -> Offer:
        from minipod.cli.fields import fields_at

        above, dot, _ = current.rpartition(".")
        if not dot:
            return Offer(((kind.singular, kind.name) for kind in ALL_KINDS), more=True)
        return Offer(((f"{above}.{name}", text) for name, text in fields_at(above)), more=True)


def _kind(name: str) -> Kind:
    return next(kind for kind in ALL_KINDS if kind.name == name)


def _is_path(action: argparse.Action) -> bool:
    return any(word in str(action.metavar) for word in _PATHS)


_OPERANDS: dict[str, Callable[[Place, str], Offer]] = {
    **dict.fromkeys(("get", "describe", "delete", "edit", "label", "annotate", "patch", "resize"), Place.resources),
    **dict.fromkeys(("image rm", "image inspect", "image save", "image tag", "image pull"), Place.image_names),
    "attach": Place.pod,
    "cp": Place.copied,
    "debug": Place.pod,
    "exec": Place.pod,
    "explain": Place.fields,
    "inspect": Place.pods,
    "logs": Place.pod_then_container,
    "top": Place.measured,
    "wait": Place.waited_for,
}
