"""From a Pod to SandboxConfig and ContainerConfig."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minipod.api.types import Pod
from minipod.config import Config
from minipod.errors import ContainerError, SandboxError
from minipod.paths import Paths
from minipod.plan.configs import ContainerConfig, HostFacts, Mount, NamespaceOptions, PortMapping, SandboxConfig
from minipod.plan.pod import container_config, pod_warnings, sandbox_config, verify_run_as_non_root

FACTS = HostFacts(
    node_name="node-1", node_ips=("192.0.2.7",), cpus=2, memory_bytes=8 << 30, cgroup_version=2, kernel="6.1.0"
)
PATHS = Paths()


def pod_of(container: dict[str, Any] | None = None, **spec: Any) -> Pod:
    metadata = {"name": "web", "namespace": "shop", "uid": "UID", "labels": {"app": "web"}, "annotations": {"a": "b"}}
    containers = [{"name": "c", "image": "busybox", **(container or {})}]
    return msgspec.convert({"metadata": metadata, "spec": {"containers": containers, **spec}}, Pod)


def sandbox_of(container: dict[str, Any] | None = None, **spec: Any) -> SandboxConfig:
    return sandbox_config(pod_of(container, **spec), PATHS, Config(), FACTS, sandbox_id="S" * 64)


def container_of(
    container: dict[str, Any] | None = None, config: Config | None = None, image_user: str | None = None, **spec: Any
) -> ContainerConfig:
    pod = pod_of(container, **spec)
    return container_config(
        pod,
        pod.spec.containers[0],
        PATHS,
        config or Config(),
        FACTS,
        pod_ips=("10.0.0.2", "fd00::2"),
        sandbox_id="S",
        container_id="C",
        attempt=3,
        image_user=image_user,
    )


def test_a_sandbox_is_named_and_placed_as_the_kubelet_does() -> None:
    config = sandbox_of()
    assert config.log_directory == "/var/log/pods/shop_web_UID"
    assert config.cgroup_parent == "/minipod/kubepods/besteffort/podUID"
    assert config.hostname == "web"
    assert config.kernel_hostname == ""
    assert config.labels == {
        "app": "web",
        "io.kubernetes.pod.name": "web",
        "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.pod.uid": "UID",
    }
    assert config.annotations == {"a": "b"}
    assert config.namespaces == NamespaceOptions(network="pod", pid="container", ipc="pod")
    assert not config.privileged


def test_ports_with_a_host_port_are_mapped_unless_the_network_is_the_hosts() -> None:
    ports = [
        {"containerPort": 80, "hostPort": 8080},
        {"containerPort": 81},
        {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "127.0.0.1"},
    ]
    assert sandbox_of({"ports": ports}).port_mappings == (
        PortMapping(container_port=80, host_port=8080),
        PortMapping(protocol="UDP", container_port=53, host_port=53, host_ip="127.0.0.1"),
    )
    assert sandbox_of({"ports": ports}, hostNetwork=True).port_mappings == ()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"hostNetwork": True}, NamespaceOptions(network="node")),
        ({"hostPID": True}, NamespaceOptions(pid="node")),
        ({"hostIPC": True}, NamespaceOptions(ipc="node")),
        ({"shareProcessNamespace": True}, NamespaceOptions(pid="pod")),
    ],
)
def test_namespaces_are_shared_where_the_pod_says_so(spec: dict[str, Any], expected: NamespaceOptions) -> None:
    assert sandbox_of(**spec).namespaces == expected
    assert container_of(**spec).security.namespaces == expected


def test_safe_sysctls_are_set_over_the_runtimes_own() -> None:
    sysctls = [
        {"name": "net.ipv4.ip_unprivileged_port_start", "value": "1024"},
        {"name": "kernel/shm_rmid_forced", "value": "1"},
    ]
    assert sandbox_of(securityContext={"sysctls": sysctls}).sysctls == {
        "net.ipv4.ip_unprivileged_port_start": "1024",
        "net.ipv4.ping_group_range": "0 2147483647",
        "kernel.shm_rmid_forced": "1",
    }


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("kernel.msgmax", {}),
        ("net.ipv4.tcp_syncookies", {"hostNetwork": True}),
        ("kernel.shm_rmid_forced", {"hostIPC": True}),
    ],
)
def test_other_sysctls_are_refused(name: str, spec: dict[str, Any]) -> None:
    with pytest.raises(SandboxError, match=name.replace(".", r"\.")) as caught:
        sandbox_of(securityContext={"sysctls": [{"name": name, "value": "1"}]}, **spec)
    assert caught.value.reason == "SysctlForbidden"


def test_command_and_arguments_see_the_declared_environment() -> None:
    config = container_of(
        {"command": ["sh", "$(A)"], "args": ["$(HOSTNAME)", "$$(A)"], "env": [{"name": "A", "value": "1"}]}
    )
    assert config.command == ("sh", "1")
    assert config.args == ("$(HOSTNAME)", "$(A)")  # HOSTNAME is the runtime's: not declared, so not expanded
    assert config.envs == (("HOSTNAME", "web"), ("A", "1"))
    own = container_of({"env": [{"name": "HOSTNAME", "value": "mine"}]})
    assert own.envs == (("HOSTNAME", "mine"),)


def test_the_pods_addresses_are_the_hosts_in_the_hosts_network() -> None:
    env = [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    assert dict(container_of({"env": env}).envs)["IP"] == "10.0.0.2"
    assert dict(container_of({"env": env}, hostNetwork=True).envs)["IP"] == "192.0.2.7"


def test_the_pods_files_are_mounted_unless_the_container_mounts_its_own() -> None:
    places = [mount.container_path for mount in container_of().mounts]
    assert places == ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]
    mounted = container_of(
        {
            "volumeMounts": [{"name": "v", "mountPath": "/etc/hosts"}],
            "securityContext": {"readOnlyRootFilesystem": True},
        },
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    assert mounted.mounts == (
        Mount(
            volume="v",
            container_path="/etc/hosts",
            host_path="/var/lib/minipod/pods/UID/volumes/kubernetes.io~empty-dir/v",
        ),
        Mount(container_path="/etc/hostname", host_path="/run/minipod/sandboxes/S/files/hostname", readonly=True),
        Mount(container_path="/etc/resolv.conf", host_path="/run/minipod/sandboxes/S/files/resolv.conf", readonly=True),
    )


def test_a_container_has_its_places_and_labels() -> None:
    config = container_of({"lifecycle": {"stopSignal": "SIGUSR1"}, "stdin": True, "tty": True, "workingDir": "/w"})
    assert config.log_path == "c/3.log"
    assert config.directory == "/var/lib/minipod/pods/UID/containers/c/3"
    assert config.termination_message_path == "/dev/termination-log"
    assert config.termination_message_host_path == "/run/minipod/sandboxes/S/files/termination-log.c.3"
    assert config.labels["io.kubernetes.container.name"] == "c"
    assert config.annotations["io.kubernetes.container.restartCount"] == "3"
    assert (config.stop_signal, config.stdin, config.tty, config.working_dir) == ("SIGUSR1", True, True, "/w")
    assert config.oom_score_adj == 1000
    assert config.resources.cpu_shares == 2


def test_the_containers_security_context_wins_over_the_pods() -> None:
    own = {
        "runAsUser": 5,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"add": ["SYS_TIME"], "drop": ["ALL"]},
    }
    of_pod = {
        "runAsUser": 1,
        "runAsGroup": 2,
        "fsGroup": 3,
        "supplementalGroups": [4],
        "supplementalGroupsPolicy": "Strict",
    }
    security = container_of({"securityContext": own}, securityContext=of_pod).security
    assert (security.run_as_user, security.run_as_group) == (5, 2)
    assert security.supplemental_groups == (3, 4)
    assert security.supplemental_groups_policy == "Strict"
    assert security.no_new_privs
    assert security.readonly_rootfs
    assert security.add_capabilities == ("SYS_TIME",)
    assert security.drop_capabilities == ("ALL",)


@pytest.mark.parametrize(
    ("container", "of_pod", "default", "expected"),
    [
        (None, None, True, "RuntimeDefault"),
        (None, None, False, "Unconfined"),
        (None, {"type": "Unconfined"}, True, "Unconfined"),
        ({"type": "RuntimeDefault"}, {"type": "Unconfined"}, False, "RuntimeDefault"),
        ({"type": "Localhost", "localhostProfile": "a/b.json"}, None, True, "Localhost"),
    ],
)
def test_seccomp_is_the_containers_else_the_pods_else_the_configurations(
    container: dict[str, str] | None, of_pod: dict[str, str] | None, default: bool, expected: str
) -> None:
    own = {"securityContext": {"seccompProfile": container}} if container else {}
    spec: dict[str, Any] = {"securityContext": {"seccompProfile": of_pod}} if of_pod else {}
    security = container_of(own, Config(seccomp_default=default), **spec).security
    assert security.seccomp == expected
    assert security.seccomp_localhost == ("/var/lib/minipod/seccomp/a/b.json" if expected == "Localhost" else "")


def test_a_privileged_container_is_not_confined() -> None:
    own = {"securityContext": {"privileged": True, "seccompProfile": {"type": "RuntimeDefault"}}}
    assert container_of(own).security.seccomp == "Unconfined"
    assert sandbox_of(own).privileged


@pytest.mark.parametrize(
    ("own", "image_user", "refused"),
    [
        ({}, "", False),
        ({"runAsNonRoot": False}, "", False),
        ({"runAsNonRoot": True}, "", True),
        ({"runAsNonRoot": True}, "0", True),
        ({"runAsNonRoot": True}, "0:5", True),
        ({"runAsNonRoot": True}, "root", True),
        ({"runAsNonRoot": True}, "nobody", True),
        ({"runAsNonRoot": True}, "1000:0", False),
        ({"runAsNonRoot": True}, "\uff12", True),
        ({"runAsNonRoot": True}, "4294967296", True),
        ({"runAsNonRoot": True}, "2147483648", True),
        ({"runAsNonRoot": True}, "9" * 5000, True),
        ({"runAsNonRoot": True}, "00", True),
        ({"runAsNonRoot": True}, "+0", True),
        ({"runAsNonRoot": True}, "-1", True),
        ({"runAsNonRoot": True}, "1_0", True),
        ({"runAsNonRoot": True}, " 0", True),
        ({"runAsNonRoot": True}, ":5", True),
        ({"runAsNonRoot": True}, "x:y:z", True),
        ({"runAsNonRoot": True}, "2147483647", False),
        ({"runAsNonRoot": True, "runAsUser": 0}, "1000", True),
        ({"runAsNonRoot": True, "runAsUser": 7}, "root", False),
    ],
)
def test_run_as_non_root_believes_only_numbers(own: dict[str, Any], image_user: str, refused: bool) -> None:
    pod = pod_of({"securityContext": own})
    assert (verify_run_as_non_root(pod, pod.spec.containers[0], image_user) is not None) == refused
    of_pod = pod_of(securityContext=own)
    assert (verify_run_as_non_root(of_pod, of_pod.spec.containers[0], image_user) is not None) == refused


def test_run_as_non_root_is_refused_in_the_kubelet_s_words() -> None:
    pod = pod_of({"securityContext": {"runAsNonRoot": True}})
    said = {
        user: str(verify_run_as_non_root(pod, pod.spec.containers[0], user)).partition(" (pod: ")[0]
        for user in ("", "0:5", "app:0", "4294967296", "-1")
    }
    rule = "(Must be 1-(2147483647)): must be between 0 and 2147483647, inclusive"
    assert said == {
        "": "container has runAsNonRoot and image will run as root",
        "0:5": "container has runAsNonRoot and image will run as root",
        "app:0": "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root",
        "4294967296": f"container has runAsNonRoot and image has an invalid user id (4294967296). {rule}",
        "-1": f"container has runAsNonRoot and image has an invalid user id (-1). {rule}",
    }


def test_an_image_s_endless_user_makes_no_endless_message() -> None:
    pod = pod_of({"securityContext": {"runAsNonRoot": True}})
    for user in ("n" * (4 << 20), "9" * (4 << 20)):
        assert len(str(verify_run_as_non_root(pod, pod.spec.containers[0], user))) < 300


@pytest.mark.parametrize(
    ("image_user", "user", "name"),
    [
        (None, None, ""),
        ("", 0, ""),
        (":5", 0, ""),
        ("app:group", None, "app"),
        ("1000:2000", 1000, ""),
        ("007", 7, ""),
        ("+7", 7, ""),
        ("-7", -7, ""),
        ("4294967296", 4294967296, ""),
        ("9" * 30, None, "9" * 30),
        ("1_0", None, "1_0"),
        ("\uff12", None, "\uff12"),
    ],
)
def test_of_the_image_s_user_the_kubelet_passes_on_the_number_or_the_name_and_no_group(
    image_user: str | None, user: int | None, name: str
) -> None:
    """k/k#61967: the group is the passwd entry's."""
    security = container_of(image_user=image_user).security
    assert (security.run_as_user, security.run_as_username, security.run_as_group) == (user, name, None)
    own = container_of({"securityContext": {"runAsUser": 5}}, image_user=image_user).security
    assert (own.run_as_user, own.run_as_username) == (5, "")


def test_run_as_non_root_goes_down_to_the_runtime() -> None:
    assert not container_of().security.run_as_non_root
    of_pod = {"runAsNonRoot": True}
    assert container_of(image_user="7", securityContext=of_pod).security.run_as_non_root
    own = {"securityContext": {"runAsNonRoot": False}}
    assert not container_of(own, image_user="7", securityContext=of_pod).security.run_as_non_root


def test_a_container_that_would_run_as_root_against_its_pods_will_is_not_configured() -> None:
    with pytest.raises(ContainerError, match="image will run as root") as caught:
        container_of({"securityContext": {"runAsNonRoot": True}}, image_user="")
    assert caught.value.reason == "CreateContainerConfigError"


def test_limits_that_nothing_enforces_are_reported() -> None:
    pod = pod_of(
        {"resources": {"limits": {"cpu": "1", "ephemeral-storage": "1Gi", "hugepages-2Mi": "2Mi"}}},
        dnsPolicy="Default",
    )
    assert [warning.message.partition(": ")[0] for warning in pod_warnings(pod, Config(), FACTS)] == [
        "spec.containers[0].resources.limits[hugepages-2Mi]",
    ]
