"""Finds circles in a graph of imports. Pure; knows neither files nor minipod."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Graph = Mapping[str, Iterable[str]]


def circles(graph: Graph) -> list[list[str]]:
    """Circles, each as a path that begins and ends with the same node: the shortest ones through the nodes that are in
    any. A node that a circle before it has named is not asked again. Targets that are no keys count for nothing."""
    left = _without_ends(graph)
    found: list[list[str]] = []
    named: set[str] = set()
    for node in sorted(left):
        path = [] if node in named else _way_back(left, node)
        if path:
            found.append(path)
            named.update(path)
    return found


def _without_ends(graph: Graph) -> dict[str, list[str]]:
    """The graph without what leads nowhere or is reached from nowhere: such a node is in no circle."""
    left = {node: sorted(set(targets) & graph.keys()) for node, targets in graph.items()}
    while True:
        reached = {target for targets in left.values() for target in targets}
        kept = {node for node, targets in left.items() if targets and node in reached}
        if len(kept) == len(left):
            return left
        left = {node: [target for target in left[node] if target in kept] for node in kept}


def _way_back(graph: Mapping[str, list[str]], start: str) -> list[str]:
    """The shortest path from a node to itself; empty where there is none."""
    came_from: dict[str, str] = {}
    layer = [start]
    while layer:
        following = []
        for node in layer:
            for target in graph[node]:
                if target == start:
                    return [start, *_trail(came_from, start, node), start]
                if target not in came_from:
                    came_from[target] = node
                    following.append(target)
        layer = following
    return []


def _trail(came_from: Mapping[str, str], start: str, end: str) -> list[str]:
    trail = []
    while end != start:
        trail.append(end)
        end = came_from[end]
    return trail[::-1]
