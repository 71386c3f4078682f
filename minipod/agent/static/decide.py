"""Which static pods are to be created and ended (layer 5, pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from minipod.agent.static.directory import StaticFile
from minipod.api.static_pod import StaticPod


class Existing(NamedTuple):
    """A pod of this node. `file`: that of a static pod; empty for any other."""

    namespace: str
    name: str
    uid: str
    file: str = ""
    is_ending: bool = False


class Decision(NamedTuple):
    """`create`: now. `end`: uids. `problems`: by file, in words."""

    create: tuple[StaticPod, ...]
    end: tuple[str, ...]
    problems: dict[str, str]


def decide(files: Sequence[StaticFile], pods: Iterable[Existing]) -> Decision:
    """Of files with one name that of the pod that runs keeps it, else the first. The pod of a file that cannot be read
    at the moment keeps running. One whose file has changed ends; its successor is created by a later decision, when
    the name is free.
    """
    existing = {(pod.namespace, pod.name): pod for pod in pods}
    problems = {file.path: file.problem for file in files if file.problem}
    unread = {file.path for file in files if file.pod is None}
    wanted: dict[tuple[str, str], str] = {}
    create: list[StaticPod] = []
    end: list[str] = []
    of_running = {pod.file for pod in existing.values()}
    for file in sorted(files, key=lambda file: file.path not in of_running):
        if file.pod is None:
            continue
        metadata = file.pod.pod.metadata
        key = (metadata.namespace, metadata.name)
        if key in wanted:
            problems[file.path] = f'{file.path}: pod "{metadata.name}" is that of {wanted[key]} already: rename one'
            continue
        wanted[key] = file.path
        found = existing.get(key)
        if found is None:
            create.append(file.pod)
        elif not found.file:
            problems[file.path] = (
                f'{file.path}: a pod "{metadata.name}" exists that is of no file: minipod delete pod {metadata.name}'
                + (f" -n {metadata.namespace}" if metadata.namespace != "default" else "")
            )
        elif found.uid != metadata.uid and not found.is_ending:
            end.append(found.uid)
    for key, pod in existing.items():
        if pod.file and key not in wanted and pod.file not in unread and not pod.is_ending:
            end.append(pod.uid)
    return Decision(tuple(create), tuple(end), problems)
