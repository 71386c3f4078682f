"""What a pod takes of the node's disk, held against its limits, in the kubelet's order and words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from minipod.agent.objects.usage import exceeded, has_limits
from minipod.api.types import Pod
from minipod.paths import Paths
from minipod.plan.pod import log_directory
from minipod.plan.volumes.sources import pod_directory

KIB = 1024
FILES = "/none"


def pod_of(limits: dict[str, str | None], volumes: list[dict[str, Any]] | None = None) -> Pod:
    """`limits`: {container: its limit of local storage}; every container mounts every volume."""
    volumes = volumes or []
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    containers = [
        {"name": name, "volumeMounts": mounts, "resources": {"limits": {"ephemeral-storage": limit} if limit else {}}}
        for name, limit in limits.items()
    ]
    metadata = {"name": "p", "namespace": "n", "uid": "U"}
    return msgspec.convert({"metadata": metadata, "spec": {"containers": containers, "volumes": volumes}}, Pod)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path / "r"), str(tmp_path / "s"))


def fill(path: str, size_bytes: int) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(b"x" * size_bytes)


def layer(pod: Pod, paths: Paths, name: str, attempt: int) -> str:
    return f"{pod_directory(pod, paths)}/containers/{name}/{attempt}/upper/file"


def test_a_pod_without_limits_is_not_measured() -> None:
    assert not has_limits(pod_of({"a": None}, [{"name": "v", "emptyDir": {}}]))
    assert not has_limits(pod_of({"a": None}, [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]))
    assert has_limits(pod_of({"a": "1Mi"}))
    assert has_limits(pod_of({"a": None}, [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]))


def test_an_empty_dir_is_reported_first_and_its_limit_as_the_api_server_writes_it(paths: Paths) -> None:
    pod = pod_of({"a": "1Ki"}, [{"name": "v", "emptyDir": {"sizeLimit": "2048Ki"}}])
    fill(f"{pod_directory(pod, paths)}/volumes/kubernetes.io~empty-dir/v/x", 3 << 20)
    assert exceeded(pod, paths, {}, FILES) == 'Usage of EmptyDir volume "v" exceeds the limit "2Mi". '


def test_layers_logs_and_volumes_count_for_the_pod(paths: Paths) -> None:
    pod = pod_of({"a": "200Ki", "b": "200Ki"}, [{"name": "v", "emptyDir": {}}])
    fill(layer(pod, paths, "a", 0), 150 * KIB)
    fill(f"{log_directory(pod, paths)}/b/0.log", 100 * KIB)
    assert exceeded(pod, paths, {"a": 0, "b": 0}, FILES) == ""
    fill(f"{pod_directory(pod, paths)}/volumes/kubernetes.io~empty-dir/v/x", 180 * KIB)
    message = "Pod ephemeral local storage usage exceeds the total limit of containers 400Ki. "
    assert exceeded(pod, paths, {"a": 0, "b": 0}, FILES) == message


def test_a_container_is_measured_by_its_present_layer_and_all_its_logs(paths: Paths) -> None:
    pod = pod_of({"a": "200Ki", "b": "800Ki"})
    fill(layer(pod, paths, "a", 0), 300 * KIB)
    assert exceeded(pod, paths, {"a": 1}, FILES) == ""
    assert exceeded(pod, paths, {"a": 0}, FILES) == 'Container a exceeded its local ephemeral storage limit "200Ki". '
    fill(f"{log_directory(pod, paths)}/a/0.log", 150 * KIB)
    fill(f"{log_directory(pod, paths)}/a/1.log", 100 * KIB)
    assert exceeded(pod, paths, {"a": 1}, FILES) == 'Container a exceeded its local ephemeral storage limit "200Ki". '


def test_a_container_without_a_limit_is_held_by_that_of_the_others(paths: Paths) -> None:
    pod = pod_of({"a": "200Ki", "b": None})
    fill(layer(pod, paths, "b", 0), 300 * KIB)
    assert "total limit of containers 200Ki" in exceeded(pod, paths, {"b": 0}, FILES)


def test_what_has_ended_does_not_count(paths: Paths) -> None:
    pod = pod_of({"a": "200Ki"})
    fill(layer(pod, paths, "a", 0), 300 * KIB)
    fill(f"{log_directory(pod, paths)}/a/0.log", 300 * KIB)
    assert exceeded(pod, paths, {}, FILES) == ""
    assert exceeded(pod, paths, {"a": 0}, FILES)


def test_the_pod_s_own_files_count(paths: Paths, tmp_path: Path) -> None:
    pod = pod_of({"a": "200Ki"})
    fill(f"{tmp_path}/files/hosts", 150 * KIB)
    assert exceeded(pod, paths, {"a": 0}, f"{tmp_path}/files") == ""
    fill(f"{tmp_path}/files/termination-log.a.0", 100 * KIB)
    assert "total limit of containers 200Ki" in exceeded(pod, paths, {"a": 0}, f"{tmp_path}/files")
