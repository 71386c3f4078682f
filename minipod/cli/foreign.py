"""kubectl's options that have nothing to do here, and those that are refused (layer 6, pure): ONE table.

docs/cli.md prints it; `options.parse` looks here for an option that a verb does not have itself.
"""

from __future__ import annotations

from minipod.cli.values import TYPE_CHECKING
from minipod.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection


class Foreign:
    """Options of kubectl. `takes`: whether a value follows. `verbs`: those that have it in kubectl; empty: all.

    `why`: of an accepted option why there is nothing to do, of a refused one what to do instead.
    """

    __slots__ = ("accepted", "names", "takes", "verbs", "why")

    def __init__(self, names: str, why: str, verbs: str = "", *, accepted: bool = True, takes: bool = True) -> None:
        self.names = tuple(names.split())
        self.verbs = tuple(verbs.split())
        self.accepted = accepted
        self.takes = takes
        self.why = why


_CHANGES = "label annotate patch apply create replace edit set rollout run diff"
_TEMPLATES = "get label annotate patch wait set rollout events api-resources apply create replace edit run diff"
_ONE_AGENT = "there is one agent on one host: nothing to choose from"
_SOCKET = "the agent is reached by a socket on this host that only root may use: leave it out"

TABLE = (
    Foreign("--context --kubeconfig --cluster --user", _ONE_AGENT),
    Foreign("--cache-dir --log-flush-frequency", "kubectl's own cache and log; there is none"),
    Foreign("--disable-compression", "a unix socket compresses nothing", takes=False),
    Foreign("--match-server-version", "an agent of another version is replaced by one of this version", takes=False),
    Foreign("--field-manager", "no managers of fields are recorded", _CHANGES),
    Foreign("--show-managed-fields", "objects have no managedFields", _TEMPLATES, takes=False),
    Foreign("--chunk-size", "a list is streamed, whatever its size", "get describe events"),
    Foreign("--server-print", "the agent always makes the table", "get", takes=False),
    Foreign("--insecure-skip-tls-verify-backend", "logs are files on this host", "logs", takes=False),
    Foreign("--pod-running-timeout", "a pod that is named is not waited for, as in kubectl", "exec attach"),
    Foreign("--retries", "no network is between, so no copy ends early", "cp"),
    Foreign("--cached", "no server is asked: the kinds are minipod's own", "api-resources", takes=False),
    Foreign("--concurrency", "objects are compared one after the other, in the order of the manifest", "diff"),
    Foreign("-s --server", _SOCKET, accepted=False),
    Foreign("--token --username --password --as --as-group --as-uid --as-user-extra", _SOCKET, accepted=False),
    Foreign("--certificate-authority --client-certificate --client-key --tls-server-name", _SOCKET, accepted=False),
    Foreign("--insecure-skip-tls-verify", _SOCKET, accepted=False, takes=False),
    Foreign("--kuberc", "minipod reads no preferences: write the options out", accepted=False),
    Foreign("--raw", "minipod has no URLs: use get -o json, delete KIND NAME", "get delete", accepted=False),
    Foreign("--prune-allowlist", "minipod diff compares what the manifests hold", "diff", accepted=False),
    Foreign("--prune --server-side --force-conflicts", "minipod diff compares what the manifests hold, as apply would "
            "change it", "diff", accepted=False, takes=False),
    Foreign("--resolve", "the agent resolves sources when a container starts: minipod exec POD -- env shows the values",
            "set", accepted=False, takes=False),
)  # fmt: skip


def find(verb: str, name: str) -> Foreign | None:
    return next((row for row in TABLE if name in row.names and (not row.verbs or verb in row.verbs)), None)


def without(verb: str, words: list[str], known: Collection[str]) -> list[str]:
    """The words that are minipod's. `known`: the verb's own options. Raises UsageError for a refused one."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if level := _log_level(name, value if equals else ""):
            kept += ["-v"] if level >= SHOWS_REQUESTS else []
            continue
        row = find(verb, name) if name.startswith("-") and name not in known else None
        if row is None:
            kept.append(word)
            continue
        if row.takes and not equals:
            value = next(rest, "")
            if not value:
                raise UsageError(f"argument {name}: expected one argument; see minipod {verb} --help")
        if not row.takes and equals and value not in ("true", "false", "1", "0"):
            raise UsageError(f'invalid argument "{value}" for "{name}": true or false')
        if not row.accepted:
            raise UsageError(f"{name}: {row.why}")
    return kept


SHOWS_REQUESTS = 6
"""kubectl shows its requests from -v=6 on."""


def _log_level(name: str, value: str) -> int:
    """N of -v=N, --v=N and -vN; 0 for all else (and -v=0 is found as 0 by `is_log_level`)."""
    if name in ("-v", "--v") and value.isdecimal():
        return int(value) or -1
    if name.startswith("-v") and name[2:].isdecimal():
        return int(name[2:]) or -1
    return 0


def rows(accepted: bool) -> list[tuple[str, str, str]]:
    """(options, verbs, why) for docs/cli.md."""
    found = [row for row in TABLE if row.accepted == accepted]
    return [(", ".join(row.names), ", ".join(row.verbs) or "every verb", row.why) for row in found]
