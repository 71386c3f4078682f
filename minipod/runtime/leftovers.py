"""Finds what a crash left on the host (layer 3), by name, each with its removal. For `gc`; decides nothing."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from minipod.kernel.mount import mounts_below, reunite, umount_if_mounted
from minipod.kernel.remove import remove_tree
from minipod.paths import Paths
from minipod.plan.configs import HostFacts
from minipod.runtime import cgroup
from minipod.runtime.network import Network


class Owners(NamedTuple):
    """The existing sandboxes and containers, including those that are being created."""

    sandboxes: frozenset[str]  # ids
    containers: frozenset[str]
    places: frozenset[str]  # network namespaces and cgroups, by path


class Leftover:
    """One resource on the host. `owner`: the id or path by which a sandbox or container owns it; `""` for none."""

    def __init__(self, what: str, remove: Callable[[], object], owner: str = "") -> None:
        self._what = what
        self._remove = remove
        self.owner = owner

    def describe(self) -> str:
        return self._what

    def undo(self) -> None:
        """Remove it. Raises OSError or a MinipodError."""
        self._remove()


def candidates(paths: Paths, facts: HostFacts) -> list[Leftover]:
    """All resources of this instance on the host except its network. The caller compares them with the owners
    afterwards: an owner is known before its resources are created, so none in this list is missed.
    """
    found = [*_folders(f"{paths.root}/sandboxes"), *_folders(f"{paths.root}/containers"), *_exit_records(paths)]
    found += _namespaces(paths)
    found += [
        Leftover(f"cgroup {path}", functools.partial(_remove_cgroup, path, paths, facts), path)
        for path in cgroup.find_leftovers(paths, facts)
    ]
    return found


def of_network(network: Network, sandbox_ids: Callable[[], Collection[str]]) -> list[Leftover]:
    """Parts of the network that no sandbox owns. `sandbox_ids` is called again when they are removed."""
    lines = network.leftovers(sandbox_ids)
    if not lines:
        return []
    return [Leftover("network: " + ", ".join(lines), functools.partial(network.remove_leftovers, sandbox_ids))]


def unowned(found: Iterable[Leftover], owners: Owners) -> list[Leftover]:
    everything = owners.sandboxes | owners.containers | owners.places
    return [leftover for leftover in found if leftover.owner not in everything]


def _folders(folder: str) -> list[Leftover]:
    """The entries of a directory; their removal unmounts what is mounted in them."""
    return [
        Leftover(f"folder {folder}/{name}", functools.partial(_remove_folder, f"{folder}/{name}"), name)
        for name in _entries(folder)
    ]


def _exit_records(paths: Paths) -> list[Leftover]:
    """Records of exits. The owner of `<sandbox>.pause`, a pod's pause process, is the sandbox."""
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
    reunite(os.path.dirname(path))


def _namespaces(paths: Paths) -> list[Leftover]:
    """Empty for the default instance: its namespaces are named as the pods, as those of other programs may be."""
    if paths.is_default:
        return []
    found = [f"/run/netns/{name}" for name in _entries("/run/netns") if name.startswith(f"{paths.instance}-")]
    return [Leftover(f"network namespace {path}", functools.partial(_remove_namespace, path), path) for path in found]


def _remove_namespace(path: str) -> None:
    umount_if_mounted(path)
    os.unlink(path)


def _remove_cgroup(path: str, paths: Paths, facts: HostFacts) -> None:
    """Removes the group, and those above it where it was the last."""
    cgroup.remove(path, facts)
    cgroup.remove_instance(paths, facts)


def _entries(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
