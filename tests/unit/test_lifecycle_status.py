"""What v1.PodStatus says: conditions, times, identities, readiness gates."""

from __future__ import annotations

import msgspec
import pytest

from minipod.api.types import PodCondition, PodStatus
from minipod.lifecycle import core, model
from minipod.lifecycle.values import SetCondition, User
from minipod.plan.configs import HostFacts
from tests.unit.lifecycle_simulator import Simulator, make_pod

FACTS = HostFacts(node_name="node", node_ips=("192.0.2.1", "2001:db8::1"), cpus=2, memory_bytes=1, cgroup_version=2)


def simulate(seconds: float = 3, **spec: object) -> Simulator:
    sim = Simulator(make_pod({"containers": [{"name": "c"}], **spec})).start()
    sim.run(seconds)
    return sim


def condition(status: PodStatus, kind: str) -> PodCondition:
    return next(c for c in status.conditions if c.type == kind)


def test_first_status_is_reported_before_anything_was_done() -> None:
    sim = simulate(0)
    assert sim.state.status.phase == "Pending"
    assert [c.type for c in sim.state.status.conditions] == [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ]
    assert condition(sim.state.status, "Ready").message == "containers with unready status: [c]"
    assert sim.container("c").state.waiting.reason == "ContainerCreating"
    assert sim.container("c").started is False


def test_pod_says_when_it_started_and_what_it_is() -> None:
    status = simulate().state.status
    assert status.start_time == "2023-11-14T22:13:20Z"
    assert status.qos_class == "BestEffort"
    assert status.observed_generation == 1
    assert (status.pod_ip, status.pod_ips[0].ip) == ("10.1.0.2", "10.1.0.2")


def test_condition_keeps_its_time_while_its_status_stays() -> None:
    sim = simulate(2)
    before = condition(sim.state.status, "Ready").last_transition_time
    scheduled = condition(sim.state.status, "PodScheduled").last_transition_time
    sim.run(60)
    sim.end("c", 1)
    sim.run(5)
    sim.end("c", 1)
    sim.run(1)
    after = condition(sim.state.status, "Ready")
    assert (after.status, str(before) < str(after.last_transition_time)) == ("False", True)
    assert condition(sim.state.status, "PodScheduled").last_transition_time == scheduled


def test_running_container_says_who_it_is() -> None:
    sim = simulate()
    status = sim.container("c")
    assert status.container_id == "minipod://c-0"
    assert status.image_id == "sha256:1"
    assert status.state.running.started_at == "2023-11-14T22:13:20Z"


def test_user_of_the_process_is_reported() -> None:
    sim = simulate(0)
    sim.hangs = {"c"}
    sim.run(1)
    sim.send(model.ContainerCreated(name="c", container_id="x"))
    user = User(uid=7, gid=8, supplemental_groups=(8, 9))
    sim.send(model.ContainerStarted(name="c", container_id="x", pid=1, at=sim.now, user=user))
    linux = sim.container("c").user.linux
    assert (linux.uid, linux.gid, linux.supplemental_groups) == (7, 8, (8, 9))


def test_ended_container_says_how_and_when() -> None:
    sim = simulate()
    sim.verdict["c"] = (137, "OOMKilled", "bye")
    sim.end("c", 137)
    sim.run(0.1)
    ended = sim.container("c").last_state.terminated
    assert (ended.reason, ended.exit_code, ended.message) == ("OOMKilled", 137, "bye")
    assert ended.container_id == "minipod://c-0"
    assert ended.started_at < ended.finished_at


def test_termination_messages_share_twelve_kibibytes() -> None:
    sim = simulate(restartPolicy="Never", containers=[{"name": "c"}, {"name": "d"}, {"name": "e"}, {"name": "f"}])
    sim.verdict["c"] = (1, "Error", "x" * 5000)
    sim.end("c", 1)
    assert len(sim.container("c").state.terminated.message) == 3072


def test_reason_of_an_end_is_completed_or_error_when_the_runtime_says_none() -> None:
    sim = simulate(restartPolicy="Never", containers=[{"name": "c"}, {"name": "d"}])
    sim.end("c", 0)
    sim.end("d", 3)
    assert sim.container("c").state.terminated.reason == "Completed"
    assert sim.container("d").state.terminated.reason == "Error"


def test_container_statuses_are_sorted_by_name_and_init_statuses_as_in_the_spec() -> None:
    sim = simulate(containers=[{"name": "z"}, {"name": "a"}], initContainers=[{"name": "y"}, {"name": "b"}])
    assert [s.name for s in sim.state.status.container_statuses] == ["a", "z"]
    assert [s.name for s in sim.state.status.init_container_statuses] == ["y", "b"]


def test_mounts_and_resources_are_reported() -> None:
    resources = {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}
    mounts = [{"name": "v", "mountPath": "/v", "readOnly": True}]
    sim = simulate(containers=[{"name": "c", "resources": resources, "volumeMounts": mounts}])
    status = sim.container("c")
    assert status.allocated_resources == {"cpu": "100m"}
    assert status.resources.limits == {"cpu": "200m"}
    assert status.volume_mounts[0].recursive_read_only == "Disabled"
    assert sim.state.status.allocated_resources == {"cpu": "100m"}
    assert sim.state.status.qos_class == "Burstable"


def test_node_addresses_are_added() -> None:
    sim = simulate()
    status = core.pod_status(sim.state, FACTS)
    assert status.host_ip == "192.0.2.1"
    assert [host.ip for host in status.host_ips] == ["192.0.2.1", "2001:db8::1"]
    assert status.pod_ip == "10.1.0.2"


def test_pod_in_the_hosts_network_has_the_nodes_addresses() -> None:
    sim = simulate(hostNetwork=True)
    status = core.pod_status(sim.state, FACTS)
    assert [ip.ip for ip in status.pod_ips] == ["192.0.2.1", "2001:db8::1"]


def test_pod_without_a_status_yet_has_no_node_addresses() -> None:
    state = core.new_state(make_pod({"containers": [{"name": "c"}]}), 0.0)
    assert core.pod_status(state, FACTS).host_ip == ""


def test_readiness_gates_are_part_of_ready_only() -> None:
    sim = simulate(readinessGates=[{"conditionType": "example.com/g"}])
    assert sim.condition("ContainersReady") == "True"
    assert sim.condition("Ready") == "False:ReadinessGatesNotReady"
    message = 'corresponding condition of pod readiness gate "example.com/g" does not exist.'
    assert condition(sim.state.status, "Ready").message == message
    sim.send(model.ConditionsSet(conditions=(SetCondition(type="example.com/g", status="True"),)))
    assert sim.condition("Ready") == "True"
    sim.send(model.ConditionsSet(conditions=(SetCondition(type="example.com/g", status="False"),)))
    message = 'the status of pod readiness gate "example.com/g" is not "True", but False'
    assert condition(sim.state.status, "Ready").message == message


def test_condition_of_another_controller_stays() -> None:
    sim = simulate()
    sim.send(model.ConditionsSet(conditions=(SetCondition(type="example.com/x", status="True", reason="R"),)))
    sim.end("c", 1)
    sim.run(5)
    assert sim.condition("example.com/x") == "True:R"


def test_changed_image_restarts_the_container() -> None:
    sim = simulate(terminationGracePeriodSeconds=1)
    pod = make_pod({"containers": [{"name": "c", "image": "other"}], "terminationGracePeriodSeconds": 1})
    sim.send(model.PodUpdated(pod=pod))
    sim.run(5)
    killing = [e.message for _, e in sim.recorded if e.reason == "Killing"]
    assert killing == ["Container c definition changed, will be restarted"]
    assert sim.container("c").restart_count == 1
    assert sim.state.status.phase == "Running"


def test_ephemeral_container_is_started_once_and_never_counts() -> None:
    sim = simulate()
    pod = make_pod({"containers": [{"name": "c"}], "ephemeralContainers": [{"name": "e", "image": "busybox"}]})
    sim.send(model.PodUpdated(pod=pod))
    sim.run(2)
    assert sim.container("e").state.running is not None
    assert sim.container("e").started is None
    sim.end("e", 1)
    sim.run(30)
    assert sim.container("e").state.terminated.exit_code == 1
    assert sim.container("e").restart_count == 0
    assert sim.condition("Ready") == "True"
    assert sim.state.status.phase == "Running"


def test_status_grows_older_only_by_a_number_that_counts_changes() -> None:
    sim = simulate(5)
    numbers = [state.published for _, state in sim.published]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("seconds", [0, 0.06, 0.1, 3])
def test_state_survives_as_json(seconds: float) -> None:
    state = simulate(seconds).state
    assert msgspec.json.decode(msgspec.json.encode(state), type=model.PodState) == state


def test_pod_with_a_forbidden_sysctl_is_rejected() -> None:
    sysctls = [{"name": "kernel.msgmax", "value": "1"}]
    sim = Simulator(make_pod({"containers": [{"name": "c"}], "securityContext": {"sysctls": sysctls}})).start()
    sim.run(5)
    status = sim.state.status
    assert (status.phase, status.reason) == ("Failed", "SysctlForbidden")
    assert status.message == 'Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted'
    assert not status.conditions
    assert sim.reasons("SysctlForbidden")
    sim.send(model.DeleteRequested())
    assert sim.state.stage == "gone"
