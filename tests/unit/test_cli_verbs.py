"""get, describe, events, delete, wait, version, gc against a fake agent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from minipod.cli.finding import Finding
from minipod.cli.show.event_columns import interval
from minipod.cli.verbs.check import render
from tests.unit.cli_fakes import Object, Peer, event, fake_agent, minipod_command, pod, table_event

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """One command line against an agent with two pods, or with the handlers given."""

    def command(*words: str, **handlers: Callable[[Peer, Object], None]) -> tuple[int, str, str]:
        with fake_agent(tmp_path) as agent:
            agent.serve_pods(pod(), pod("db"))
            agent.handlers |= handlers
            status = minipod_command(agent.paths, *words)
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return command


def test_get_prints_the_agents_table(run: Run) -> None:
    status, out, err = run("get", "pods")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "NAME   READY   STATUS    RESTARTS   AGE",
        "web    1/1     Running   0          5s",
        "db     1/1     Running   0          5s",
    ]


def test_get_without_headers_and_by_name(run: Run) -> None:
    assert run("get", "pod", "web", "--no-headers")[1] == "web   1/1   Running   0     5s\n"


def test_get_says_what_is_not_there(run: Run) -> None:
    assert run("get", "pod", "nope") == (1, "", 'error: pods "nope" not found\n')


def test_get_of_nothing_says_so_on_stderr(run: Run) -> None:
    def nothing(peer: Peer, _request: Object) -> None:
        peer.send({"event": "table", "columns": ["NAME"], "rows": []})
        peer.ok()

    assert run("get", "po", get=nothing) == (0, "", "No resources found in default namespace.\n")
    assert run("get", "po", "-A", get=nothing) == (0, "", "No resources found\n")


def test_get_where_no_agent_ever_ran_starts_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from minipod.paths import Paths

    paths = Paths(f"{tmp_path}/root", f"{tmp_path}/state")
    assert minipod_command(paths, "get", "pods") == 0
    assert capfd.readouterr().err == "No resources found in default namespace.\n"
    assert minipod_command(paths, "get", "pod", "web") == 1
    assert capfd.readouterr().err == 'error: pods "web" not found\n'
    assert list(tmp_path.iterdir()) == []


def test_get_asks_the_agent_for_what_is_selected(run: Run) -> None:
    asked: list[Object] = []

    def get(peer: Peer, request: Object) -> None:
        asked.append(request)
        columns: list[str] = ["NAME", "TIER", "LABELS"]
        peer.send(table_event(columns, [["web", "", "app=web"]], [("web", "uid-web")]))
        peer.send({"event": "bookmark", "resource_version": "1"})
        peer.send(table_event(columns, [["db", "", "app=db"]], [("db", "uid-db")]))
        peer.ok()

    words = ("-l", "app=db", "--field-selector", "status.phase=Running", "-L", "tier", "--show-labels", "--watch-only")
    assert run("get", "pods", *words, get=get)[1] == "NAME   TIER   LABELS\ndb            app=db\n"
    wanted = {"selector": "app=db", "field_selector": "status.phase=Running", "label_columns": ["tier"]}
    assert wanted.items() <= asked[0].items()
    assert (asked[0]["show_labels"], asked[0]["watch"]) == (True, True)


def test_get_sorts_rows_by_a_field_of_their_objects(run: Run) -> None:
    assert run("get", "pods", "--sort-by=.metadata.name", "--no-headers")[1].split()[0::5] == ["db", "web"]
    assert run("get", "pods", "--sort-by=.metadata.name", "-o", "name")[1] == "pod/db\npod/web\n"


def test_get_formats(run: Run) -> None:
    assert run("get", "pods", "-o", "name")[1] == "pod/web\npod/db\n"
    assert json.loads(run("get", "pod", "web", "-o", "json")[1]) == pod()
    listed = json.loads(run("get", "pods", "-o", "json")[1])
    assert (listed["kind"], len(listed["items"])) == ("List", 2)
    assert run("get", "pod", "web", "-o", "yaml")[1].startswith("apiVersion: v1\nkind: Pod\nmetadata:\n")
    assert run("get", "pods", "-o", "jsonpath={.items[*].metadata.name}")[1] == "web db"


def test_a_watch_prints_the_header_once(run: Run) -> None:
    def change(peer: Peer, request: Object) -> None:
        assert request["watch"]
        for status in ("Pending", "Running"):
            peer.send(table_event(["NAME", "STATUS"], [["web", status]], [("web", "uid-web")]))
        peer.ok()

    assert run("get", "pods", "-w", get=change)[1] == "NAME   STATUS\nweb    Pending\nweb    Running\n"


def tell_event(peer: Peer, request: Object) -> None:
    peer.send({"event": "object", "type": "ADDED", "object": event()})
    peer.ok()


def test_events_cannot_steer_the_terminal(run: Run) -> None:
    status, out, _ = run("events", "--for", "pod/web", events=tell_event)
    assert status == 0
    assert out.splitlines()[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert out.splitlines()[1].endswith("Normal   Started   Pod/web   Container^[[31m started")


def test_no_events_is_said_on_stderr(run: Run) -> None:
    assert run("events", events=lambda peer, _: peer.ok()) == (0, "", "No events found in default namespace.\n")


def test_repeated_events_show_how_often() -> None:
    now = 1767323105.0 + 30  # 2026-01-02T03:05:35Z
    assert interval(event(count=3), now) == "30s (x3 over 90s)"
    assert interval(event(), now) == "90s"
    assert interval({}, now) == "<unknown>"


def test_describe_has_kubectls_layout(run: Run) -> None:
    status, out, _ = run("describe", "pod", "web", events=tell_event)
    lines = out.splitlines()
    assert status == 0
    assert lines[:2] == ["Name:         web", "Namespace:    default"]
    for words in ("Image: busybox", "State: Running", "Restart Count: 0", "Volumes: <none>", "QoS Class:"):
        assert words.split() in [line.split() for line in lines], words
    assert lines[lines.index("Events:") + 1].split() == ["Type", "Reason", "Age", "From", "Message"]
    assert "spec.containers{app}: Container" in lines[-1]


@pytest.mark.parametrize("words", [("describe", "pod", "web"), ("events",)])
def test_events_have_one_order_and_one_clock(run: Run, words: tuple[str, ...]) -> None:
    """The scheduler counts microseconds, the kubelet seconds: within a second what was written first comes first."""

    def tell(peer: Peer, _: Object) -> None:
        meta: Object = {"name": "e", "namespace": "default"}
        pulled = event() | {"reason": "Pulled", "metadata": {**meta, "resourceVersion": "10"}}
        times = {"lastTimestamp": None, "firstTimestamp": None, "eventTime": "2026-01-02T03:05:05.900000Z"}
        scheduled = event() | {"reason": "Scheduled", **times, "metadata": {**meta, "resourceVersion": "9"}}
        for each in (event() | {"metadata": {**meta, "resourceVersion": "11"}}, pulled, scheduled):
            peer.send({"event": "object", "type": "ADDED", "object": each})
        peer.ok()

    lines = [line.split() for line in run(*words, events=tell)[1].splitlines()[-3:]]
    at = 1 if words[0] == "describe" else 2
    assert [line[at] for line in lines] == ["Scheduled", "Pulled", "Started"]
    ages = {line[2 if words[0] == "describe" else 0] for line in lines}
    assert len(ages) == 1


def delete_all(peer: Peer, request: Object) -> None:
    for name in request["names"]:
        if name == "nope":
            peer.fail("NotFound", 'pods "nope" not found')
            return
        peer.send({"event": "deleted", "name": name})
    peer.ok()


@pytest.mark.parametrize(
    ("words", "grace_period", "force", "text"),
    [
        ([], None, False, 'pod "web" deleted from default namespace\n'),
        (["--grace-period=5"], 5, False, 'pod "web" deleted from default namespace\n'),
        (["--now"], 1, False, 'pod "web" deleted from default namespace\n'),
        (["--grace-period=0"], 1, False, 'pod "web" deleted from default namespace\n'),
        (["--grace-period=0", "--force"], 0, True, 'pod "web" force deleted from default namespace\n'),
        (["-o", "name"], None, False, "pod/web\n"),
    ],
)
def test_delete_asks_for_the_grace_period_that_kubectl_would(
    run: Run, words: list[str], grace_period: int | None, force: bool, text: str
) -> None:
    asked: list[Object] = []

    def record(peer: Peer, request: Object) -> None:
        asked.append(request)
        delete_all(peer, request)

    status, out, _ = run("delete", "pod", "web", *words, delete=record)
    assert (status, out) == (0, text)
    assert (asked[0]["grace_period"], asked[0]["force"], asked[0]["names"]) == (grace_period, force, ["web"])


def test_delete_of_what_is_not_there(run: Run) -> None:
    assert run("delete", "pod/nope", delete=delete_all) == (1, "", 'error: pods "nope" not found\n')
    assert run("delete", "pod/nope", "--ignore-not-found", delete=delete_all) == (0, "", "")


def test_delete_all_and_by_manifest_and_by_label(run: Run, tmp_path: Path) -> None:
    manifest = tmp_path / "pods.yaml"
    manifest.write_text(
        "kind: Pod\nmetadata: {name: web}\n---\nkind: Service\n---\nkind: Pod\nmetadata: {name: x, namespace: shop}"
    )
    gone = 'pod "web" deleted from default namespace\npod "db" deleted from default namespace\n'
    assert run("delete", "pods", "--all", delete=delete_all)[1] == gone
    assert run("delete", "-l", "app=db", delete=delete_all)[1] == 'pod "db" deleted from default namespace\n'
    status, out, err = run("delete", "-f", str(manifest), delete=delete_all)
    assert (status, out) == (0, 'pod "web" deleted from default namespace\npod "x" deleted from shop namespace\n')
    assert "minipod keeps no such objects" in err


def test_pods_of_several_namespaces_begin_to_end_at_once(run: Run, tmp_path: Path) -> None:
    manifest = tmp_path / "pods.yaml"
    pods = "---\n".join(f"kind: Pod\nmetadata: {{name: p, namespace: {name}}}\n" for name in ("a", "b"))
    manifest.write_text(f"kind: ConfigMap\nmetadata: {{name: c}}\n---\n{pods}")
    all_asked = threading.Barrier(2)
    asked: list[str] = []

    def both(peer: Peer, request: Object) -> None:
        asked.append(request["kind"])
        if request["kind"] == "pods":
            all_asked.wait(10)
        delete_all(peer, request)

    status, out, err = run("delete", "-f", str(manifest), delete=both)
    assert (status, err) == (0, "")
    assert out == "".join(
        f"{what} deleted from {name} namespace\n"
        for what, name in (('pod "p"', "a"), ('pod "p"', "b"), ('configmap "c"', "default"))
    )
    assert asked == ["pods", "pods", "configmaps"]


class Changing:
    """`get` whose watch sends what is there now, then the changes, one after another."""

    def __init__(self, now: Object | None, *changes: tuple[str, Object]) -> None:
        self.now = now
        self.changes = changes

    def __call__(self, peer: Peer, request: Object) -> None:
        if not request["watch"]:
            if self.now is None:
                peer.fail("NotFound", 'pods "web" not found')
                return
            peer.send({"event": "object", "type": "ADDED", "object": self.now})
            peer.ok()
            return
        if self.now is not None:
            peer.send({"event": "object", "type": "ADDED", "object": self.now})
        peer.send({"event": "bookmark", "resource_version": "1"})
        for kind, item in self.changes:
            peer.send({"event": "object", "type": kind, "object": item})
        peer.receive()


def ready(value: str) -> Object:
    return pod(conditions=[{"type": "Ready", "status": value}])


@pytest.mark.parametrize(
    ("wanted", "get", "status", "text"),
    [
        ("condition=Ready", Changing(ready("True")), 0, "pod/web condition met\n"),
        ("condition=Ready", Changing(ready("False"), ("MODIFIED", ready("True"))), 0, "pod/web condition met\n"),
        ("condition=ready=false", Changing(ready("False")), 0, "pod/web condition met\n"),
        ("condition=Ready", Changing(ready("False")), 1, "error: timed out waiting for the condition on pods/web\n"),
        ("condition=Ready", Changing(None), 1, 'error: pods "web" not found\n'),
        ("condition=Ready", Changing(ready("False"), ("DELETED", pod())), 1, 'error: pods "web" not found\n'),
        ("delete", Changing(None), 0, ""),
        ("delete", Changing(pod(), ("MODIFIED", pod()), ("DELETED", pod())), 0, "pod/web condition met\n"),
        ("create", Changing(None, ("ADDED", pod())), 0, "pod/web condition met\n"),
        ("jsonpath={.status.phase}=Running", Changing(pod()), 0, "pod/web condition met\n"),
        ("jsonpath='{.status.podIP}'", Changing(pod(), ("MODIFIED", pod(podIP="1"))), 0, "pod/web condition met\n"),
    ],
)
def test_wait(run: Run, wanted: str, get: Changing, status: int, text: str) -> None:
    timeout = "50ms" if "timed out" in text else "20s"
    result = run("wait", "--for", wanted, "pod/web", "--timeout", timeout, get=get)
    assert (result[0], result[1] + result[2]) == (status, text)


def test_wait_for_several_things_waits_for_each(run: Run) -> None:
    words = ("wait", "pod/web", "--for=condition=Ready", "--for=jsonpath={.status.phase}=Running", "--timeout=50ms")
    assert run(*words, get=Changing(ready("True")))[1] == "pod/web condition met\npod/web condition met\n"
    failed = run(*words, get=Changing(pod(phase="Pending", conditions=[{"type": "Ready", "status": "True"}])))
    assert failed == (1, "pod/web condition met\n", "error: timed out waiting for the condition on pods/web\n")


def test_a_condition_that_speaks_of_an_older_spec_is_waited_for(run: Run) -> None:
    old = ready("True")
    old["metadata"]["generation"] = 2
    old["status"]["conditions"][0]["observedGeneration"] = 1
    words = ("wait", "pod/web", "--for=condition=Ready", "--timeout=50ms")
    assert run(*words, get=Changing(old))[0] == 1
    old["status"]["conditions"][0]["observedGeneration"] = 2
    assert run(*words, get=Changing(old))[0] == 0


def test_wait_with_timeout_0_looks_once(run: Run) -> None:
    result = run("wait", "--for=condition=Ready", "pod/web", "--timeout=0", get=Changing(ready("False")))
    assert result == (1, "", "error: condition not met for pods/web\n")


def test_version_of_client_and_agent(run: Run) -> None:
    from minipod import __version__

    out = run("version", status=lambda peer, _: peer.ok(version="9.9"))[1]
    assert out == f"Client Version: {__version__}\nAgent Version: 9.9\n"
    assert run("version", "--client", "-o", "json")[1] == f'{{\n    "clientVersion": "{__version__}"\n}}\n'


def test_gc_shows_what_it_found(run: Run) -> None:
    def collect(peer: Peer, request: Object) -> None:
        assert request["dry_run"]
        peer.send({"event": "found", "message": "network namespace web"})
        peer.ok()

    assert run("gc", "--dry-run", gc=collect)[1] == "network namespace web (dry run)\n"
    assert run("gc", gc=lambda peer, _: peer.ok())[1] == "nothing was left behind\n"


def test_check_shows_why_and_how_for_what_is_missing() -> None:
    findings = [Finding("root", True, "uid 0"), Finding("overlay", False, "x", "needed for y", "modprobe overlay")]
    assert render(findings) == (
        "root     ok       uid 0\noverlay  missing  x\n    why: needed for y\n    how: modprobe overlay\n"
        "minipod run cannot work here: overlay\n"
    )


def test_check_runs_without_root_and_leaves_nothing(run: Run) -> None:
    status, out, err = run("check", "-o", "json")
    findings = {entry["name"]: entry["word"] for entry in json.loads(out)}
    assert status in (0, 1)
    assert err == ""
    assert findings["net namespace"] == "ok"
    assert findings["seccomp filter"] == "ok"


def test_get_shows_what_there_is_and_shows_what_is_not(run: Run) -> None:
    status, out, err = run("get", "pod", "nope", "web", "--no-headers")
    assert (status, out.split()[0], err) == (1, "web", 'error: pods "nope" not found\n')
    assert run("get", "pod", "nope", "web", "-o", "name") == (1, "pod/web\n", 'error: pods "nope" not found\n')


def test_describe_may_leave_out_the_events(run: Run) -> None:
    assert "Events" not in run("describe", "pod", "web", "--show-events=false", events=tell_event)[1]


def test_exec_shows_which_container_was_chosen(run: Run) -> None:
    def get(peer: Peer, _request: Object) -> None:
        peer.send({"event": "object", "type": "ADDED", "object": pod(containers=("app", "side"))})
        peer.ok()

    def execute(peer: Peer, request: Object) -> None:
        assert request["container"] == "app"
        peer.send({"event": "started"})
        peer.close_fds()
        peer.ok(exit_code=4)

    assert run("exec", "web", "--", "x", get=get, exec=execute) == (
        4,
        "",
        'Defaulted container "app" out of: app, side\n',
    )


def test_stop_pods_waits_and_names_what_was_stopped(run: Run) -> None:
    asked: list[Object] = []

    def halt(peer: Peer, request: Object) -> None:
        asked.append(request)
        peer.ok(stopped=["default/web"])

    assert run("agent", "stop-pods", "--grace-period", "9", halt=halt) == (0, "pod/default/web stopped\n", "")
    assert asked[0]["grace_period"] == 9


def test_start_pods_is_silent(run: Run) -> None:
    assert run("agent", "start-pods", resume=lambda peer, _: peer.ok()) == (0, "", "")


@pytest.mark.parametrize("words", [("start-pods", "--grace-period=1"), ("stop-pods", "--grace-period=-1"), ("halt",)])
def test_wrong_words_for_the_agent_are_refused(run: Run, words: tuple[str, ...]) -> None:
    status, out, err = run("agent", *words)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
