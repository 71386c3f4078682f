"""No option of any verb is accepted without effect: a walk over all of them, and kubectl's that are not minipod's."""

from __future__ import annotations

import argparse
import io
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.cli import foreign
from minipod.cli.commands import VALUE_OPTIONS, VERBS
from minipod.cli.options import load_verb, parser_for
from minipod.cli.reference import GLOBAL, is_shown
from tests.unit.cli_fakes import FakeAgent, Object, Peer, event, fake_agent, minipod_command, pod
from tests.unit.option_rows import ROWS

HERE = Path(__file__).parent


def options(parser: argparse.ArgumentParser, verb: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """`VERB OPTION` by its longest name, and all names; sub-verbs too, without the global options."""
    shared = {id(action) for group in parser._action_groups if group.title == GLOBAL for action in group._group_actions}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from options(inner, f"{verb} {name}")
        elif action.option_strings and is_shown(action) and id(action) not in shared:
            yield f"{verb} {max(action.option_strings, key=len)}", tuple(action.option_strings)


ALL = dict(found for verb in VERBS for found in options(parser_for(verb, load_verb(verb)), verb))


def test_every_option_has_a_row_that_shows_its_effect() -> None:
    assert sorted(ALL.keys() - ROWS.keys()) == [], "say in tests/unit/option_rows.py how its effect is shown"
    assert sorted(ROWS.keys() - ALL.keys()) == [], "there is no such option any more: drop its row"


@pytest.mark.parametrize("file", sorted({row for row in ROWS.values() if isinstance(row, str)}))
def test_a_file_of_tests_uses_the_options_that_it_shows(file: str) -> None:
    text = (HERE / file).read_text()
    shown = [name for name, row in ROWS.items() if row == file]
    unused = [name for name in shown if not any(uses(text, option) for option in ALL.get(name, ()))]
    assert unused == []


def uses(text: str, option: str) -> bool:
    """In quotes, in a group of short options, or among the words of a line."""
    forms = [f'"{option}"', f'"{option}=', f"'{option}'", f" {option} ", f' {option}"', f'"{option} ', f"{option}="]
    if len(option) == 2:
        forms += [f'"-{letters}"' for letters in ("it", "ti") if option[1] in letters]
    return any(form in text for form in forms)


class Outcomes:
    """What a command line asks and prints; each is run once."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capfd = capfd
        self._known: dict[str, tuple[str, ...]] = {}
        for place in (folder, folder / "deeper"):
            place.mkdir(exist_ok=True)
            (place / "pod.yaml").write_text(json.dumps({**pod("web"), "status": None}))
        (folder / "deeper" / "pod.yaml").write_text(json.dumps(pod("db")))
        (folder / "env").write_text("A=b\n")

    def of(self, agent: FakeAgent, line: str) -> tuple[str, ...]:
        if line not in self._known:
            agent.requests.clear()
            status = minipod_command(agent.paths, *line.replace("{folder}", str(self._folder)).split())
            shown = self._capfd.readouterr()
            self._known[line] = (str(status), shown.out, shown.err, json.dumps(agent.requests, sort_keys=True))
        return self._known[line]


def serve(agent: FakeAgent) -> None:
    def get_events(peer: Peer, request: Object) -> None:
        if request["output"] == "object":
            peer.send({"event": "object", "type": "ADDED", "object": event()})
        if request.get("watch"):
            peer.send({"event": "bookmark", "resource_version": "1"})
        peer.ok()

    def delete(peer: Peer, request: Object) -> None:
        if "nope" in request["names"]:
            peer.fail("NotFound", 'pods "nope" not found')
        elif "slow" in request["names"]:
            threading.Event().wait(0.1)
        for name in request["names"]:
            peer.send({"event": "deleted", "name": name})
        peer.ok()

    def applied(peer: Peer, _: Object) -> None:
        peer.send(
            {
                "event": "applied",
                "kind": "Pod",
                "name": "web",
                "namespace": "default",
                "result": "created",
                "object": pod(),
            }
        )
        peer.ok()

    agent.serve_pods(pod(), pod("db"), pod("two", containers=("a", "b")), ends_watches=True)
    answers: Object = {"pods": [], "before": {}, "after": {"a": "b"}, "object": pod(), "changed": True}
    own = {**agent.handlers, "events": get_events, "delete": delete, "apply": applied}
    agent.handlers = defaultdict(lambda: lambda peer, _: peer.ok(**answers), own)


def test_no_option_is_accepted_without_effect(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    monkeypatch.setattr("os.execv", lambda _path, command: print(command))  # serve and kubeconfig end so
    monkeypatch.setattr("os.geteuid", lambda: 0)
    without: list[str] = []
    with fake_agent(tmp_path / "host") as agent:
        serve(agent)
        outcomes = Outcomes(tmp_path, capfd)
        for row in ROWS.values():
            if isinstance(row, str):
                continue
            line, words = row
            head, dashes, command = line.partition(" -- ")
            with_it = f"{head} {words}{dashes}{command}"
            if outcomes.of(agent, line) == outcomes.of(agent, with_it):
                without.append(with_it)
            elif any(word in outcomes.of(agent, with_it)[2] for word in ("unrecognized arguments", "internal error")):
                without.append(f"fails: {with_it}")
    assert without == [], "\n".join(without)


# -- kubectl's options that are not minipod's ---------------------------------------------------------------------


def test_an_option_of_kubectl_is_accepted_or_refused_as_the_table_says(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = {"get": "get pod web -o name", "label": "label pod web a=b", "cp": "cp nope /tmp", "set": "set image"}
    lines |= {"logs": "logs nope", "exec": "exec nope -- true", "diff": "diff", "api-resources": "api-resources"}
    wrong: list[str] = []
    with fake_agent(tmp_path) as agent:
        serve(agent)
        for row in foreign.TABLE:
            verb = next((verb for verb in row.verbs if verb in VERBS), None) or ("get" if not row.verbs else None)
            if verb is None:
                continue
            for name in row.names:
                words = lines[verb].split()
                before = [minipod_command(agent.paths, *words), capfd.readouterr()]
                words[1:1] = [name, "value"] if row.takes else [name]
                after = [minipod_command(agent.paths, *words), capfd.readouterr()]
                refused = after == [2, ("", f"error: {name}: {row.why}\n")]
                if refused == row.accepted or (row.accepted and after != before):
                    wrong.append(name)
    assert wrong == []


def test_no_row_hides_an_option_that_a_verb_has_itself() -> None:
    own = {(name.split()[0], option) for name, names in ALL.items() for option in names}
    hidden = [(verb, name) for row in foreign.TABLE for verb in row.verbs for name in row.names if (verb, name) in own]
    assert hidden == []


def test_kubectls_global_options_stand_before_the_verb_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    globals_ = {name for row in foreign.TABLE if not row.verbs and row.takes for name in row.names}
    assert globals_ <= set(VALUE_OPTIONS)
    with fake_agent(tmp_path) as agent:
        from minipod.cli.main import guarded

        places = ["--root", agent.paths.root, "--state", agent.paths.state]
        assert guarded(["--context", "prod", *places, "get", "pod", "web", "-o", "name", "-v=3"]) == 0
    assert capfd.readouterr() == ("pod/web\n", "")


def test_warnings_are_errors_where_asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def warned(peer: Peer, _: Object) -> None:
        peer.send({"event": "warning", "message": "unknown field"})
        peer.ok()

    (tmp_path / "pod.yaml").write_text("{}")
    with fake_agent(tmp_path) as agent:
        agent.handlers["apply"] = warned
        assert minipod_command(agent.paths, "apply", "-f", f"{tmp_path}/pod.yaml") == 0
        assert minipod_command(agent.paths, "apply", "-f", f"{tmp_path}/pod.yaml", "--warnings-as-errors") == 1
    assert capfd.readouterr().err.endswith("warning: unknown field\nerror: 1 warning received\n")
