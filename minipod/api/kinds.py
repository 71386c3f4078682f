"""The kinds of objects (layer 1, pure): one entry each, with everything that differs between them.

An entry names its rules as `module:name` below minipod.api, and they are imported when they are first asked for: the
command line imports this table on every call and needs names only. `tests/unit/test_kinds.py` resolves all of them.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take the name for typing's, which costs

if TYPE_CHECKING:
    from typing import Any

_FIELDS = ("metadata.name", "metadata.namespace")
_POD_FIELDS = (
    *_FIELDS,
    *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork"),
    *("status.phase", "status.podIP", "status.nominatedNodeName"),
)
_EVENT_FIELDS = (
    *_FIELDS,
    *("involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid"),
    *("involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath"),
    *("reason", "reportingComponent", "source", "type"),
)


class Kind:
    """One kind of v1.

    name: the object's `kind`. plural: as messages and requests have it. singular: as results have it
    (`configmap/settings`). short: what users write for it too. namespaced: whether its objects are in a namespace.
    fields: the field labels that a field selector may name (pkg/apis/core/v1/conversion.go).
    refused: why users create none of it; empty for a kind that they do. note: what it is kept for (docs/support.md).
    protected: whether something may use its objects, so that a deleted one stays until nothing does (the finalizers
    kubernetes.io/pvc-protection and pv-protection). holds_objects: whether objects of other kinds are in it, so that it
    is only deleted when it is empty.

    The rules are properties.
    """

    __slots__ = (
        *("fields", "holds_objects", "name", "namespaced", "note", "plural", "protected", "refused", "short"),
        *("singular", "_found", "_references"),
    )

    def __init__(
        self,
        name: str,
        plural: str,
        short: tuple[str, ...] = (),
        *,
        create: str,
        update: str,
        table: str,
        defaults: str = "",
        namespaced: bool = True,
        fields: tuple[str, ...] = _FIELDS,
        refused: str = "",
        note: str = "",
        protected: bool = False,
        holds_objects: bool = False,
    ) -> None:
        self.name = name
        self.plural = plural
        self.short = short
        self.singular = name.lower()
        self.namespaced = namespaced
        self.fields = fields
        self.refused = refused
        self.note = note
        self.protected = protected
        self.holds_objects = holds_objects
        self._references = {
            "struct": f"types:{name}",
            "defaults": defaults,
            "on_create": f"validation.{create}",
            "on_update": f"validation.{update}",
            "table": table,
        }
        self._found: dict[str, object] = {}

    @property
    def struct(self) -> type[Any]:
        """The class of its objects, of api.types."""
        struct: type[Any] = self._rule("struct")
        return struct

    @property
    def defaults(self) -> Any:
        """`(object, now: str | None) -> object`, or None: nothing is filled in."""
        return self._rule("defaults")

    @property
    def on_create(self) -> Any:
        """`(check, object) -> None`: what is wrong with it is added to the check."""
        return self._rule("on_create")

    @property
    def on_update(self) -> Any:
        """`(check, new, old) -> None`."""
        return self._rule("on_update")

    @property
    def table(self) -> Any:
        """Its columns, an object_columns.Table."""
        return self._rule("table")

    def _rule(self, name: str) -> Any:
        if name not in self._found:
            self._found[name] = _imported(self._references[name])
        return self._found[name]

    def place(self, namespace: str) -> str:
        """The namespace that an object of the kind is in; objects of the whole host have none."""
        return (namespace or "default") if self.namespaced else ""

    def __repr__(self) -> str:
        return f"Kind({self.name})"


def _imported(reference: str) -> object:
    if not reference:
        return None
    from importlib import import_module

    module, _, name = reference.partition(":")
    return getattr(import_module(f"minipod.api.{module}"), name)


NAMESPACE = Kind(
    "Namespace",
    "namespaces",
    ("ns",),
    namespaced=False,
    fields=("metadata.name", "status.phase"),
    note="need not be created: metadata.namespace or -n is enough",
    holds_objects=True,
    defaults="defaults:namespace",
    create="objects:namespace",
    update="objects:namespace_update",
    table="object_columns:NAMESPACES",
)
PERSISTENT_VOLUME = Kind(
    "PersistentVolume",
    "persistentvolumes",
    ("pv",),
    namespaced=False,
    fields=("metadata.name",),
    note="hostPath, local and nfs; the classes local and local-retain make their own",
    protected=True,
    defaults="defaults:persistent_volume",
    create="persistent_volumes:persistent_volume",
    update="persistent_volumes:persistent_volume_update",
    table="object_columns:PERSISTENT_VOLUMES",
)
PERSISTENT_VOLUME_CLAIM = Kind(
    "PersistentVolumeClaim",
    "persistentvolumeclaims",
    ("pvc",),
    note="bound to a volume that fits, or to a new directory of class local (the default)",
    protected=True,
    defaults="defaults:persistent_volume_claim",
    create="objects:persistent_volume_claim",
    update="objects:persistent_volume_claim_update",
    table="object_columns:PERSISTENT_VOLUME_CLAIMS",
)
SECRET = Kind(
    "Secret",
    "secrets",
    fields=(*_FIELDS, "type"),
    note="for volumes and variables; files in memory, values never shown by describe",
    defaults="defaults:secret",
    create="objects:secret",
    update="objects:secret_update",
    table="object_columns:SECRETS",
)
CONFIG_MAP = Kind(
    "ConfigMap",
    "configmaps",
    ("cm",),
    note="for volumes and variables; changes reach mounted files",
    create="objects:config_map",
    update="objects:config_map_update",
    table="object_columns:CONFIG_MAPS",
)
POD = Kind(
    "Pod",
    "pods",
    ("po",),
    fields=_POD_FIELDS,
    defaults="defaults:pod",
    create="pods:pod_on_create",
    update="pod_updates:pod_update",
    table="object_columns:PODS",
)
EVENT = Kind(
    "Event",
    "events",
    ("ev",),
    fields=_EVENT_FIELDS,
    refused="events are written by minipod itself",
    create="objects:event",
    update="objects:event_update",
    table="object_columns:EVENTS",
)
NODE = Kind(
    "Node",
    "nodes",
    ("no",),
    namespaced=False,
    fields=("metadata.name", "spec.unschedulable"),
    refused="the node is this host",
    defaults="defaults:node",
    create="nodes:node",
    update="nodes:node_update",
    table="object_columns:NODES",
)

#: in the order in which the objects of a manifest are applied: pods last, what they need is there when they come
ALL_KINDS = (NAMESPACE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, SECRET, CONFIG_MAP, POD, EVENT, NODE)
#: those that users create
WRITABLE_KINDS = tuple(kind for kind in ALL_KINDS if not kind.refused)

_BY_WORD = {word: kind for kind in ALL_KINDS for word in (kind.singular, kind.plural, *kind.short)}
_BY_NAME = {kind.name: kind for kind in ALL_KINDS}


def kind_of_word(word: str) -> Kind | None:
    """`cm`, `configmap`, `ConfigMaps` …: what a user calls a kind; None for what is none of them."""
    return _BY_WORD.get(word.lower())


def kind_named(name: str) -> Kind:
    """By the `kind` of an object. KeyError for one that is not known here."""
    return _BY_NAME[name]


def kind_of(thing: object) -> Kind:
    """Of an object of api.types."""
    return _BY_NAME[type(thing).__name__]
