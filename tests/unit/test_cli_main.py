"""The command line's front: verbs, options, one-line errors, and what it must not import."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minipod.cli import main as cli_main
from minipod.cli import options, reference
from minipod.cli.commands import VERBS, find_verb
from minipod.cli.habits import ALIASES, HINTS
from minipod.cli.main import guarded
from minipod.cli.options import duration_s, load_verb, parse, parser_for, pod_names
from minipod.cli.trouble import problem
from minipod.errors import UsageError
from minipod.kernel import error_text
from minipod.kernel.limits import Value
from tests.conftest import CHECKOUT

HEAVY = {"msgspec", "asyncio", "typing", "pathlib", "socket", "subprocess", "yaml", "shutil", "pyroute2"}


def test_global_options_may_stand_before_and_after_the_verb() -> None:
    assert find_verb(["-n", "x", "get", "pods"]) == ("get", ["-n", "x", "pods"])
    args = parse("get", load_verb("get"), ["-n", "x", "pods", "--run-dir=/r"])
    assert (args.namespace, args.root, args.words) == ("x", "/r", ["pods"])


def test_the_old_names_of_the_places_work_and_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    args = parse("get", load_verb("get"), ["pods", "--root", "/r", "--state=/s"])
    assert (args.root, args.state, args.words) == ("/r", "/s", ["pods"])
    assert find_verb(["--root", "/r", "--state", "/s", "get"]) == ("get", ["--root", "/r", "--state", "/s"])
    shown = parser_for("get", load_verb("get")).format_help() + reference.text().partition("| global option")[0]
    assert ("--run-dir" in shown, "--root" in shown) == (True, False)


def test_options_and_names_may_be_mixed_in_any_order() -> None:
    args = parse("get", load_verb("get"), ["pods", "-o", "wide", "a", "-w", "b", "-nspace"])
    assert (args.words, args.output, args.watch, args.namespace) == (["pods", "a", "b"], "wide", True, "space")


def test_short_flags_may_stand_together_before_one_with_a_value() -> None:
    args = parse("exec", load_verb("exec"), ["-itc", "app", "web", "--", "sh", "-c", "exit 3"])
    assert (args.stdin, args.tty, args.container, args.words) == (True, True, "app", ["web"])
    assert args.command == ["sh", "-c", "exit 3"]


def test_booleans_may_be_given_as_kubectl_users_write_them() -> None:
    args = parse("logs", load_verb("logs"), ["web", "--timestamps=true", "--all-containers=false", "--tail=-1"])
    assert (args.timestamps, args.all_containers, args.tail) == (True, False, -1)


def test_a_dash_is_a_file_name() -> None:
    assert parse("run", load_verb("run"), ["-", "-d"]).files == ["-"]


def test_global_options_are_found_behind_a_sub_verb() -> None:
    args = parse("image", load_verb("image"), ["ls", "--run-dir", "/r"])
    assert (args.image_verb, args.root) == ("ls", "/r")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["gett"], 'error: unknown command "gett"; did you mean get?'),
        (["stop", "web"], 'error: unknown command "stop"; instead: minipod delete pod NAME'),
        (["pod", "rm", "web"], 'error: unknown command "rm"; instead: minipod delete pod NAME'),
        (
            ["image", "push", "x"],
            'error: unknown command "image push"; instead: minipod image save NAME -o DIR/ && skopeo',
        ),
        (["auth"], 'error: unknown command "auth"; instead: root may do everything'),
        (["agenda"], 'error: unknown command "agenda"; see minipod --help'),
        (["frobnicate"], 'error: unknown command "frobnicate"; see minipod --help'),
        (["get", "pods", "--bogus"], "error: unrecognized arguments: --bogus; see minipod get --help"),
        (["get", "services"], 'error: minipod doesn\'t have a resource type "services"; it has namespaces'),
        (["get", "pods", "-o", "xml"], 'error: unable to match a printer suitable for the output format "xml"'),
        (["exec", "web", "ls"], "error: exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND]"),
        (["exec", "web"], "error: you must specify at least one command for the container"),
        (["get", "pods", "--", "x"], "error: unexpected argument 'x' after --"),
        (["run"], "error: run: which manifest? use for example: minipod run pod.yaml"),
        (["run", "/nonexistent.yaml"], "error: /nonexistent.yaml: no such file or directory"),
        (["run", "x", "--until", "ready"], "error: --until and --timeout go with --detach"),
        (["logs", "web", "--tail", "x"], 'error: argument --tail: "x" is not a number'),
        (["logs", "web", "--since", "5x"], 'error: invalid duration "5x": use for example 90s, 5m or 1h30m'),
        (["delete", "pod", "web", "--now", "--grace-period=3"], "error: --now and --grace-period cannot be specified"),
        (["wait", "pod/web", "--for", "happiness"], 'error: unrecognized condition: "happiness"'),
    ],
)
def test_wrong_usage_is_one_line_and_exit_status_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {verb} " in text for verb in VERBS)


def test_what_is_said_of_other_tools_commands_names_commands_that_there_are() -> None:
    assert not (ALIASES.keys() | HINTS.keys()) & VERBS.keys()
    assert not ALIASES.keys() & HINTS.keys()
    named = [verb for text in HINTS.values() for verb in re.findall(r"minipod ([a-z]+)", text) if verb != "runs"]
    assert {*named, *(words[0] for words in ALIASES.values())} <= VERBS.keys()


def test_without_a_verb_the_help_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded([]) == 2
    assert "Usage: minipod COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_describes_itself_and_its_options(verb: str) -> None:
    parser = parser_for(verb, load_verb(verb))
    assert parser.description
    assert [action.option_strings for action in parser._actions if action.option_strings and not action.help] == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1h30m", 5400), ("300ms", 0.3), ("-1s", -1), ("5", 5), ("1.5m", 90), ("0", 0), ("2us", 2e-6)],
)
def test_durations_are_go_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "1x", "1 s", "٣s", "1h30", "--1s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid duration"):
        duration_s(text)


def test_pods_are_named_in_all_of_kubectls_ways() -> None:
    assert pod_names(["pod", "a", "b"], "get") == ["a", "b"]
    assert pod_names(["pod/a", "pods/b", "po/c"], "get") == ["a", "b", "c"]
    assert pod_names(["po"], "get") == []


@pytest.mark.parametrize("words", [["pod/a", "b"], ["pod", "pod/a"], ["svc/a"], []])
def test_mixed_forms_of_naming_are_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        pod_names(words, "get")


def test_hot_paths_import_nothing_heavy(tmp_path: Path) -> None:
    for argv in (["--help"], ["get", "pods"]):
        code = f"import sys; from minipod.cli.main import guarded; guarded({argv!r}); print(sorted(sys.modules))"
        env = os.environ | {
            "MINIPOD_RUN_DIR": f"{tmp_path}/r",
            "MINIPOD_DATA_DIR": f"{tmp_path}/s",
            "PYTHONPATH": str(CHECKOUT),
        }
        done = subprocess.run([sys.executable, "-S", "-c", code], env=env, capture_output=True, text=True, check=True)
        imported = set(eval(done.stdout.splitlines()[-1]))
        assert imported & HEAVY == set()


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    command = f"'{sys.executable}' -m minipod --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) in ((0, b""), (141, b""))


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_is_no_failure(closed: str) -> None:
    env = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    command = f"'{sys.executable}' -m minipod help {closed}"
    done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_widths_of_help_follow_the_terminal() -> None:
    assert 60 <= options.terminal_width() <= 120


def test_the_reference_in_docs_is_what_the_program_says() -> None:
    assert (CHECKOUT / "docs" / "cli.md").read_text() == reference.text()


def test_a_limit_on_the_size_of_files_leaves_no_module_cut_off(tmp_path: Path) -> None:
    """Python writes what it has compiled without a look at how much of it was written."""
    shutil.copytree(CHECKOUT / "minipod", tmp_path / "minipod", ignore=shutil.ignore_patterns("__pycache__"))

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['minipod', 'get', '--help']; "
    run = path + "import runpy; runpy.run_path(sys.path[0] + '/minipod/__main__.py', run_name='__main__')"
    command = [sys.executable, "-I", "-c", run]
    for preexec in (limited, None):
        done = subprocess.run(command, preexec_fn=preexec, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "error: too many open files: no more: raise it\n"),
        (OSError(errno.ENOSPC, "inotify_add_watch: …; raise it", "/x"), "error: /x: inotify_add_watch: …; raise it\n"),
        (MemoryError(), "error: not enough memory: free some, or raise the limits: ulimit -v, ulimit -d\n"),
        (OSError(errno.ENOTDIR, "Not a directory", "/x"), "error: /x: not a directory\n"),
    ],
)
def test_a_limit_of_the_command_itself_is_one_line_with_the_remedy(
    error: Exception, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli_main, "main", fails)
    limit = "no more: raise it"
    monkeypatch.setattr(error_text, "explanation", lambda code, *_: limit if code == errno.EMFILE else "")
    assert cli_main.guarded([]) == 3
    assert capsys.readouterr().err == text


def test_a_full_disk_under_standard_output_is_named_with_its_remedy() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "minipod", "explain", "pod"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 3
    assert done.stderr.startswith("error: standard output: no space left on device")


def test_an_error_of_the_kernel_has_its_object_its_words_and_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_text, "read", lambda name, _path: Value(7, 7))
    assert problem(OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "pod.yaml").startswith(
        "pod.yaml: too many open files: no more descriptors in one process: 7 of 7"
    )
    assert problem(FileNotFoundError(errno.ENOENT, "No such file or directory", "a.yaml")) == (
        "a.yaml: no such file or directory"
    )


def test_a_command_that_can_load_no_module_prints_the_kernel_s_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(argv: list[str]) -> int:
        raise OSError(errno.EMFILE, "Too many open files", "/x")

    monkeypatch.setattr(cli_main, "main", fails)
    monkeypatch.setitem(sys.modules, "minipod.cli.trouble", None)
    assert cli_main.guarded([]) == 3
    assert capsys.readouterr().err == "error: /x: too many open files\n"
