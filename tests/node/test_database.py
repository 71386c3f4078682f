"""A database in a pod: Debian's redis with its data on a claim, whatever becomes of everything else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.node_fixtures import Node
from tests.patience import SLOWNESS
from tests.volume_pods import apply, claim, manifest, wait_for

SERVER = Path("/usr/bin/redis-check-rdb")  # of redis-tools; under the name redis-server it is the server


@pytest.fixture(scope="module")
def redis_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of redis and what it links to, nothing else: `image: dir:` takes it as it is."""
    root = tmp_path_factory.mktemp("redis")
    for program, name in ((SERVER, "redis-server"), (Path("/usr/bin/redis-cli"), "redis-cli")):
        assert program.exists(), "scripts/setup --test installs redis-tools"
        listing = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
        copies = [(library, library) for library in re.findall(r"(/\S+) \(0x", listing)]
        for source, target in [(str(program), f"/usr/bin/{name}"), *copies]:
            place = root / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)
    return root


def database(root: Path) -> dict[str, Any]:
    container = {
        "name": "redis",
        "image": f"dir:{root}",
        "command": ["redis-server", "--dir", "/data", "--appendonly", "yes", "--appendfsync", "always"],
        "readinessProbe": {"exec": {"command": ["redis-cli", "ping"]}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsUser": 999, "runAsGroup": 999, "runAsNonRoot": True, "fsGroup": 999},
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "redis"}}],
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "redis"}, "spec": spec}


def redis(node: Node, *words: str) -> str:
    return node("exec", "redis", "--", "redis-cli", *words).stdout.strip()


def ready(node: Node) -> bool:
    status: Any = node.pod("redis")["status"]
    return bool(status["containerStatuses"][0]["ready"])


def kill_everything(node: Node) -> None:
    """kill -9 of the agent, its spawner and all containers."""
    pid = node.agent_pid()
    assert pid is not None
    agent = psutil.Process(pid)
    doomed = [agent, *agent.children(recursive=True)]
    assert any("redis-server" in process.name() for process in doomed)
    for process in doomed:
        process.kill()
    psutil.wait_procs(doomed, timeout=20 * SLOWNESS)


def test_a_database_on_a_claim_has_its_data_after_its_pod_and_after_kill_9_of_everything(
    node: Node, redis_root: Path
) -> None:
    node.configure(f'image_directories = ["{redis_root}"]')
    given = database(redis_root)
    node("run", "-d", "--timeout", "30s", "-", input=manifest(claim("redis"), given))
    assert redis(node, "set", "answer", "42") == "OK"
    node("delete", "pod", "redis")
    node("run", "-d", "--timeout", "30s", "-", input=manifest(given))
    assert redis(node, "get", "answer") == "42"
    assert redis(node, "incr", "answer") == "43"
    kill_everything(node)
    apply(node, given)  # whatever is asked next finds an agent, and that one the pod
    wait_for(lambda: ready(node), 40)
    assert redis(node, "get", "answer") == "43"
    assert node.pod("redis")["status"]["containerStatuses"][0]["restartCount"] == 1  # type: ignore[index]
    node("delete", "pod", "redis")
    node("delete", "pvc", "redis")
    wait_for(lambda: os.listdir(f"{node.paths.state}/pv") == [])
