"""`minipod run NAME --image=IMAGE`: the pod that is made, its streams, its exit status, against a fake agent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minipod.cli.main import guarded
from tests.unit.cli_fakes import FakeAgent, Object, Peer, fake_agent, minipod_command

Run = Callable[..., tuple[int, str, str]]


def made(capsys: pytest.CaptureFixture[str], *words: str) -> Object:
    assert guarded(["run", "web", "--image=nginx", "--dry-run=client", "-o", "json", *words]) == 0
    pod: Object = json.loads(capsys.readouterr().out)
    return pod


def test_the_pod_is_kubectls(capsys: pytest.CaptureFixture[str]) -> None:
    container: Object = {"name": "web", "image": "nginx", "resources": {}}
    assert made(capsys) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": {"run": "web"}},
        "spec": {"containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": "Always"},
        "status": {},
    }


#: words of the command line, where to look, what is there
POD_CASES: tuple[tuple[tuple[str, ...], str, object], ...] = (
    (("a", "-b"), "", None),
    (("--", "a", "-b"), "args", ["a", "-b"]),
    (("a", "--", "-b", "--", "c"), "args", ["a", "-b", "--", "c"]),
    (("--command", "--", "sh", "-c", "x"), "command", ["sh", "-c", "x"]),
    (("--env=A=b", "--env", "C=d=e"), "env", [{"name": "A", "value": "b"}, {"name": "C", "value": "d=e"}]),
    (("--port=80",), "ports", [{"containerPort": 80}]),
    (("--image-pull-policy=Never",), "imagePullPolicy", "Never"),
    (("--privileged",), "securityContext", {"privileged": True}),
    (("-l", "a=b,c="), "labels", {"a": "b", "c": ""}),
    (("--annotations=a=b", "--annotations=c=d"), "annotations", {"a": "b", "c": "d"}),
    (("--restart=Never",), "restartPolicy", "Never"),
    (("--restart=",), "restartPolicy", "Always"),
    (("-n", "team"), "namespace", "team"),
    (('--overrides={"spec":{"hostNetwork":true}}',), "hostNetwork", True),
    (('--overrides={"spec":{"containers":[{"name":"web","tty":true}]}}', "--override-type=strategic"), "tty", True),
    (('--overrides=[{"op":"add","path":"/spec/hostname","value":"h"}]', "--override-type=json"), "hostname", "h"),
)


def test_each_option_reaches_the_pod(capsys: pytest.CaptureFixture[str]) -> None:
    for words, field, wanted in POD_CASES[1:]:
        pod = made(capsys, *words)
        found = {**pod["metadata"], **pod["spec"], **pod["spec"]["containers"][0]}
        assert found[field] == wanted, words


WRONG: tuple[tuple[str, str], ...] = (
    ("run --image=x", "NAME is required for run"),
    ("run web --image=", 'invalid image name ""'),
    ("run web --image=a/B", 'invalid image name "a/B": invalid reference format: repository name (a/B) must be lower'),
    ("run web --image=x --port=http", "--port must be a number"),
    ("run web --image=x -t", "-i/--stdin is required for containers with -t/--tty=true"),
    ("run web --image=x --rm", "--rm should only be used for attached containers"),
    ("run web --image=x -i --attach=false --rm", "--rm should only be used for attached containers"),
    ("run web --image=x -i --dry-run=client", "--dry-run=[server|client] can't be used with attached"),
    ("run web --image=x -i -d", "-d cannot be combined with -i or --attach"),
    ("run web --image=x --expose --port=8", "--expose: minipod has no Services"),
    ("run web --image=x --restart=Sometimes", "invalid restart policy: Sometimes, valid values are: Always, OnFailure"),
    ("run web --image=x --image-pull-policy=No", "invalid image pull policy: No"),
    ("run web --image=x --override-type=xml", "invalid override type: xml"),
    ("run web --image=x --env=A", "invalid env: A"),
    ("run web --image=x -l a", "unexpected label spec: a"),
    ("run web --image=x -l =b", "unexpected empty label key"),
    ("run web --image=x -f pod.yaml", "--image makes the pod: -f, -k and -R go with run FILE"),
    ("run web --image=x --until=ready", "--until and --timeout go with --detach"),
    ("run web --image=x --detach-keys=x", "unrecognized arguments: --detach-keys=x"),
    ("run Web --image=x --dry-run=client", "metadata.name: Invalid value"),
    ("run web --image=x --overrides={ --dry-run=client", "--overrides: "),
    ("run web --image=x --overrides=[1]", "--overrides: error decoding patch"),
    ('run web --image=x --overrides={"kind":"Deployment"}', "--overrides: patch: kind cannot be changed"),
    ("run busybox", "busybox: no such file; to run an image: minipod run busybox --image=IMAGE"),
    ("run web --env=A=b", "--env goes with --image"),
    ("run web --attach=false", "--attach goes with --image"),
    ("run -it web", "--stdin goes with --image"),
    ("run pod.yaml -- ls", "unexpected argument 'ls' after --"),
    ("run pod.yaml -o yaml", "-o yaml: goes with --dry-run, or with --image"),
    ("run pod.yaml --validate=maybe", 'argument --validate: "maybe": must be one of: strict (or true), warn, ignore'),
    ("run pod.yaml --dry-run=perhaps", "argument --dry-run: invalid value (perhaps)"),
)


def test_what_is_wrong_is_one_line_and_exit_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for line, wanted in WRONG:
        assert guarded(line.split()) == 2, line
        errors = capsys.readouterr().err
        assert errors.startswith("error: "), line
        assert wanted in errors, line
        assert errors.count("\n") == 1 or line.startswith("run Web"), line  # which has the pod's name twice
        assert ":1:" not in errors, "nobody has seen the lines of this manifest"


class Pod:
    """A pod of one container as the fake agent has it: what a watch shows, and how it ends."""

    def __init__(self, agent: FakeAgent, phase: str = "Succeeded", code: int = 0, policy: str = "Never") -> None:
        self.phases = ["Pending", "Running", phase]
        self.code = code
        self.policy = policy
        self.deleted: list[str] = []
        agent.handlers |= {"apply": self.apply, "get": self.get, "attach": self.attach, "delete": self.delete}

    def apply(self, peer: Peer, request: Object) -> None:
        self.asked = request
        self.pod = json.loads(request["files"][0]["text"])
        peer.send({"event": "warning", "message": "careful"})
        peer.send({"event": "applied", "kind": "Pod", "namespace": "default", "name": "web", "result": "created"})
        peer.ok()

    def get(self, peer: Peer, _request: Object) -> None:
        for version, phase in enumerate(self.phases):
            state: Object = {"running": {}}
            if phase in ("Succeeded", "Failed"):
                state = {"terminated": {"exitCode": self.code, "reason": "Error"}}
            elif phase == "Pending":
                state = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
            status: Object = {
                "phase": phase,
                "conditions": [{"type": "Ready", "status": "True" if phase == "Running" else "False"}],
                "containerStatuses": [{"name": "web", "state": state}],
            }
            meta = {"name": "web", "namespace": "default", "uid": "u", "resourceVersion": str(version)}
            spec = {**self.pod["spec"], "restartPolicy": self.policy}
            thing = {**self.pod, "metadata": meta, "spec": spec, "status": status}
            peer.send({"event": "object", "type": "ADDED" if not version else "MODIFIED", "object": thing})
            if not version:
                peer.send({"event": "bookmark", "resource_version": "0"})
        peer.receive()

    def attach(self, peer: Peer, request: Object) -> None:
        assert (request["whole"], request["container"]) == (True, "web")
        peer.ok(exit_code=self.code)

    def delete(self, peer: Peer, request: Object) -> None:
        self.deleted += request["names"]
        peer.ok()


#: words, how the pod ends, exit status, standard output, standard error after the warning and what it waits for
ENDS: tuple[tuple[str, dict[str, Any], int, str, str], ...] = (
    ("--attach", {}, 0, "", ""),
    ("--attach", {"phase": "Failed", "code": 7}, 7, "", "pod default/web terminated (Error)\n"),
    (
        "--attach --rm",
        {"phase": "Failed", "code": 7},
        7,
        'pod "web" deleted from default namespace\n',
        "pod default/web terminated (Error)\n",
    ),
    ("--attach --rm -q", {}, 0, "", ""),
    ("--attach", {"policy": "Always", "phase": "Running", "code": 3}, 0, "", ""),
    ("--attach --leave-stdin-open", {"phase": "Failed", "code": 3}, 0, "", ""),
    ("--attach", {"phase": "Failed"}, 1, "", "error: pod default/web failed with unknown exit code\n"),
)


def test_an_attached_pod_gives_its_exit_status(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number, (words, how, status, out, err) in enumerate(ENDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        with fake_agent(folder) as agent:
            pod = Pod(agent, **how)
            assert minipod_command(agent.paths, "run", "web", "--image=x", *words.split()) == status, words
            assert (pod.asked["mode"], pod.asked["owned"]) == ("create", "--rm" in words)
            assert pod.deleted == (["web"] if "--rm" in words else []), words
        captured = capfd.readouterr()
        waits = "" if "-q" in words else "waiting for pod/web: ErrImagePull: no such image\n"
        assert (captured.out, captured.err) == (out, f"warning: careful\n{waits}{err}"), words


def test_a_pod_that_does_not_run_in_time_is_deleted_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with fake_agent(tmp_path) as agent:
        pod = Pod(agent)
        pod.phases = ["Pending"]
        words = ("run", "web", "--image=x", "-i", "--rm", "--pod-running-timeout=1s")
        assert minipod_command(agent.paths, *words) == 1
        assert pod.pod["spec"]["containers"][0] | {"stdin": True, "stdinOnce": True} == pod.pod["spec"]["containers"][0]
    captured = capfd.readouterr()
    assert captured.out == 'pod "web" deleted from default namespace\n'
    assert "timed out waiting for pod/web to run: ErrImagePull: minipod describe pod web\n" in captured.err


def test_without_attach_it_is_created_and_detached_it_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with fake_agent(tmp_path) as agent:
        Pod(agent)
        assert minipod_command(agent.paths, "run", "web", "--image=x", "-n", "team", "--save-config") == 0
        assert (agent.requests[0]["namespace"], agent.requests[0]["save_config"]) == ("team", True)
        assert capfd.readouterr().out == "pod/web created\n"
        agent.handlers["run"] = lambda peer, _: peer.ok(pods=[{"name": "web"}])
        assert minipod_command(agent.paths, "run", "web", "--image=x", "-d", "--until=ready", "--replace") == 0
        asked = agent.requests[1]
        assert (asked["until"], asked["detach"], asked["replace"]) == ("ready", True, True)
        assert json.loads(asked["files"][0]["text"])["kind"] == "Pod"
        assert capfd.readouterr().out == "pod/web\n"
