"""Static pods: what a file stands for, what a directory holds, which pods follow from it (unit)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.agent.static import watch
from minipod.agent.static.decide import Existing, decide
from minipod.agent.static.directory import Directory, Found, StaticFile
from minipod.agent.static.pods import StaticPods, path_of
from minipod.api.kinds import POD
from minipod.api.static_pod import Host, StaticPod, file_of, static_pod
from minipod.config import STATIC_POD_PATH, Config
from minipod.errors import ConflictError, ManifestError, UsageError
from minipod.paths import Paths
from minipod.runtime.images.digest import sha256_hex
from tests.unit.agent_client import Agent, with_agent
from tests.unit.agent_fakes import FakeRuntime, make_node, make_pod, run_virtually, until

HOST = Host("node-1", "node-uid", sha256_hex)
SEEN = "2026-01-01T00:00:00Z"
TEXT = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers: [{name: main, image: busybox, command: [sleep, "1000"]}]
"""


def read(text: str, file: str = "/pods/web.yaml", host: Host = HOST) -> StaticPod:
    return static_pod(text, file, host, SEEN)


# -- a file


def test_a_static_pod_is_what_a_kubelet_and_the_api_server_make_of_it() -> None:
    pod = read(TEXT).pod
    metadata = pod.metadata
    assert (metadata.name, metadata.namespace, pod.spec.node_name) == ("web-node-1", "default", "node-1")
    assert len(metadata.uid) == 32
    assert metadata.annotations == {
        "kubernetes.io/config.source": "file",
        "kubernetes.io/config.seen": SEEN,
        "kubernetes.io/config.hash": metadata.uid,
        "kubernetes.io/config.mirror": metadata.uid,
        "minipod/config.file": "/pods/web.yaml",
    }
    [owner] = metadata.owner_references
    assert (owner.kind, owner.name, owner.uid, owner.controller) == ("Node", "node-1", "node-uid", True)
    assert [(one.operator, one.effect) for one in pod.spec.tolerations] == [("Exists", "NoExecute")]


def test_the_uid_follows_content_file_and_node_alone() -> None:
    uid = read(TEXT).pod.metadata.uid
    assert read(TEXT + "# a comment\n").pod.metadata.uid == uid
    others = (
        read(TEXT.replace("1000", "2000")),
        read(TEXT, "/pods/copy.yaml"),
        read(TEXT, host=HOST._replace(node_name="node-2")),
    )
    assert len({uid, *(other.pod.metadata.uid for other in others)}) == 4


REFUSED = {
    "": "holds one Pod, this one: nothing",
    TEXT + "---" + TEXT: "holds one Pod, this one: Pod, Pod",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}": "holds one Pod, this one: ConfigMap",
    "kind: Pod\nspec: [": "/pods/web.yaml:",
    "a: b": "/pods/web.yaml:",
    TEXT.replace("name: web", "generateName: web-"): "Required value",
    TEXT.replace("name: web", f"name: {'w' * 250}"): "metadata.name",
    TEXT.replace("containers:", "containerz:"): "containerz",
    TEXT + "  serviceAccountName: builder\n": "may not reference serviceaccounts",
    TEXT + "  imagePullSecrets: [{name: s}]\n": "may not reference secrets",
    TEXT.replace("command:", "envFrom: [{secretRef: {name: s}}], command:"): "may not reference secrets",
    TEXT.replace("command:", "envFrom: [{configMapRef: {name: s}}], command:"): "may not reference configmaps",
    TEXT.replace(
        "command:", "env: [{name: A, valueFrom: {configMapKeyRef: {name: s, key: k}}}], command:"
    ): "may not reference configmaps",
    TEXT + "  volumes: [{name: v, secret: {secretName: s}}]\n": "secrets (via secret volumes)",
    TEXT + "  volumes: [{name: v, configMap: {name: s}}]\n": "configmaps (via configmap volumes)",
    TEXT + "  volumes: [{name: v, persistentVolumeClaim: {claimName: s}}]\n": "persistentvolumeclaims",
    TEXT + "  volumes: [{name: v, projected: {sources: [{secret: {name: s}}]}}]\n": "secrets (via projected volumes)",
}


def test_what_is_no_static_pod_says_why() -> None:
    wrong = {}
    for text, words in REFUSED.items():
        try:
            wrong[text] = str(read(text).pod.metadata.name)
        except ManifestError as error:
            if words not in str(error) or "/pods/web.yaml" not in str(error) or "\n" in str(error):
                wrong[text] = str(error)
    assert not wrong


def test_the_downward_api_and_host_paths_are_no_references() -> None:
    volumes = """
  volumes:
  - {name: a, hostPath: {path: /srv}}
  - {name: b, projected: {sources: [{downwardAPI: {items: [{path: p, fieldRef: {fieldPath: metadata.name}}]}}]}}
"""
    assert read(TEXT + volumes).pod.metadata.name == "web-node-1"


# -- a directory


def looked(folder: Path, *unfinished: str) -> Found:
    return Directory(str(folder), read).look(unfinished)


def test_manifests_are_read_and_the_others_named(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.json", "c.yml", ".hidden.yaml", "web.yaml~", "#web.yaml#", "4913"):
        (tmp_path / name).write_text(TEXT)
    (tmp_path / "link.yaml").symlink_to(tmp_path / "b.yaml")
    found = looked(tmp_path)
    assert [os.path.basename(file.path) for file in found.files if file.pod] == [
        "a.json", "b.yaml", "c.yml", "link.yaml",
    ]  # fmt: skip
    assert [os.path.basename(path) for path in found.ignored] == ["#web.yaml#", "4913", "web.yaml~"]


def test_what_cannot_be_read_is_a_problem_of_that_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "gone.yaml").symlink_to("nowhere")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"\xff")
    (tmp_path / "large.yaml").write_bytes(b"#" * (1 << 20 | 1))
    words = ("no regular file", "no regular file", "a link to nowhere, which is not there", "larger than", "not UTF-8",
             "too many levels of symbolic links")  # fmt: skip
    files = looked(tmp_path).files
    assert [file.pod for file in files] == [None] * 6
    assert [word in file.problem for file, word in zip(files, words, strict=True)] == [True] * 6


def test_a_file_that_is_being_written_is_neither_read_nor_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(TEXT)
    (tmp_path / "link.yaml").symlink_to(file)
    assert looked(tmp_path, "web.yaml").has_unfinished
    assert not looked(tmp_path, "link.yaml").has_unfinished
    old = time.time() - 60
    os.utime(file, (old, old))
    assert not looked(tmp_path, "web.yaml").has_unfinished, "held open, and not written to"


def test_a_file_is_read_again_only_when_it_has_changed(tmp_path: Path) -> None:
    texts: list[str] = []

    def note(text: str, path: str) -> StaticPod:
        texts.append(text)
        return read(text, path)

    directory = Directory(str(tmp_path), note)
    assert directory.look() == Found()
    for text in ("{", "{", TEXT):
        (tmp_path / "web.yaml").write_text(text)
        directory.look()
        directory.look()
    assert texts == ["{", "{", TEXT]


def test_a_directory_that_is_not_there_is_empty_and_one_that_cannot_be_read_an_error(tmp_path: Path) -> None:
    assert looked(tmp_path / "none") == Found()
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        looked(tmp_path / "file")


# -- decisions


def of(path: str, name: str, uid: str) -> StaticFile:
    pod = make_pod(name)
    from msgspec.structs import replace

    return StaticFile(path, StaticPod(replace(pod, metadata=replace(pod.metadata, uid=uid)), ()))


A = of("/a", "x", "1")
RUNS = Existing("default", "x", "1", "/a")
DECISIONS: tuple[tuple[str, list[StaticFile], list[Existing], list[str], list[str], list[str]], ...] = (
    ("new", [A], [], ["1"], [], []),
    ("runs", [A], [RUNS], [], [], []),
    ("changed", [of("/a", "x", "2")], [RUNS], [], ["1"], []),
    ("changed, its predecessor ends", [of("/a", "x", "2")], [RUNS._replace(is_ending=True)], [], [], []),
    ("removed and put back", [A], [RUNS._replace(is_ending=True)], [], [], []),
    ("removed", [], [RUNS], [], ["1"], []),
    ("another name", [of("/a", "y", "2")], [RUNS], ["2"], ["1"], []),
    ("broken", [StaticFile("/a", None, "broken")], [RUNS], [], [], ["/a"]),
    ("being written", [StaticFile("/a", None)], [RUNS], [], [], []),
    ("two of a name", [A, of("/b", "x", "2")], [], ["1"], [], ["/b"]),
    ("a copy before the one that runs", [of("/0", "x", "2"), A], [RUNS], [], [], ["/0"]),
    ("the name is taken", [A], [RUNS._replace(file="", uid="9")], [], [], ["/a"]),
    ("other pods", [], [Existing("default", "y", "9")], [], [], []),
)  # fmt: skip


def test_which_pods_are_created_and_ended() -> None:
    wrong = {}
    for what, files, existing, create, end, problems in DECISIONS:
        made = decide(files, existing)
        found = ([one.pod.metadata.uid for one in made.create], list(made.end), list(made.problems))
        if found != (create, end, problems):
            wrong[what] = found
    assert not wrong


# -- pods


def with_static(folder: Path, test: Callable[[Node, Pods, StaticPods], Coroutine[Any, Any, None]]) -> None:
    """An agent's static pods, of `folder`/pods."""

    async def main() -> None:
        runtime = FakeRuntime()
        node = make_node(folder, runtime, Config(static_pod_path=f"{folder}/pods"))
        pods = Pods(node)
        runtime.on_exit = pods.container_exited
        static = StaticPods(node, pods)
        running = asyncio.get_running_loop().create_task(static.run())
        try:
            await test(node, pods, static)
        finally:
            running.cancel()
            await pods.close()

    (folder / "pods").mkdir(exist_ok=True)
    run_virtually(main)


def test_a_pod_lives_as_its_file_does(tmp_path: Path) -> None:
    file = tmp_path / "pods" / "web.yaml"

    async def test(node: Node, pods: Pods, static: StaticPods) -> None:
        file.write_text(TEXT)
        await until(lambda: node.runtime.is_running("main"))  # type: ignore[attr-defined]
        first = pods.find("default", "web-node-1").uid
        file.write_text(TEXT.replace("1000", "2000"))
        await until(lambda: (worker := pods.worker("default", "web-node-1")) is not None and worker.uid != first)
        assert pods.by_uid(first) is None, "one at a time"
        file.write_text("{")
        await until(lambda: bool(static.problems))
        await asyncio.sleep(100)
        assert len(pods) == 1, "the pod of a broken file keeps running"
        events = [event for event in node.events.all(node.clock()) if event.reason == "InvalidStaticPod"]
        assert [(event.type, event.involved_object.kind, event.count) for event in events] == [("Warning", "Node", 1)]
        file.unlink()
        await until(lambda: len(pods) == 0)
        await until(lambda: not static.problems)

    with_static(tmp_path, test)


def test_files_that_come_while_the_pods_are_stopped_wait(tmp_path: Path) -> None:
    async def test(node: Node, pods: Pods, static: StaticPods) -> None:
        pods.halt(None)
        (tmp_path / "pods" / "web.yaml").write_text(TEXT)
        await asyncio.sleep(50)
        assert len(pods) == 0
        assert not static.problems
        pods.resume()
        await until(lambda: len(pods) == 1, 1)

    with_static(tmp_path, test)


def test_a_directory_that_cannot_be_read_ends_no_pod_and_one_that_is_gone_all(tmp_path: Path) -> None:
    folder = tmp_path / "pods"

    async def test(node: Node, pods: Pods, static: StaticPods) -> None:
        (folder / "web.yaml").write_text(TEXT)
        await until(lambda: len(pods) == 1)
        folder.rename(tmp_path / "away")
        folder.touch()
        await until(lambda: str(folder) in static.problems)
        assert len(pods) == 1
        folder.unlink()
        await until(lambda: len(pods) == 0)
        (tmp_path / "away").rename(folder)
        await until(lambda: len(pods) == 1)

    with_static(tmp_path, test)


def test_without_a_directory_static_pods_of_before_end(tmp_path: Path) -> None:
    async def main() -> None:
        node = make_node(tmp_path, None, Config(static_pod_path=""))
        pods = Pods(node)
        pods.create([make_pod("other")])
        pods.create_static(read(TEXT).pod)
        await StaticPods(node, pods).run()
        await until(lambda: len(pods) == 1)
        assert pods.worker("default", "other") is not None
        await pods.close()

    run_virtually(main)


def test_only_the_default_root_has_a_default_directory(tmp_path: Path) -> None:
    async def main() -> None:
        node = make_node(tmp_path)
        assert path_of(node) == ""
        node.paths = Paths()
        assert path_of(node) == STATIC_POD_PATH

    run_virtually(main)


def test_the_watch_knows_which_files_are_not_closed(tmp_path: Path) -> None:
    async def main() -> None:
        with watch.Watch(str(tmp_path)) as watching:
            watching.follow()
            file = (tmp_path / "web.yaml").open("w")
            await watching.changed(soon=False)
            assert watching.unfinished == {"web.yaml"}
            file.close()
            await watching.changed(soon=False)
            assert watching.unfinished == set()

    run_virtually(main)


# -- clients


def test_clients_can_neither_make_nor_change_nor_end_a_static_pod(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        agent.pods.create_static(read(TEXT).pod)
        await until(lambda: agent.runtime.is_running("main"))
        mirror = TEXT.replace("name: web", "name: a, annotations: {kubernetes.io/config.mirror: x}")
        mirror += "  nodeName: node-1\n"
        *_, refused = await agent.run_detached(mirror)
        assert "config.mirror] is for static pods: remove it" in refused["error"]["message"]
        deleted, warning, last = await agent.ask(verb="delete", names=["web-node-1"])
        assert (deleted["event"], last["ok"]) == ("deleted", True)
        assert warning["message"] == (
            'pod "web-node-1" is the static pod of /pods/web.yaml and keeps running: remove that file to end it'
        )
        target = {"kind": "pods", "name": "web-node-1"}
        patch = {"spec": {"containers": [{"name": "main", "image": "other"}]}}
        *_, refused = await agent.ask(verb="patch", target=target, patch=patch, type="strategic")
        assert refused["error"]["message"].endswith("is forbidden: a static pod: change its file /pods/web.yaml")
        other_file = {"metadata": {"annotations": {"minipod/config.file": "/x"}}}
        *_, refused = await agent.ask(verb="patch", target=target, patch=other_file, type="strategic")
        assert "Forbidden" in refused["error"]["message"]
        *_, labelled = await agent.ask(verb="label", target=target, field="labels", set={"a": "b"}, remove=[])
        assert labelled["ok"]
        *_, refused = await agent.ask(
            verb="run", files=[{"name": "p", "text": TEXT.replace("name: web", "name: web-node-1")}], replace=True
        )
        assert refused["error"]["message"].endswith("a static pod: remove its file /pods/web.yaml to end it")
        agent.node.registry.delete(POD, "default", "web-node-1")
        assert file_of(agent.pods.find("default", "web-node-1").pod) == "/pods/web.yaml"
        assert agent.runtime.is_running("main")

    with_agent(tmp_path, test)


def test_a_taken_name_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        pods = Pods(make_node(tmp_path))
        pods.create([make_pod("web-node-1")])
        with pytest.raises(ConflictError, match="already exists"):
            pods.create_static(read(TEXT).pod)
        await pods.close()

    run_virtually(main)


def test_the_configured_path_is_absolute(tmp_path: Path) -> None:
    from minipod.config import load_config

    file = tmp_path / "config.toml"
    file.write_text('static_pod_path = "pods"')
    with pytest.raises(UsageError, match="static_pod_path: 'pods' must be an absolute path"):
        load_config(str(file))
