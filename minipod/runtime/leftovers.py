"""What a killed machine left behind (layer 3): found by name, each with its removal. For `gc`; decides nothing."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from minipod.kernel.mount import mounts_below, umount_if_mounted
from minipod.kernel.remove import remove_tree
from minipod.paths import Paths
from minipod.plan.configs import HostFacts
from minipod.runtime import cgroup
from minipod.runtime.network import Network


class Owners(NamedTuple):
    """What sandboxes and containers there are, those included that are being made."""

    sandboxes: frozenset[str]  # ids
    containers: frozenset[str]
    places: frozenset[str]  # network namespaces and cgroups, by path


class Leftover:
    """One thing on the host. `owner`: by what a sandbox or a container owns it; empty for none."""

    def __init__(self, what: str, remove: Callable[[], object], owner: str = "") -> None:
        self._what = what
        self._remove = remove
        self.owner = owner

    def describe(self) -> str:
        return self._what

    def undo(self) -> None:
        """Take it away. Raises OSError or a MinipodError."""
        self._remove()


def candidates(paths: Paths, facts: HostFacts) -> list[Leftover]:
    """Everything of this instance on the host, but for its network. Whose it is has to be asked afterwards: whatever
    is made from now on is not in this list, and what is in it was known before it was made.
    """
    found = [*_folders(f"{paths.root}/sandboxes"), *_folders(f"{paths.root}/containers"), *_exit_records(paths)]
    found += _namespaces(paths)
    found += [
        Leftover(f"cgroup {path}", functools.partial(_remove_cgroup, path, paths, facts), path)
        for path in cgroup.find_leftovers(paths, facts)
    ]
    return found


def of_network(network: Network, sandbox_ids: Callable[[], Collection[str]]) -> list[Leftover]:
    """What of the network no sandbox owns. `sandbox_ids` is also called when it is removed."""
    lines = network.leftovers(sandbox_ids)
    if not lines:
        return []
    return [Leftover("network: " + ", ".join(lines), functools.partial(network.remove_leftovers, sandbox_ids))]


def unowned(found: Iterable[Leftover], owners: Owners) -> list[Leftover]:
    everything = owners.sandboxes | owners.containers | owners.places
    return [leftover for leftover in found if leftover.owner not in everything]


def _folders(folder: str) -> list[Leftover]:
    """With what is mounted in them."""
    return [
        Leftover(f"folder {folder}/{name}", functools.partial(_remove_folder, f"{folder}/{name}"), name)
        for name in _entries(folder)
    ]


def _exit_records(paths: Paths) -> list[Leftover]:
    """How something ended that nobody will ask for any more. `<sandbox>.pause` is a pod's pause process."""
    return [
        Leftover(
            f"exit record {name[:12]}",
            functools.partial(os.unlink, f"{paths.root}/exits/{name}"),
            name.partition(".")[0],
        )
        for name in _entries(f"{paths.root}/exits")
    ]


def _remove_folder(path: str) -> None:
    for mounted in mounts_below(path):
        umount_if_mounted(mounted)
    remove_tree(path)


def _namespaces(paths: Paths) -> list[Leftover]:
    """The default instance's carry a pod's bare name, and nothing tells them from others': those are left alone."""
    if paths.is_default:
        return []
    found = [f"/run/netns/{name}" for name in _entries("/run/netns") if name.startswith(f"{paths.instance}-")]
    return [Leftover(f"network namespace {path}", functools.partial(_remove_namespace, path), path) for path in found]


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
