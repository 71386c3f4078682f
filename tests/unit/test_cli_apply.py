"""apply, create and replace: what the agent is asked, what is printed, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from minipod.cli.main import guarded
from tests.unit.cli_fakes import Object, Peer, fake_agent, minipod_command

CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {k: v}\n"
Ask = Callable[..., tuple[Object, str, str]]


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "objects.yaml"
    path.write_text(CONFIG_MAP)
    return str(path)


@pytest.fixture
def ask(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Ask:
    """The request that one command line makes, and what it prints of the answer."""

    def command(*words: str, events: tuple[Object, ...] = ()) -> tuple[Object, str, str]:
        def answer(peer: Peer, _request: Object) -> None:
            for event in events:
                peer.send(event)
            peer.ok()

        with fake_agent(tmp_path) as agent:
            agent.handlers["apply"] = answer
            assert minipod_command(agent.paths, *words) == 0, words
            captured = capfd.readouterr()
            return agent.requests[0], captured.out, captured.err

    return command


def test_every_option_is_in_the_request(ask: Ask, manifest: str) -> None:
    cases: tuple[tuple[str, Object], ...] = (
        ("apply -f F", {"mode": "apply", "dry_run": False, "validation": "strict", "force": False, "prune": None}),
        ("apply F --dry-run=server", {"dry_run": True}),
        ("apply --dry-run -f F", {"dry_run": True}),
        ("apply --validate -f F", {"validation": "strict"}),
        ("apply --validate=warn -f F", {"validation": "warn"}),
        ("apply --validate=false -f F", {"validation": "ignore"}),
        ("apply -l a=b -f F", {"selector": "a=b"}),
        ("apply -o yaml -f F", {"objects": True}),
        ("apply -o name -f F", {"objects": False}),
        ("apply --force --grace-period=0 -f F", {"force": True, "grace_period": 1}),
        ("apply --prune --all --wait --timeout=5s -f F", {"prune": {"selector": "", "kinds": []}, "wait": True}),
        ("apply --prune -l a --prune-allowlist=core/v1/Pod F", {"prune": {"selector": "a", "kinds": ["core/v1/Pod"]}}),
        ("create -f F -l a=b --save-config", {"mode": "create", "selector": "a=b", "save_config": True}),
        ("create -f F --dry-run=server", {"mode": "create", "dry_run": True}),
        ("replace F --force --timeout=1m", {"mode": "replace", "force": True, "grace_period": None, "timeout_s": 60}),
        ("replace F --save-config", {"save_config": True, "force": False}),
        ("create namespace team --save-config", {"mode": "create", "save_config": True}),
    )  # fmt: skip
    for line, wanted in cases:
        request, _, _ = ask(*(manifest if word == "F" else word for word in line.split()))
        assert {key: request[key] for key in wanted} == wanted, line


WRONG: tuple[tuple[str, str], ...] = (
    ("apply", "apply: which manifest?"),
    ("apply -f /nonexistent/*.yaml", "/nonexistent/*.yaml: no file matches this pattern"),
    ("apply -f x --server-side", "--server-side: minipod keeps no owners of fields"),
    ("apply -f x --force-conflicts", "--force-conflicts only works with --server-side"),
    ("apply -f x --overwrite=false", "--overwrite=false: "),
    ("apply -f x --force --dry-run=server", "--dry-run=server cannot be used with --force"),
    ("apply -f x --prune", "--prune: of what? --all, or the labels"),
    ("apply -f x --prune --all -l a=b", "cannot set --all and --selector at the same time"),
    ("apply -f x --prune --all --force", "--force cannot be used with --prune"),
    ("apply -f x --all", "--all goes with --prune"),
    ("apply -f x --prune-allowlist=core/v1/Pod", "--prune-allowlist goes with --prune"),
    ("apply -f x --wait", "minipod wait --for=condition=Ready"),
    ("apply -f x --timeout=1s", "--timeout must have --force or --prune specified"),
    ("apply -f x --cascade=maybe", "argument --cascade: invalid choice: 'maybe'"),
    ("apply -f x -k y", "only one of -f or -k can be specified"),
    ("apply -k /nonexistent", "-k /nonexistent: not a directory"),
    ("apply -f x -o wide", 'unable to match a printer suitable for the output format "wide"'),
    ("apply -f x -o xml", 'unable to match a printer suitable for the output format "xml"'),
    ("replace -f x --grace-period=3", "--grace-period must have --force specified"),
    ("replace -f x --timeout=3s", "--timeout must have --force specified"),
    ("replace -f x --timeout=-3s --force", "--timeout must not be negative"),
    ("replace -f x --force --dry-run=client", "--dry-run can not be used when --force is set"),
    ("create -f x configmap c", "-f cannot be combined with an object to be made"),
    ("create -f x --from-literal=a=b", "--from-literal goes with create configmap, create secret generic"),
    ("create configmap c --type=x", "--type goes with create secret generic"),
    ("create namespace n --cert=x", "--cert goes with create secret tls"),
    ("create configmap c -l a=b", "-l goes with -f"),
    ("create deployment web --image=x -- ls", "create deployment: minipod runs Pods"),
    ("create -f job -l a", "job: no such file or directory"),
    ("create --dry-run=client job web --image=x", "create job: minipod runs Pods"),
    ("create deployment web", "create deployment: minipod runs Pods, nothing that makes Pods: minipod run NAME"),
    ("create service clusterip web", "create service: minipod has no Services"),
    ("create sa web", "create sa: minipod has no users and no roles"),
    ("create thing web", "create thing: minipod makes configmap, secret and namespace of words"),
)


def test_what_is_wrong_is_one_line_and_exit_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for line, wanted in WRONG:
        assert guarded(line.split()) == 2, line
        errors = capsys.readouterr().err
        assert wanted in errors, line
        assert errors.count("\n") == 1, line


def applied(name: str, result: str, kind: str = "ConfigMap", **more: object) -> Object:
    return {"event": "applied", "kind": kind, "namespace": "default", "name": name, "result": result, **more}


def test_results_are_printed_as_kubectl_prints_them(ask: Ask, manifest: str) -> None:
    events = (
        {"event": "deleted", "kind": "Pod", "namespace": "default", "name": "web"},
        applied("c", "configured", object={"kind": "ConfigMap", "metadata": {"name": "c"}}),
        applied("web", "created", "Pod", object={"kind": "Pod", "metadata": {"name": "web"}}),
    )
    server, gone = " (server dry run)", 'pod "web" deleted from default namespace\n'
    first, second = "kind: ConfigMap\nmetadata:\n  name: c\n", "kind: Pod\nmetadata:\n  name: web\n"
    cases = (
        ("apply", f"{gone}configmap/c configured\npod/web created\n"),
        ("apply --dry-run=server", f"{gone}configmap/c configured{server}\npod/web created{server}\n"),
        ("apply --dry-run=client -o name", "configmap/c\npod/web\n"),
        ("create -o yaml", f"{first}---\n{second}"),
        ("apply -o jsonpath={.items[*].metadata.name}", "c web"),
        ("replace -o jsonpath={.metadata.name}", "cweb"),
    )  # fmt: skip
    for line, wanted in cases:
        assert ask(*line.split(), "-f", manifest, events=events)[1] == wanted, line
    listed = json.loads(ask("apply", "-o", "json", "-f", manifest, events=events)[1])
    assert (listed["kind"], len(listed["items"])) == ("List", 2)


def test_a_dry_run_of_the_client_needs_no_agent(manifest: str, capsys: pytest.CaptureFixture[str]) -> None:
    cases = (
        (f"create -f {manifest} --dry-run=client", "configmap/c created (dry run)\n"),
        (f"replace -f {manifest} --dry-run=client -o name", "configmap/c\n"),
        (f"create -f {manifest} --dry-run=client -o jsonpath={{.metadata.namespace}}", "default"),
        ("create namespace team --dry-run=client", "namespace/team created (dry run)\n"),
        ("create cm c --from-literal=a=b --dry-run=client -o jsonpath={.data.a}", "b"),
    )
    for line, wanted in cases:
        assert guarded([*line.split(), "--run-dir", "/nonexistent", "--data-dir", "/nonexistent"]) == 0
        assert capsys.readouterr().out == wanted, line


def test_a_quoted_pattern_means_the_files_that_match(ask: Ask, tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yaml", "c.txt", "[x].yaml"):
        (tmp_path / name).write_text(CONFIG_MAP)
    cases = (
        ("?.yaml", ["a.yaml", "b.yaml"]),
        ("[ac].*", ["a.yaml", "c.txt"]),
        ("[x].yaml", ["[x].yaml"]),
    )
    for pattern, wanted in cases:
        request, _, _ = ask("apply", "-f", f"{tmp_path}/{pattern}")
        assert [file["name"] for file in request["files"]] == [f"{tmp_path}/{name}" for name in wanted], pattern


def test_kustomize_is_run_where_there_is_one(
    ask: Ask, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    assert guarded(["apply", "-k", str(tmp_path)]) == 2
    assert f"kustomize build {tmp_path} | minipod apply -f -" in capfd.readouterr().err
    for name, words in (("kubectl", "kustomize"), ("kustomize", "build")):
        tool = tools / name
        tool.write_text(f'#!/bin/sh\n[ "$1" = {words} ] && [ -d "$2" ] || exit 9\necho made by {name}\n')
        tool.chmod(0o755)
        request, _, _ = ask("apply", "-k", str(tmp_path))
        assert request["files"] == [{"name": f"kustomize build {tmp_path}", "text": f"made by {name}\n"}]
    tool.write_text("#!/bin/sh\necho no kustomization >&2; exit 1\n")
    assert guarded(["create", "-k", str(tmp_path)]) == 2
    assert capfd.readouterr().err == f"error: -k {tmp_path}: no kustomization\n"
