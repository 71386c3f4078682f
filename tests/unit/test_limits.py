"""What limit an error means, with present values and remedy; which limits a number of pods would meet (unit)."""

from __future__ import annotations

import errno
import os
import resource

import pytest

from minipod.cli import check_host
from minipod.config import Config
from minipod.kernel import descriptors, limit_values, limits
from minipod.kernel.error_text import text_of
from minipod.kernel.limits import LIMITS, Value, explanation, rooms
from minipod.plan.operation import Operation
from minipod.plan.volumes import empty_dirs as _with_empty_dirs  # noqa: F401
from minipod.runtime import room
from minipod.runtime import runtime as _with_all_operations  # noqa: F401

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
        (errno.EFBIG, "", "file size", "no more bytes in one file: 100 of 100 (ulimit -f): raise it"),
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
    unknown = Value(None, 7)
    text = said(errno.ENOSPC, "CreateNamespaces", net_namespaces=unknown, uts_namespaces=unknown, mounts=FREE)
    assert text == (
        "no more network namespaces: at most 7 (user.max_net_namespaces): raise it, or delete pods; or "
        "no more UTS namespaces: at most 7 (user.max_uts_namespaces): raise it, or delete pods"
    )


def test_other_errors_mean_no_limit() -> None:
    for code, operation in ((errno.ENOENT, "MountRoot"), (errno.EAGAIN, "MountRoot"), (errno.ENOMEM, "CreateCgroup")):
        assert said(code, operation) == ""


def test_what_is_known_not_to_be_reached_is_not_the_reason() -> None:
    assert said(errno.ENOSPC, "", "/x", blocks=FREE, inodes=FREE) == said(errno.EMFILE, "", descriptors=FREE) == ""
    assert said(errno.ENOSPC, "") == "", "on which file system"


def test_there_is_room_for_as_many_pods_as_the_lowest_limit_by_what_each_takes() -> None:
    values = {"descriptors": Value(24, 1024), "mounts": Value(100, 2100), "pids": Value(500, 32768)}
    found = rooms(lambda name: values.get(name, Value()))
    assert [(room.pods, room.name) for room in found] == [(250, "descriptors"), (500, "mounts"), (32268, "pids")]
    assert found[0].describe() == "room for 250 more pods: at most 1024 descriptors in one process (ulimit -n)"


def test_a_host_without_room_for_a_thousand_pods_names_every_limit_that_they_meet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {"net namespaces": Value(None, 300), "connections": Value(90, 100), "neighbours": Value(1, 1024)}
    monkeypatch.setattr(room, "read", lambda name: values.get(name, Value()))
    monkeypatch.setattr(room, "may_raise_limits", lambda: True)
    lines = room.shortfalls(Config(ipv4_subnet="10.9.0.0/24"))
    assert lines[0] == (
        "room for 244 more pods: at most 256 addresses for pods (ipv4_subnet in the configuration): for 1000: "
        "set a larger one"
    )
    assert lines[1] == (
        "room for 300 more pods: at most 300 network namespaces (user.max_net_namespaces): for 1000: raise it, or "
        "delete pods"
    )
    assert lines[2:] == ["90 of 100 tracked connections (net.netfilter.nf_conntrack_max): raise it"]
    values.clear()
    assert room.shortfalls(Config()) == []
    monkeypatch.setattr(room, "may_raise_limits", lambda: False)
    monkeypatch.setattr(descriptors, "hard_limit", lambda: 1024)
    [line] = room.shortfalls(Config())
    assert line.startswith("room for 224 more pods: at most 1024 descriptors in one process (ulimit -n): for 1000: ")


def test_check_shows_what_a_thousand_pods_would_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        room, "shortfalls", lambda config: ["room for 9 more pods: at most 9 keys (k): for 1000: raise it"]
    )
    [finding] = check_host.room()
    assert (finding.name, finding.ok, finding.needed) == ("room for 1000 pods", False, False)
    assert (finding.detail, finding.remedy) == ("room for 9 more pods: at most 9 keys (k)", "raise it")
    monkeypatch.setattr(room, "shortfalls", lambda config: [])
    [finding] = check_host.room()
    assert finding.ok
    assert finding.detail.startswith("room for ")


def test_every_meaning_is_of_a_limit_and_every_limit_is_read() -> None:
    assert {name for _, _, names in limits._MEANINGS for name in names} <= LIMITS.keys()
    for name in LIMITS:
        value = limit_values.read(name, "/proc/no/such/place")
        assert value.used is None or value.used >= 0
    for name in ("descriptors", "files", "threads", "pids", "mounts", "memory", "net namespaces", "blocks"):
        assert (limit_values.read(name).most or 0) > 0, name


def test_every_operation_that_a_limit_is_met_in_is_one_that_there_is() -> None:
    known, found = [Operation], set()
    while known:
        kind = known.pop()
        known += kind.__subclasses__()
        found.add(kind.__name__)
    requests = {"spawn", "launch", "thread"}
    calls = {"clone3", "unshare", "keyctl", "inotify_init1", "inotify_add_watch"}
    calls |= {"move_mount", "mount_setattr", "open_tree"}
    named = {operation for _, operations, _ in limits._MEANINGS for operation in operations}
    assert named - found - requests - calls == set()


def test_any_error_is_one_line_with_its_object() -> None:
    assert text_of(OSError(errno.ENOENT, "No such file or directory", "/Some/File")) == (
        "/Some/File: no such file or directory"
    )
    assert text_of(OSError(errno.EPERM, "mount /A on /B: Operation not permitted")) == (
        "mount /A on /B: operation not permitted"
    )
    assert text_of(KeyError()) == "KeyError"
    assert text_of(ValueError("two\nlines")) == "two lines"


def test_an_error_of_this_process_descriptors_names_their_number() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(OSError, match="Too many open files") as failure:
            os.dup(0)
        assert f" of {free} (ulimit -n): raise it, or delete pods" in text_of(failure.value)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
