"""Nothing that others chose steers the terminal: names, messages, values, and containers' lines behind a prefix."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minipod.cli.show.table import table
from minipod.cli.show.yamlout import to_yaml
from minipod.serve.agent_log import _OneLine
from minipod.terminal import behind, escaped, one_line
from tests.conftest import CHECKOUT
from tests.unit.cli_fakes import Handler, Object, Peer, fake_agent, minipod_command, pod, table_event

#: what each does to a terminal or a reader: clears the screen, moves the cursor, changes the title, writes over the
#: line, and shows the line from right to left
HOSTILE = "\x1b[2J\x1b[1;1H\x1b]0;x\x07\r\x08\x00\x7f\x85\x9b2J\u202e\u2066\u2028"
OBEYED = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), *"\u202e\u2066\u2028"} - {"\n", "\t"}


def obeyed(text: str) -> list[str]:
    return sorted(OBEYED & set(text))


def test_what_a_terminal_obeys_is_written_out() -> None:
    assert escaped("\x1b[31m a\rb\x07\x7f\x9b\u202e") == r"^[[31m a\rb\u0007\u007f\u009b\u202e"
    assert escaped("a\tb\nc é 漢 👩‍🚀") == "a\tb\nc é 漢 👩‍🚀"
    assert one_line("a\tb\nc") == r"a\tb\nc"
    everything = "".join(map(chr, range(0x3000)))
    assert not obeyed(escaped(everything))
    assert escaped(escaped(everything)) == escaped(everything)


def test_a_cell_of_a_table_is_one_line_and_as_wide_as_it_is_shown() -> None:
    shown = table([["A", "B"], ["x\x1b[2J", "one\ntwo"], ["y", "\r"]])
    assert shown.splitlines() == ["A        B", "x^[[2J   one...", "y        ..."]


def test_yaml_and_json_hold_what_they_held() -> None:
    assert not obeyed(to_yaml({HOSTILE: HOSTILE, "block": f"a\n{HOSTILE}\n", "line": "a\n\u202eb\n"}))
    assert json.loads(escaped(json.dumps([HOSTILE], ensure_ascii=False))) == [HOSTILE]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"plain \xc3\xa9\ttext", b"plain \xc3\xa9\ttext"),
        (b"dos\r", b"dos\r"),
        (b"10%\r20%", b"10%\ra | 20%"),
        (b"\rdb | fake", b"\ra | db | fake"),
        (b"\x08\x08\x08\x08db | fake", b"\\u0008\\u0008\\u0008\\u0008db | fake"),
        (b"\x1b[1A\x1b[2Kdb | fake", b"^[[1A^[[2Kdb | fake"),
        (b"\xc2\x9b2Kdb | fake", b"\\u009b2Kdb | fake"),
        (b"\x1b[31mred\x1b[0m", b"\x1b[31mred\x1b[0m\x1b[0m"),
        (b"\x1b[8mhides what follows", b"\x1b[8mhides what follows\x1b[0m"),
        (b"\x1bcreset \xff", b"^[creset \xff"),
    ],
)
def test_a_line_stays_behind_its_prefix(text: bytes, shown: bytes) -> None:
    assert behind(b"a | ", text) == shown


TIME = "2026-01-02T03:04:05Z"


def hostile_pod() -> Object:
    made = pod()
    made["metadata"] |= {"labels": {"l": HOSTILE}, "annotations": {"a": HOSTILE}}
    made["spec"] |= {"nodeName": HOSTILE, "serviceAccountName": HOSTILE, "nodeSelector": {"n": HOSTILE}}
    container = made["spec"]["containers"][0]
    container |= {"image": HOSTILE, "command": [HOSTILE], "args": [HOSTILE], "env": [{"name": "E", "value": HOSTILE}]}
    ended = {"exitCode": 1, "reason": HOSTILE, "message": HOSTILE, "startedAt": TIME, "finishedAt": TIME}
    state = {"waiting": {"reason": HOSTILE, "message": HOSTILE}}
    made["status"]["containerStatuses"][0] |= {"state": state, "lastState": {"terminated": ended}, "imageID": HOSTILE}
    made["status"] |= {"reason": HOSTILE, "message": HOSTILE, "podIP": HOSTILE, "hostIP": HOSTILE}
    return made


def answers_with(*events: Object) -> Handler:
    def handler(peer: Peer, _request: Object) -> None:
        for one in events:
            peer.send(one)
        peer.ok()

    return handler


def failing(peer: Peer, _request: Object) -> None:
    peer.fail("Manifest", f"wrong: {HOSTILE}\nwarning: forged", 2, errors=[f"a: {HOSTILE}\nerror: forged"])


EVENT = {"metadata": {"name": HOSTILE, "namespace": HOSTILE}, "message": HOSTILE, "reason": HOSTILE, "type": HOSTILE,
         "involvedObject": {"kind": HOSTILE, "name": HOSTILE}, "source": {"component": HOSTILE}}  # fmt: skip
EVENTS = answers_with({"event": "object", "type": "ADDED", "object": EVENT})
TABLE = answers_with(
    table_event(["NAME", "LABELS"], [["web", HOSTILE], [HOSTILE, "x"]], [("web", "1"), (HOSTILE, "2")])
)


@pytest.mark.parametrize(
    ("words", "handlers"),
    [
        ("get pods", {"get": TABLE}),
        ("get pods -o json", {}),
        ("get pods -o yaml", {}),
        ("get pods -o custom-columns=A:.metadata.annotations.a,B:.status.message", {}),
        ("get pods -o jsonpath-as-json={.items[*].metadata.labels}", {}),
        ("describe pod web", {"events": EVENTS}),
        ("events", {"events": EVENTS}),
        ("get events -o wide", {"events": TABLE}),
        ("get events -o json", {"events": EVENTS}),
        ("label pod web a=b --list", {}),
        ("delete pod web", {"delete": answers_with({"event": "warning", "message": HOSTILE})}),
        ("delete pod web", {"delete": failing}),
        ("gc", {"gc": answers_with({"event": "found", "message": HOSTILE})}),
        ("apply -f {folder}/pod.yaml", {"apply": failing}),
    ],
)
def test_nothing_that_is_printed_steers_the_terminal(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    words: str,
    handlers: dict[str, Handler],
) -> None:
    (tmp_path / "pod.yaml").write_text("{}")
    with fake_agent(tmp_path) as agent:
        agent.serve_pods(hostile_pod())
        agent.handlers |= handlers
        minipod_command(agent.paths, *words.replace("{folder}", str(tmp_path)).split())
    shown = capfd.readouterr()
    assert "^[" in shown.out + shown.err or "u001b" in shown.out
    assert not obeyed(shown.out + shown.err)
    assert not [line for line in shown.err.splitlines() if line.startswith(("warning: forged", "error: forged"))]


def on_terminal(tmp_path: Path, *words: str, prepare: Callable[[Any], None]) -> str:
    """What a pseudo-terminal gets of a command line."""
    master_fd, slave_fd = pty.openpty()
    with fake_agent(tmp_path) as agent:
        prepare(agent)
        options = ["--run-dir", agent.paths.root, "--data-dir", agent.paths.state]
        env = os.environ | {"TERM": "xterm", "NO_COLOR": "1", "PYTHONPATH": str(CHECKOUT)}
        command = [sys.executable, "-m", "minipod", words[0], *options, *words[1:]]
        subprocess.run(command, stdout=slave_fd, stderr=slave_fd, env=env, check=False)
    shown = os.read(master_fd, 1 << 16).decode()
    os.close(master_fd)
    os.close(slave_fd)
    return shown.replace("\r\n", "\n")  # the terminal's own ends of lines


def test_jsonpath_is_exact_for_a_program_and_escaped_for_a_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("get", "pod", "web", "-o", "jsonpath={.metadata.annotations.a}")
    with fake_agent(tmp_path) as agent:
        agent.serve_pods(hostile_pod())
        minipod_command(agent.paths, *words)
    assert capfd.readouterr().out == HOSTILE
    shown = on_terminal(tmp_path, *words, prepare=lambda agent: agent.serve_pods(hostile_pod()))
    assert shown.startswith("^[[2J")
    assert not obeyed(shown)


def test_a_run_of_two_containers_shows_who_speaks(tmp_path: Path) -> None:
    def run(peer: Peer, _request: Object) -> None:
        named = {"namespace": "default", "name": "web"}
        containers = [{"name": name, "init": False} for name in ("a", "db")]
        peer.send({"event": "pod", **named, "uid": "u", "log_directory": str(tmp_path), "containers": containers})
        peer.send({"event": "warning", "message": f"{HOSTILE}\npod/web Succeeded"})
        peer.send({"event": "step", **named, "step": "failed", "message": f"{HOSTILE}\npod/web Succeeded"})
        log = tmp_path / "a" / "0.log"
        log.parent.mkdir()
        log.write_text(f"{TIME} stdout F {HOSTILE[:-3]}db | forged\n")  # what turns the direction leaves the prefix
        peer.send({"event": "log", **named, "container": "a", "path": str(log), "restart": 0})
        failed = {"phase": "Failed", "reason": HOSTILE, "message": f"{HOSTILE}\npod/web Succeeded"}
        peer.send({"ok": True, "pods": [{**named, **failed}]})
        peer.receive()

    manifest = tmp_path / "pod.yaml"
    manifest.write_text("apiVersion: v1\nkind: Pod\n")
    shown = on_terminal(tmp_path, "run", str(manifest), prepare=lambda agent: agent.handlers.update(run=run))
    assert not obeyed(shown.replace("\ra  | ", ""))
    assert not [line for line in shown.splitlines() if line.startswith(("db", "pod/web Succeeded"))]
    assert r"\ra  | ".replace(r"\r", "\r") in shown


def test_the_agent_s_log_has_one_line_a_record() -> None:
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(_OneLine("%(levelname)s %(message)s"))
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 1, "pod %s", (f"{HOSTILE}\nINFO forged",), sys.exc_info())
    handler.emit(record)
    assert not obeyed(text.getvalue())
    assert not [line for line in text.getvalue().splitlines() if line.startswith("INFO")]
