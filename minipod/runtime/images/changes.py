"""An image's settings from lines of a Dockerfile (layer 3), as `docker import --change` takes them. Pure.

CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR; they become image-spec's config.md.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

SHELL = ("/bin/sh", "-c")
TEXTS = {"STOPSIGNAL": "StopSignal", "USER": "User", "WORKDIR": "WorkingDir"}
COMMANDS = {"CMD": "Cmd", "ENTRYPOINT": "Entrypoint"}
SETS = {"EXPOSE": "ExposedPorts", "VOLUME": "Volumes"}
PAIRS = ("ENV", "LABEL")
KNOWN = sorted((*TEXTS, *COMMANDS, *SETS, *PAIRS))


def settings_of(lines: Iterable[str], env: Mapping[str, str]) -> dict[str, object]:
    """The `config` of an image's configuration. `env`: what is set without a line. Raises ValueError."""
    settings: dict[str, object] = {}
    variables, labels = dict(env), dict[str, str]()
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        word, rest = word.upper(), rest.strip()
        if word not in KNOWN:
            raise ValueError(f"{line!r}: must begin with one of {', '.join(KNOWN)}")
        if not rest:
            raise ValueError(f"{line!r}: nothing follows {word}")
        try:
            if word in TEXTS:
                settings[TEXTS[word]] = rest
            elif word in COMMANDS:
                settings[COMMANDS[word]] = list(_json_list(rest) or (*SHELL, rest))
            elif word in SETS:
                found = cast("dict[str, object]", settings.setdefault(SETS[word], {}))
                found |= {_port(item) if word == "EXPOSE" else item: {} for item in _json_list(rest) or rest.split()}
            else:
                (variables if word == "ENV" else labels).update(_pairs(rest))
        except ValueError as error:
            raise ValueError(f"{line!r}: {error}") from None
    settings["Env"] = [f"{name}={value}" for name, value in variables.items()]
    if labels:
        settings["Labels"] = labels
    return settings


def _json_list(text: str) -> Sequence[str] | None:
    """`["nginx", "-g"]`; None for what is no list: then it is a line for the shell, as in a Dockerfile."""
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ValueError("the list must hold strings only")
    return found


def _port(text: str) -> str:
    number, slash, protocol = text.partition("/")
    if not number.isdigit() or not 0 < int(number) < 65536 or (slash and protocol not in ("tcp", "udp", "sctp")):
        raise ValueError(f"{text!r} is no port: 80, 53/udp")
    return text if slash else f"{text}/tcp"


def _pairs(text: str) -> dict[str, str]:
    """`A=1 B="x y"`, or `A the rest`."""
    name, space, value = text.partition(" ")
    if space and "=" not in name:
        return {name: value.strip()}
    found = {}
    for word in shlex.split(text):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"{word!r} is not NAME=VALUE")
        found[name] = value
    return found
