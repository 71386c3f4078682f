"""What is offered at the end of a command line, and that the shells' scripts ask for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.cli import complete
from minipod.cli.commands import VERBS
from minipod.cli.main import guarded
from minipod.cli.verbs.completion import BASH, FISH, ZSH
from minipod.runtime.images.store import ImageStore
from tests.conftest import CHECKOUT
from tests.unit.cli_fakes import FakeAgent, Object, Peer, fake_agent, pod, table_event


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    """Pods web and db, a configmap in each namespace that is asked for."""
    with fake_agent(tmp_path) as agent:
        agent.serve_pods(pod("web", ("app", "side")), pod("db"))
        pods = agent.handlers["get"]

        def get(peer: Peer, request: Object) -> None:
            if request["kind"] == "pods":
                pods(peer, request)
                return
            names = {"configmaps": [f"of-{request['namespace']}"], "namespaces": ["default", "team"]}
            found = names.get(request["kind"], [])
            peer.send(table_event(["NAME"], [[name] for name in found], [(name, "u") for name in found]))
            peer.ok()

        agent.handlers["get"] = get
        monkeypatch.setenv("MINIPOD_RUN_DIR", agent.paths.root)
        monkeypatch.setenv("MINIPOD_DATA_DIR", agent.paths.state)
        yield agent


OFFERS: list[tuple[str, str]] = [
    # what is typed, `_` for a word that has just begun -> words, and flags in brackets
    ("de", "describe debug delete"),
    ("help de", "describe debug delete"),
    ("--na", "--namespace"),
    ("-n _", "default team"),
    ("-n t", "team"),
    ("--config _", "[files]"),
    ("get po", "pods"),
    ("get pods _", "web db"),
    ("get po web _", "db"),
    ("get cm _", "of-default"),
    ("get cm -n team _", "of-team"),
    ("-n team get cm _", "of-team"),
    ("describe cm/", "cm/of-default"),
    ("describe cm/x cm/", "cm/of-default"),
    ("delete pod/w", "pod/web"),
    ("get services _", ""),
    ("edit configmap of-", "of-default"),
    ("logs _", "web db"),
    ("logs web _", "app side"),
    ("logs web -c s", "side"),
    ("logs web --container=", "--container=app --container=side"),
    ("logs web --container=a", "--container=app"),
    ("logs web --time", "--timestamps"),
    ("logs web --tail _", ""),
    ("exec -it web -c _", "app side"),
    ("exec web -- l", ""),
    ("exec web _", ""),
    ("cp w", "web: [files,more]"),
    ("cp web:/x _", "web: db: [files,more]"),
    ("cp web:/", ""),
    ("wait pod/", "pod/web pod/db"),
    ("wait pod/web --for c", "condition= create"),
    ("wait pod/web --for cond", "condition= [more]"),
    ("wait pod/web --for=del", "--for=delete"),
    ("events --for _", "pod/web pod/db"),
    ("top _", "pod node"),
    ("top pod w", "web"),
    ("inspect web _", "db"),
    ("run -d --until r", "running ready"),
    ("run _", "[files]"),
    ("apply -f _", "[files]"),
    ("validate -o _", "text json"),
    ("get pods -o js", "json jsonpath="),
    ("get pods -o jsonpath=", "jsonpath= [more]"),
    ("get pods -owide -o n", "name"),
    ("get pods --field-selector status.ph", "status.phase= [more]"),
    ("get --field-selector status.ph", "status.phase= [more]"),
    ("explain po", "pod [more]"),
    ("explain pod.spec.con", "pod.spec.containers [more]"),
    ("explain pod.spec.containers.im", "pod.spec.containers.image pod.spec.containers.imagePullPolicy [more]"),
    ("image l", "ls login logout load"),
    ("image rm busy", "busybox"),
    ("image load _", "[files]"),
    ("image ls -o n", "name"),
    ("image ls --run-dir _", "[files]"),
    ("images --q", "--quiet"),
    ("rmi _", "busybox"),
    ("debug web --image _", "busybox"),
    ("debug web --profile s", "sysadmin"),
    ("kube _", "down generate play"),
    ("kube play _", "[files]"),
    ("pod inspect w", "web"),
    ("agent start-", "start-pods"),
    ("completion _", "bash zsh fish"),
    ("nosuch _", ""),
]


def test_words_that_fit_are_offered(agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete.Host, "images", lambda _self: ["busybox"])
    found = []
    for line, _ in OFFERS:
        offer = complete.offered([word.replace("_", "") if word == "_" else word for word in line.split()])
        flags = ",".join(["files"] * offer.files + ["more"] * offer.more)
        found.append((line, " ".join([*(word for word, _ in offer.words), *([f"[{flags}]"] if flags else [])])))
    assert found == OFFERS


def test_every_verb_can_be_completed(agent: FakeAgent) -> None:
    for verb in VERBS:
        assert complete.offered([verb, "--verb"]).words, verb
        complete.offered([verb, ""])


def test_images_are_offered_by_the_names_that_people_type(agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    class Named:
        reference = "docker.io/library/busybox:latest"

    monkeypatch.setattr(ImageStore, "list", lambda _self: [Named])
    assert complete.offered(["rmi", ""]).words == [("busybox:latest", "")]


def test_no_agent_is_started_and_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIPOD_RUN_DIR", f"{tmp_path}/none")
    monkeypatch.setenv("MINIPOD_DATA_DIR", f"{tmp_path}/none")
    for words in (["get", "pods", ""], ["image", "rm", ""], ["explain", "x.y."], ["-n"], []):
        assert guarded(["__complete", *words]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "web" not in out
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("shell", "script"), [("bash", BASH), ("zsh", ZSH), ("fish", FISH)])
def test_scripts_are_read_by_their_shell(shell: str, script: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def completed(shell: str, script: str, tmp_path: Path) -> list[str]:
    """The lines that a shell prints where `minipod` is this checkout's."""
    program = tmp_path / "bin" / "minipod"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m minipod "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)}
    command = [shell, "-c", script] if shell != "fish" else [shell, "--no-config", "-c", script]
    done = subprocess.run(command, env=environment, cwd=tmp_path, text=True, capture_output=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["get", "po"], ["pods"]),
        (["logs", "web", "--container", "=", "s"], ["side"]),
        (["get", "pods", "--output", "="], ["wide", "yaml", "json", "name", "jsonpath="]),
        (["cp", "w"], ["web:"]),
        (["cp", "web", ":", "/x", "po"], ["pod file.yaml"]),
    ],
)
def test_bash_completes(agent: FakeAgent, tmp_path: Path, words: list[str], expected: list[str]) -> None:
    """`words` as bash splits them, at = and : too."""
    (tmp_path / "pod file.yaml").touch()
    quoted = " ".join(f"'{word}'" for word in ["minipod", *words])
    run = f"COMP_WORDS=({quoted}) COMP_CWORD={len(words)}; _minipod minipod; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    assert completed("bash", f"{BASH}\n{run}", tmp_path)[: len(expected)] == expected


def test_fish_completes(agent: FakeAgent, tmp_path: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    found = completed("fish", f"{FISH}\ncomplete -C 'minipod logs web -c '; complete -C 'minipod de'", tmp_path)
    assert [line.split("\t")[0] for line in found] == ["app", "side", "debug", "delete", "describe"]
