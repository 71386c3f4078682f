"""Kubernetes' own kubectl, unmodified, against the API of this host."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api_server import ApiServer
from tests.node_fixtures import Node
from tests.volume_pods import wait_for

POD = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: hello}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: busybox
    command:
    - sh
    - -c
    - echo ready; mkdir /w; head -c 300000 /dev/zero > /w/big; httpd -p 127.0.0.1:8080 -h /w; sleep 1000
    env: [{name: GREETING, valueFrom: {configMapKeyRef: {name: settings, key: greeting}}}]
"""


@pytest.fixture
def api(node: Node, tmp_path: Path) -> Iterator[ApiServer]:
    server = ApiServer(node, tmp_path)
    yield server
    server.close()


def apply(api: ApiServer, text: str = POD) -> str:
    return api("apply", "-f", "-", input=text).stdout


def test_the_daily_round_of_kubectl(api: ApiServer) -> None:
    assert apply(api) == "configmap/settings created\npod/web created\n"
    assert apply(api) == "configmap/settings unchanged\npod/web unchanged\n"
    api("wait", "--for=condition=Ready", "pod/web", "--timeout=30s")
    wide = api("get", "pods", "-o", "wide").stdout.splitlines()
    assert wide[0].split()[:6] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"]
    assert wide[1].split()[:3] == ["web", "1/1", "Running"]
    assert api("logs", "web", "--tail=1").stdout == "ready\n"
    assert api("get", "pods,cm", "-l", "app=web", "-o", "name").stdout == "pod/web\n"
    assert "pod/web labeled" in api("label", "pod", "web", "tier=front").stdout
    assert "SuccessfulCreate" not in api("describe", "pod", "web").stdout
    assert "Started" in api("events", "--for", "pod/web").stdout
    changed = POD.replace("hello", "bye")
    assert api("diff", "-f", "-", input=changed, check=False).returncode == 1
    assert apply(api, changed) == "configmap/settings configured\npod/web unchanged\n"
    patch = '{"data": {"more": "1"}}'
    assert "patched" in api("patch", "cm", "settings", "--type=merge", "-p", patch).stdout
    assert json.loads(api("get", "cm", "settings", "-o", "json").stdout)["data"] == {"greeting": "bye", "more": "1"}
    assert "replaced" in api("replace", "--force", "-f", "-", input=POD).stdout
    assert 'pod "web" deleted' in api("delete", "pod", "web").stdout
    assert "NotFound" in api("get", "pod", "web", check=False).stderr


def test_typed_clients_send_protobuf(api: ApiServer) -> None:
    api("create", "namespace", "team")
    api("create", "secret", "generic", "keys", "-n", "team", "--from-literal=a=b")
    assert api("get", "secret", "keys", "-n", "team", "-o", "jsonpath={.data.a}").stdout == "Yg=="
    assert "is not empty" in api("delete", "namespace", "team", check=False).stderr
    api("delete", "secret", "keys", "-n", "team")
    api("delete", "namespace", "team")


def test_commands_run_with_their_streams_and_exit_status(api: ApiServer, tmp_path: Path) -> None:
    apply(api)
    api("wait", "--for=condition=Ready", "pod/web", "--timeout=30s")
    done = api("exec", "web", "--", "sh", "-c", "echo out; echo err >&2; echo $GREETING; exit 3", check=False)
    assert (done.returncode, done.stdout) == (3, "out\nhello\n")
    assert done.stderr.startswith("err\n")
    assert api("exec", "-i", "web", "--", "wc", "-c", input="x" * 3_000_000).stdout == "3000000\n"
    assert len(api("exec", "web", "--", "head", "-c", "3000000", "/dev/zero").stdout) == 3_000_000
    assert "not valid" in api("exec", "web", "-c", "nope", "--", "true", check=False).stderr
    (tmp_path / "file").write_text("content")
    api("cp", str(tmp_path / "file"), "web:/tmp/file")
    assert api("exec", "web", "--", "cat", "/tmp/file").stdout == "content"
    run = api("run", "once", "--image=busybox", "--restart=Never", "-i", "--rm", "--", "cat", input="typed\n")
    assert run.stdout.startswith("typed\n")


def test_ports_are_forwarded_to_a_server_on_the_pods_loopback(api: ApiServer) -> None:
    apply(api)
    api("wait", "--for=condition=Ready", "pod/web", "--timeout=30s")
    forwarding = api.popen("port-forward", "pod/web", ":8080", "--address=127.0.0.1")
    assert forwarding.stdout is not None
    port = int(forwarding.stdout.readline().split("->")[0].split(":")[1])
    for _ in range(5):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/big", timeout=30) as answer:
            assert len(answer.read()) == 300_000
    forwarding.terminate()
    forwarding.communicate()


def test_what_is_wrong_is_said_in_the_api_servers_words(api: ApiServer) -> None:
    unknown = POD.replace("image: busybox", "imag: busybox")
    assert 'unknown field "spec.containers[0].imag"' in api("create", "-f", "-", input=unknown, check=False).stderr
    apply(api)
    assert '"web" already exists' in api("create", "-f", "-", input=POD, check=False).stderr
    stale = json.loads(api("get", "cm", "settings", "-o", "json").stdout)
    api("label", "cm", "settings", "a=b")
    stale["data"] = {"greeting": "lost"}
    conflict = api("replace", "-f", "-", input=json.dumps(stale), check=False).stderr
    assert "the object has been modified; please apply your changes to the latest version and try again" in conflict
    longer = api("patch", "pod", "web", "-p", '{"spec": {"terminationGracePeriodSeconds": 9}}', check=False)
    assert 'The pods "web" is invalid' in longer.stderr or 'The Pod "web" is invalid' in longer.stderr
    assert "doesn't have a resource type" in api("get", "deployments", check=False).stderr


def test_watches_survive_the_agents_death_and_the_servers(api: ApiServer) -> None:
    watch = api.popen("get", "pods", "-w", "--no-headers")
    try:
        apply(api)
        assert watch.stdout is not None
        assert watch.stdout.readline().startswith("web")
    finally:
        watch.terminate()
        watch.communicate()
    pid = api.node.agent_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"))
    wait_for(lambda: api.node.agent_pid() not in (None, pid), 60)  # the API's process starts it
    api.restart()
    wait_for(lambda: "Running" in api("get", "pod", "web", check=False).stdout, 60)


def test_who_has_no_certificate_or_no_right_gets_nothing(api: ApiServer) -> None:
    unverified = ssl._create_unverified_context()
    with urllib.request.urlopen(f"{api.url}/version", context=unverified) as answer:
        assert json.load(answer)["minor"] == "36"
    for headers, code in (({}, 403), ({"Authorization": "Bearer x"}, 401)):
        request = urllib.request.Request(f"{api.url}/api/v1/secrets", headers=headers)
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(request, context=unverified)
        with raised.value as refused:
            assert refused.code == code
    jane = api.directory / "jane"
    jane.write_text(api.node("kubeconfig", "--server", api.url, "--user", "jane", "--group", "devs").stdout)
    assert "Forbidden" in api("get", "pods", "--kubeconfig", str(jane), check=False).stderr
    assert "jane" in api("auth", "whoami", "--kubeconfig", str(jane)).stdout


def test_hostile_requests_leave_the_api_serving(api: ApiServer) -> None:
    host, port = api.url.removeprefix("https://").rsplit(":", 1)
    unverified = ssl._create_unverified_context()
    hostile = (
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 50_000,
        b"POST /api/v1/pods HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /api/v1/namespaces/..%2f..%2fetc/pods HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"\x00" * 10_000,
    )
    for sent in hostile:
        with socket.create_connection((host, int(port))) as plain, unverified.wrap_socket(plain) as connection:
            connection.settimeout(30)
            try:
                connection.sendall(sent)
                answer = connection.recv(100)
            except OSError:
                continue  # closed while it was sent
            assert answer == b"" or answer.split()[1] in (b"400", b"403", b"431")
    assert api("get", "--raw", "/livez").stdout == "ok"
