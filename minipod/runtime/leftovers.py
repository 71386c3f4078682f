"""What a killed machine left behind (layer 3): found by name, each with its removal. For `gc`; decides nothing."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable

from minipod.kernel.mount import mounts_below, umount_if_mounted
from minipod.kernel.remove import remove_tree
from minipod.paths import Paths
from minipod.plan.configs import HostFacts
from minipod.runtime import cgroup
from minipod.runtime.network import Network
from minipod.runtime.status import ContainerStatus, SandboxStatus


class Leftover:
    """One thing on the host that nobody owns."""

    def __init__(self, what: str, remove: Callable[[], object]) -> None:
        self._what = what
        self._remove = remove

    def describe(self) -> str:
        return self._what

    def undo(self) -> None:
        """Take it away. Raises OSError or a MinipodError."""
        self._remove()


def find_leftovers(
    paths: Paths,
    facts: HostFacts,
    network: Network,
    sandboxes: Iterable[SandboxStatus],
    containers: Iterable[ContainerStatus],
) -> list[Leftover]:
    """Everything of this instance on the host that none of these sandboxes and containers owns."""
    known = list(sandboxes)
    ids = {sandbox.id for sandbox in known}
    found = _folders(f"{paths.root}/sandboxes", ids)
    container_ids = {container.id for container in containers}
    found += _folders(f"{paths.root}/containers", container_ids)
    found += _exit_records(paths, container_ids | ids)
    found += _namespaces(paths, known)
    lines = network.leftovers(ids)
    if lines:
        found.append(Leftover("network: " + ", ".join(lines), functools.partial(network.remove_leftovers, ids)))
    owned = {sandbox.config.cgroup_parent for sandbox in known}
    for path in cgroup.find_leftovers(paths, facts):
        if path not in owned:
            found.append(Leftover(f"cgroup {path}", functools.partial(_remove_cgroup, path, paths, facts)))
    return found


def _folders(folder: str, known: set[str]) -> list[Leftover]:
    """With what is mounted in them."""
    return [
        Leftover(f"folder {folder}/{name}", functools.partial(_remove_folder, f"{folder}/{name}"))
        for name in _entries(folder)
        if name not in known
    ]


def _exit_records(paths: Paths, known: set[str]) -> list[Leftover]:
    """How something ended that nobody will ask for any more. `<sandbox>.pause` is a pod's pause process."""
    return [
        Leftover(f"exit record {name[:12]}", functools.partial(os.unlink, f"{paths.root}/exits/{name}"))
        for name in _entries(f"{paths.root}/exits")
        if name.partition(".")[0] not in known
    ]


def _remove_folder(path: str) -> None:
    for mounted in mounts_below(path):
        umount_if_mounted(mounted)
    remove_tree(path)


def _namespaces(paths: Paths, sandboxes: list[SandboxStatus]) -> list[Leftover]:
    """The default instance's carry a pod's bare name, and nothing tells them from others': those are left alone."""
    if paths.is_default:
        return []
    owned = {sandbox.netns_path for sandbox in sandboxes}
    found = [f"/run/netns/{name}" for name in _entries("/run/netns") if name.startswith(f"{paths.instance}-")]
    return [
        Leftover(f"network namespace {path}", functools.partial(_remove_namespace, path))
        for path in found
        if path not in owned
    ]


def _remove_namespace(path: str) -> None:
    umount_if_mounted(path)
    os.unlink(path)


def _remove_cgroup(path: str, paths: Paths, facts: HostFacts) -> None:
    """With the groups above it, where it was the last of them."""
    cgroup.remove(path, facts)
    cgroup.remove_instance(paths, facts)


def _entries(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
