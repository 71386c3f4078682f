"""What limit an error means, with present values and remedy; which limits a number of pods would meet (unit)."""

from __future__ import annotations

import errno

import pytest

from minipod.kernel import limit_values, limits
from minipod.kernel.limits import LIMITS, Value, explanation, shortfalls

FULL, FREE = Value(100, 100), Value(1, 100)


def said(code: int, operation: str, path: str = "", **values: Value) -> str:
    known = {name.replace("_", " "): value for name, value in values.items()}
    return explanation(code, operation, lambda name: known.get(name, Value()), path)


@pytest.mark.parametrize(
    ("code", "operation", "name", "words"),
    [
        (errno.EMFILE, "MountRoot", "descriptors", "no more descriptors in one process: 100 of 100 (ulimit -n)"),
        (errno.EMFILE, "inotify_init1", "inotify instances", "(fs.inotify.max_user_instances): raise it"),
        (errno.ENFILE, "", "files", "no more open files on this host: 100 of 100 (fs.file-max)"),
        (errno.EAGAIN, "spawn", "pids", "no more process numbers: 100 of 100 (kernel.pid_max)"),
        (errno.EAGAIN, "launch", "threads", "no more processes and threads on this host: 100 of 100"),
        (errno.EAGAIN, "thread", "group pids", "in the agent's own cgroup: 100 of 100 (pids.max): raise TasksMax="),
        (errno.ENOSPC, "CreateNamespaces", "net namespaces", "no more network namespaces: 100 of 100"),
        (
            errno.ENOSPC,
            "CreateNamespaces",
            "mounts",
            "mounts in one mount namespace: 100 of 100 (fs.mount-max)",
        ),
        (errno.ENOSPC, "spawn", "pid namespaces", "no more PID namespaces: 100 of 100 (user.max_pid_namespaces)"),
        (errno.ENOSPC, "spawn", "user namespaces", "no more user namespaces: 100 of 100 (user.max_user_namespaces)"),
        (errno.ENOSPC, "BindMount", "mounts", "mounts in one mount namespace: 100 of 100 (fs.mount-max)"),
        (errno.ENOSPC, "inotify_add_watch", "inotify watches", "100 of 100 (fs.inotify.max_user_watches): raise it"),
        (errno.ENOSPC, "CreateCgroup", "groups", "no more cgroups: 100 of 100"),
        (errno.EDQUOT, "NewKeyring", "keys", "no more keyrings of root: 100 of 100 (kernel.keys.root_maxkeys)"),
        (errno.ENOBUFS, "CreateVeth", "neighbours", "100 of 100 (net.ipv4.neigh.default.gc_thresh3): raise it"),
        (errno.ENOSPC, "", "blocks", "no more space on the file system of /x: 100 of 100 KiB: free some"),
        (errno.EDQUOT, "", "inodes", "no more inodes on the file system of /x: 100 of 100: remove files"),
        (errno.ENOMEM, "", "memory", "no more memory: 100 of 100 KiB: free some, or delete pods"),
    ],
)
def test_an_error_names_the_limit_that_is_reached_its_value_and_the_remedy(
    code: int, operation: str, name: str, words: str
) -> None:
    others = {other.replace(" ", "_"): FREE for other in LIMITS}
    text = said(code, operation, "/x", **{**others, name.replace(" ", "_"): FULL})
    assert words in text
    assert "; or " not in text, "only the one that is reached"


def test_where_the_use_is_unknown_each_limit_that_it_may_be_is_named() -> None:
    text = said(errno.ENOSPC, "CreateNamespaces", net_namespaces=Value(None, 7), mounts=FREE)
    assert text == (
        "no more network namespaces: at most 7 (user.max_net_namespaces): raise it, or delete pods; or "
        "no more IPC namespaces: (user.max_ipc_namespaces): raise it, or delete pods; or "
        "no more UTS namespaces: (user.max_uts_namespaces): raise it, or delete pods"
    )


def test_other_errors_mean_no_limit() -> None:
    for code, operation in ((errno.ENOENT, "MountRoot"), (errno.EAGAIN, "MountRoot"), (errno.ENOMEM, "CreateCgroup")):
        assert said(code, operation) == ""


def test_what_is_known_not_to_be_reached_is_not_the_reason() -> None:
    assert said(errno.ENOSPC, "", "/x", blocks=FREE, inodes=FREE) == said(errno.EMFILE, "", descriptors=FREE) == ""
    assert said(errno.ENOSPC, "") == "", "on which file system"


def test_the_limits_that_a_thousand_pods_would_meet_are_found_by_what_each_takes() -> None:
    values = {"descriptors": Value(24, 1024), "mounts": Value(100, 2100), "pids": Value(500, 32768)}
    assert shortfalls(1000, lambda name: values.get(name, Value())) == [("descriptors", 250), ("mounts", 500)]
    assert shortfalls(250, lambda name: values.get(name, Value())) == []


def test_every_meaning_is_of_a_limit_and_every_limit_is_read() -> None:
    assert {name for _, _, names in limits._MEANINGS for name in names} <= LIMITS.keys()
    for name in LIMITS:
        value = limit_values.read(name, "/proc/no/such/place")
        assert value.used is None or value.used >= 0
    for name in ("descriptors", "files", "threads", "pids", "mounts", "memory", "net namespaces", "blocks"):
        assert (limit_values.read(name).most or 0) > 0, name
