"""What the words of get, describe, delete and edit mean (layer 6): kinds and names, in kubectl's forms."""

from __future__ import annotations

from minipod.api.kinds import ALL_KINDS, POD, Kind, kind_of_word
from minipod.errors import UsageError

#: the kinds of kubectl's category `all` that there are here
ALL = (POD,)


def resources(words: list[str], verb: str) -> list[tuple[Kind, list[str]]]:
    """`pods`, `all`, `cm NAME…`, `cm,secret`, `cm/NAME pod/NAME` as (kind, names); no names: all. Raises UsageError."""
    if not words:
        raise UsageError(f"{verb}: which pod? use for example: minipod {verb} pod NAME")
    if "/" in words[0]:
        return _named(words)
    names = words[1:]
    for name in names:
        if "/" in name:
            raise UsageError(f"there is no need to specify a resource type as a separate argument when passing {name}")
    kinds: list[Kind] = []
    for word in filter(None, words[0].split(",")):
        kinds += ALL if word.lower() == "all" else [known_kind(word)]
    return [(kind, names) for kind in dict.fromkeys(kinds)]


def names_kinds(words: list[str]) -> bool:
    """Whether several kinds are asked for, so that each object is shown with its own (MultipleTypesRequested)."""
    if words and words[0].lower() == "all":
        return True
    kinds = {word.partition("/")[0] for word in words} if words and "/" in words[0] else set(words[0].split(","))
    return len(kinds) > 1


def _named(words: list[str]) -> list[tuple[Kind, list[str]]]:
    found: dict[Kind, list[str]] = {}
    for word in words:
        kind, slash, name = word.partition("/")
        if not slash or not name:
            raise UsageError(f"there is no need to mix resource/name with plain names: {word}")
        found.setdefault(known_kind(kind), []).append(name)
    return list(found.items())


def known_kind(word: str) -> Kind:
    kind = kind_of_word(word)
    if kind is None:
        known = ", ".join(kind.plural for kind in ALL_KINDS)
        raise UsageError(f'minipod doesn\'t have a resource type "{word}"; it has {known}')
    return kind


def is_pods(found: list[tuple[Kind, list[str]]]) -> bool:
    return len(found) == 1 and found[0][0] is POD
