"""The names of the kinds that are kept beside pods (layer 1, pure): what the command line takes, what messages say.

The command line imports this on every call, so it imports nothing that costs.
"""

from __future__ import annotations


class Kind:
    """One kind. `plural` is what messages and requests say, `singular` what results say: `configmap/settings`."""

    __slots__ = ("name", "namespaced", "plural", "short", "singular")

    def __init__(self, name: str, plural: str, short: tuple[str, ...] = (), namespaced: bool = True) -> None:
        self.name = name
        self.plural = plural
        self.short = short
        self.namespaced = namespaced
        self.singular = name.lower()


POD = Kind("Pod", "pods", ("po",))
OBJECT_KINDS = (
    Kind("ConfigMap", "configmaps", ("cm",)),
    Kind("Secret", "secrets"),
    Kind("PersistentVolumeClaim", "persistentvolumeclaims", ("pvc",)),
    Kind("PersistentVolume", "persistentvolumes", ("pv",), namespaced=False),
    Kind("Namespace", "namespaces", ("ns",), namespaced=False),
)
ALL_KINDS = (POD, *OBJECT_KINDS)

_BY_WORD = {word: kind for kind in ALL_KINDS for word in (kind.singular, kind.plural, *kind.short)}
_BY_NAME = {kind.name: kind for kind in ALL_KINDS}


def kind_of_word(word: str) -> Kind | None:
    """`cm`, `configmap`, `ConfigMaps` …: what a user calls a kind; None for what nobody knows."""
    return _BY_WORD.get(word.lower())


def kind_named(name: str) -> Kind:
    """By the `kind` of an object. KeyError for one that is not kept."""
    return _BY_NAME[name]
