"""The kubelet's numbers: eleven pods as a real kubelet ran them (1.36.2, cgroup v1), and the rules at their edges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minipod.api.defaults import defaulted
from minipod.api.types import Container, Pod, PodSpec, ResourceRequirements
from minipod.config import Config
from minipod.paths import Paths
from minipod.plan import cgroup, resources
from minipod.plan.configs import CgroupResources, HostFacts

DATA: dict[str, Any] = json.loads((Path(__file__).parent.parent / "data" / "resources.json").read_text())
NODE_MEMORY = 24684096 * 1024
FACTS = HostFacts(node_name="n", cpus=2, memory_bytes=NODE_MEMORY, cgroup_version=2)
UNLIMITED = {"cpu.cfs_quota_us": "-1", "memory.limit_in_bytes": "9223372036854771712", "pids.max": "max"}


def pod_of(spec: dict[str, Any]) -> Pod:
    """The pod as the API server stores it: requests default to limits."""
    return defaulted(
        msgspec.convert({"metadata": {"name": "p", "namespace": "default", "uid": "UID"}, "spec": spec}, Pod)
    )


def observed(numbers: CgroupResources, *, container: bool) -> dict[str, str]:
    files = {file.name: file.value for file in cgroup.v1_files(numbers, container=container)}
    files.pop("memory.memsw.limit_in_bytes", None)
    return {"cpu.cfs_period_us": "100000", **UNLIMITED, **files}


@pytest.mark.parametrize("name", DATA["pods"])
def test_a_pod_gets_the_groups_and_values_that_a_kubelet_gave_it(name: str) -> None:
    seen = DATA["pods"][name]
    pod = pod_of(seen["spec"])
    assert resources.qos_of(pod) == seen["qosClass"]
    assert resources.pod_cgroup_parent(pod, Paths()) == "/minipod/" + seen["path"]
    assert observed(resources.pod_cgroup_resources(pod, Config()), container=False) == seen["pod"]
    for container in (*pod.spec.init_containers, *pod.spec.containers):
        if container.name not in seen["containers"]:
            continue
        expected = dict(seen["containers"][container.name])
        score = int(expected.pop("oom_score_adj"))
        assert observed(resources.container_resources(pod, container), container=True) == expected
        # that node could not lower a score, so it shows 0 where the rule gives -997
        assert max(0, resources.oom_score_adj(pod, container, NODE_MEMORY)) == score


def container(name: str = "c", *, sidecar: bool = False, **requests: str) -> Container:
    return Container(
        name=name, restart_policy="Always" if sidecar else None, resources=ResourceRequirements(requests=requests)
    )


def pod(*containers: Container, **spec: Any) -> Pod:
    return Pod(spec=PodSpec(containers=containers, **spec))


def test_guaranteed_and_node_critical_pods_are_killed_last() -> None:
    guaranteed = pod_of({"containers": [{"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]})
    assert resources.oom_score_adj(guaranteed, guaranteed.spec.containers[0], NODE_MEMORY) == -997
    critical = pod(container(), priority=2_000_001_000, priority_class_name="system-node-critical")
    assert resources.oom_score_adj(critical, critical.spec.containers[0], NODE_MEMORY) == -997


def test_a_burstable_score_stays_between_3_and_999() -> None:
    tiny, huge = container(memory="1"), container(memory="1Ti")
    assert resources.oom_score_adj(pod(tiny), tiny, NODE_MEMORY) == 999
    assert resources.oom_score_adj(pod(huge), huge, NODE_MEMORY) == 3


def test_a_sidecar_scores_no_higher_than_the_smallest_container_it_serves() -> None:
    sidecar = container("s", sidecar=True, memory="1Mi")
    served = pod(container("a", memory="8Gi"), container("b", memory="4Gi"), init_containers=(sidecar,))
    expected = resources.oom_score_adj(served, served.spec.containers[1], NODE_MEMORY)
    assert resources.oom_score_adj(served, sidecar, NODE_MEMORY) == expected


def test_what_the_pod_requests_beyond_its_containers_is_divided_among_them() -> None:
    level = ResourceRequirements(requests={"memory": "8Gi"})
    shared = pod(container("a", memory="2Gi"), container("b", memory="2Gi"), resources=level)
    alone = container("a", memory="4Gi")
    expected = resources.oom_score_adj(pod(alone), alone, NODE_MEMORY)
    assert resources.oom_score_adj(shared, shared.spec.containers[0], NODE_MEMORY) == expected


def test_one_container_without_a_limit_leaves_the_pod_without_one() -> None:
    limit = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1m"}}
    numbers = resources.pod_cgroup_resources(
        pod_of({"containers": [{"name": "a", "resources": limit}, {"name": "b"}]}), Config()
    )
    assert numbers.cpu_quota_us is None
    assert numbers.memory_limit_bytes is None


def test_an_init_container_is_limited_together_with_the_sidecars_before_it() -> None:
    limit = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1m"}}
    sidecar = {"name": "s", "restartPolicy": "Always", "resources": limit}
    main = {"name": "a", "resources": limit}
    covered = pod_of({"initContainers": [sidecar, {"name": "i"}], "containers": [main]})
    bare = pod_of({"initContainers": [{"name": "i"}, sidecar], "containers": [main]})
    assert resources.pod_cgroup_resources(covered, Config()).memory_limit_bytes == 2 << 30
    assert resources.pod_cgroup_resources(bare, Config()).memory_limit_bytes is None


def test_the_pods_pids_limit_comes_from_the_configuration() -> None:
    assert resources.pod_cgroup_resources(pod(container()), Config(pod_pids_limit=100)).pids_max == 100
    assert resources.pod_cgroup_resources(pod(container()), Config()).pids_max is None
