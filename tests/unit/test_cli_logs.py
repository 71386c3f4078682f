"""CRI log files: parsing, tails, rotation, following, and `minipod logs`."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from minipod.runtime import log_history
from minipod.runtime.log_file import LogFile
from minipod.streams import crilog
from minipod.streams.crilog import Follower, Joiner
from tests.unit.cli_fakes import FakeAgent, Object, Peer, fake_agent, minipod_command, pod


def line(text: str, number: int = 0, tag: str = "F", stream: str = "stdout") -> str:
    return f"2026-01-02T03:04:{number:02d}.5Z {stream} {tag} {text}\n"


def lines(*texts: str) -> bytes:
    return "".join(line(text, number) for number, text in enumerate(texts)).encode()


# -- parsing --------------------------------------------------------------------------------------------------------


def test_plain_text_is_what_the_container_wrote() -> None:
    assert crilog.plain_text(lines("one", "", "two  words ")) == b"one\n\ntwo  words \n"


def test_pieces_of_a_long_line_are_put_together() -> None:
    data = (line("abc", tag="P") + line("def", tag="P") + line("ghi") + line("next")).encode()
    assert crilog.plain_text(data) == b"abcdefghi\nnext\n"
    assert [piece.text for piece in Joiner().feed(crilog.parse(data))] == [b"abcdefghi", b"next"]


def test_pieces_of_two_streams_are_not_mixed() -> None:
    data = (
        line("out-", tag="P") + line("err-", tag="P", stream="stderr") + line("out") + line("err", stream="stderr")
    ).encode()
    assert [piece.text for piece in Joiner().feed(crilog.parse(data))] == [b"out-out", b"err-err"]


def test_a_line_without_end_goes_on_in_parts() -> None:
    joiner = Joiner()
    data = line("x" * 400_000, tag="P").encode()
    found = list(joiner.feed(crilog.parse(data * 4)))
    assert [(len(piece.text), piece.whole) for piece in found] == [(1_200_000, False)]
    assert [(len(piece.text), piece.whole) for piece in joiner.flush()] == [(400_000, True)]


def test_what_is_no_cri_line_is_printed_as_it_stands() -> None:
    data = b"garbage\n" + lines("good") + b"2026-01-02T03:04:05Z stdout X what\n"
    assert crilog.plain_text(data) == b"garbage\ngood\n2026-01-02T03:04:05Z stdout X what\n"


def own(text: str, tag: str = "F", stream: str = "stdout") -> bytes:
    """A line as our agent writes it: all stamps have the same length."""
    return f"2026-01-02T03:04:05.123456789Z {stream} {tag} {text}\n".encode()


def test_whole_lines_of_our_own_are_not_taken_apart_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop over lines and fields would be a third of the speed."""
    data = own("one") + own("") + own("t stdout P o", stream="stderr")
    slow = b"".join(line.text + b"\n" for line in crilog.parse(data))
    monkeypatch.setattr(crilog, "parse", None)
    assert crilog.plain_text(data) == slow == b"one\n\nt stdout P o\n"
    assert crilog.stdout_text(own("one") + own("two")) == b"one\ntwo\n"
    assert crilog.stdout_text(data) is None
    assert crilog.decorated_text(own("one") + own("two"), b"[p] ", False) == b"[p] one\n[p] two\n"
    stamp = b"2026-01-02T03:04:05.123456789Z"
    assert crilog.decorated_text(own("one") + own("two"), b"", True) == stamp + b" one\n" + stamp + b" two\n"


@pytest.mark.parametrize("other", [own("x", "P"), b"garbage\n", b"\n", lines("short stamp"), own("x")[:39] + b"\n"])
def test_one_line_of_another_kind_makes_all_of_a_chunk_read_with_care(other: bytes) -> None:
    data = own("one") + other + own("two")
    parsed = crilog.parse(data)
    assert crilog.plain_text(data) == b"".join(line.text + (b"\n" if line.whole else b"") for line in parsed)
    assert crilog.decorated_text(data, b"", True) is None


@pytest.mark.parametrize("seed", range(20))
def test_the_last_lines_are_found_however_the_file_is_read_in_blocks(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = random.Random(seed)
    pieces = [own("x" * choose.randrange(60), choose.choice("FFFP")) for _ in range(60)]
    pieces[choose.randrange(60)] = b"other\n"
    (tmp_path / "0.log").write_bytes(b"".join(pieces))
    monkeypatch.setattr(crilog, "TAIL_CHUNK", choose.randrange(1, 400))
    parsed = [crilog.parse(piece)[0].whole for piece in pieces]
    starts = [place for place in range(60) if place == 0 or parsed[place - 1]]
    for count in range(70):
        first = 0 if count >= len(starts) else 60 if count == 0 else starts[-count]
        wanted = (sum(map(len, pieces[:first])), min(count, len(starts)))
        with log_history.at_once(str(tmp_path / "0.log")) as (file,):
            assert crilog.tail_offset(file, count) == wanted


def test_stamps_sort_as_times_although_zeros_are_dropped() -> None:
    stamps = [b"2026-01-02T03:04:05Z", b"2026-01-02T03:04:05.1Z", b"2026-01-02T03:04:05.15Z", b"2026-01-02T03:04:06Z"]
    assert [crilog.stamp_key(a) < crilog.stamp_key(b) for a, b in itertools.pairwise(stamps)] == [True] * 3


# -- files ----------------------------------------------------------------------------------------------------------


def test_generations_are_ordered_and_compressed_ones_are_found(tmp_path: Path) -> None:
    path = f"{tmp_path}/0.log"
    for name in (
        "0.log",
        "0.log.20260102-030406",
        "0.log.20260102-030405.gz",
        "0.log.20260102-030407.gz.tmp",
        "10.log",
    ):
        Path(tmp_path, name).touch()
    Path(tmp_path, "0.log.20260102-030406.gz").touch()
    assert [os.path.basename(name) for name in log_history.generations(path)] == [
        "0.log.20260102-030405.gz",
        "0.log.20260102-030406",
    ]


def tail_of(path: Path, count: int) -> bytes:
    with log_history.at_once(str(path)) as files:
        return b"".join(data for file, start in crilog.tail(files, count) for data in file.chunks(start))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 6, 100])
def test_a_tail_counts_whole_lines(tmp_path: Path, count: int) -> None:
    path = tmp_path / "0.log"
    texts = ["a", "b" * 70_000, "c", "d", "e"]
    data = "".join(line(text) for text in texts[:3]) + line("d1", tag="P") + line("d2") + line("e")
    path.write_text(data)
    shown = tail_of(path, count)
    expected = ["a", "b" * 70_000, "c", "d1d2", "e"][len(texts) - count if count < 5 else 0 :]
    assert crilog.plain_text(shown).decode().splitlines() == expected


def test_a_tail_reaches_into_rotated_and_compressed_files(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "0.log.20260102-030405.gz", "wb") as old:
        old.write(lines("a", "b", "c"))
    (tmp_path / "0.log.20260102-030406").write_bytes(lines("d"))
    (tmp_path / "0.log").write_bytes(lines("e"))
    assert crilog.plain_text(tail_of(tmp_path / "0.log", 4)) == b"b\nc\nd\ne\n"


def collected(follower: Follower) -> str:
    return b"".join(crilog.plain_text(data) for data in follower.read()).decode()


def test_a_follower_reads_what_is_appended_and_no_half_lines(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    follower = Follower(str(path))
    assert collected(follower) == ""
    path.write_bytes(lines("a", "b") + b"2026-01-02T03:04:05Z stdout F ha")
    assert collected(follower) == "a\nb\n"
    with path.open("ab") as file:
        file.write(b"lf\n")
    assert collected(follower) == "half\n"
    follower.close()


def test_a_follower_loses_nothing_over_several_rotations(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    (tmp_path / "0.log.20260101-000000").write_bytes(lines("older"))
    path.write_bytes(lines("a"))
    follower = Follower(str(path))
    assert collected(follower) == "a\n"
    with path.open("ab") as file:
        file.write(lines("b"))
    path.rename(tmp_path / "0.log.20260102-000001")
    assert collected(follower) == "b\n"  # renamed, and not yet made anew
    path.write_bytes(lines("c"))
    path.rename(tmp_path / "0.log.20260102-000002")
    path.write_bytes(lines("d"))
    with gzip.open(tmp_path / "0.log.20260102-000003.gz", "wb") as compressed:
        compressed.write(path.read_bytes())
    path.write_bytes(lines("e"))
    assert collected(follower) == "c\nd\ne\n"
    assert collected(follower) == ""
    follower.close()


@pytest.mark.parametrize("follow", [False, True])
def test_no_line_is_missing_however_often_the_log_is_rotated_while_it_is_read(
    tmp_path: Path, follow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each file that is opened the log is rotated, which compresses the file before it and removes the oldest."""
    log = LogFile(f"{tmp_path}/0.log", max_size=200, max_files=6)
    written = itertools.count()
    open_file, rotations = log_history.OpenLog.__init__, iter(range(12))

    def write() -> None:
        for _ in range(4):
            log.write(line(str(next(written))).encode())

    def opened(self: log_history.OpenLog, path: str) -> None:
        open_file(self, path)
        if next(rotations, None) is not None:
            write()

    for _ in range(6):
        write()
    monkeypatch.setattr(log_history.OpenLog, "__init__", opened)
    if follow:
        follower = Follower(log.path)
        with log_history.at_once(log.path) as files:
            text = b"".join(data for file in files[:-1] for data in file.chunks())
            follower.begin(files)
        text += b"".join(follower.read())
        follower.close()
    else:
        with log_history.at_once(log.path) as files:
            text = b"".join(data for file in files for data in file.chunks())
    log.close()
    numbers = [int(word) for word in crilog.plain_text(text).split()]
    assert len(numbers) > 8
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert next(rotations, None) is None


# -- the verb -------------------------------------------------------------------------------------------------------


@pytest.fixture
def log_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "state/log/pods/default_web_uid-web/app"
    folder.mkdir(parents=True)
    return folder


def run_logs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], *words: str, item: Object | None = None
) -> tuple[int, str, str]:
    with fake_agent(tmp_path) as agent:
        agent.serve_pods(item or pod())
        status = minipod_command(agent.paths, "logs", *words)
    captured = capfd.readouterr()
    return status, captured.out, captured.err


def test_logs_begin_with_rotated_files(tmp_path: Path, log_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (log_folder / "0.log.20260102-030405").write_bytes(lines("old"))
    (log_folder / "0.log").write_bytes(lines("new") + b"2026-01-02T03:04:05Z stdout F cut")
    assert run_logs(tmp_path, capfd, "web") == (0, "old\nnew\ncut\n", "")


def test_timestamps_and_prefix_stand_at_the_start_of_lines(
    tmp_path: Path, log_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (log_folder / "0.log").write_text(line("a", tag="P") + line("b", 1))
    status, out, _ = run_logs(tmp_path, capfd, "web", "--timestamps", "--prefix")
    assert (status, out) == (0, "[pod/web/app] 2026-01-02T03:04:00.5Z ab\n")


def test_since_leaves_out_what_is_older(tmp_path: Path, log_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (log_folder / "0.log").write_bytes(lines("a", "b", "c"))
    assert run_logs(tmp_path, capfd, "web", "--since-time=2026-01-02T04:04:01.4+01:00")[1] == "b\nc\n"
    assert run_logs(tmp_path, capfd, "web", "--since=1h")[1] == ""


def test_limit_bytes_cuts_the_output(tmp_path: Path, log_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (log_folder / "0.log").write_bytes(lines("abcdef", "ghi"))
    assert run_logs(tmp_path, capfd, "web", "--limit-bytes=4")[1] == "abcd"


def test_previous_is_the_instance_before(tmp_path: Path, log_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    item = pod()
    (log_folder / "1.log").write_bytes(lines("first"))
    (log_folder / "2.log").write_bytes(lines("second"))
    status = item["status"]["containerStatuses"][0]
    status |= {"restartCount": 2, "lastState": {"terminated": {"exitCode": 1}}}
    assert run_logs(tmp_path, capfd, "web", "-p", item=item)[1] == "first\n"
    assert run_logs(tmp_path, capfd, "web", item=item)[1] == "second\n"
    status["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert run_logs(tmp_path, capfd, "web", item=item)[1] == "second\n"
    assert run_logs(tmp_path, capfd, "web", "-p", item=item)[1] == "second\n"


@pytest.mark.parametrize(
    ("words", "state", "message"),
    [
        (["web", "-c", "x"], None, "container x is not valid for pod web: it has app"),
        (["nope"], None, 'pods "nope" not found'),
        (["web", "-p"], None, 'previous terminated container "app" in pod "web" not found'),
        (
            ["web"],
            {"waiting": {"reason": "ContainerCreating"}},
            'container "app" in pod "web" is waiting to start: Contain',
        ),
    ],
)
def test_logs_that_are_not_there_are_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], state: Any, message: str
) -> None:
    item = pod()
    if state:
        item["status"]["containerStatuses"][0]["state"] = state
    status, out, err = run_logs(tmp_path, capfd, *words, item=item)
    assert (status, out) == (1, "")
    assert err.startswith(f"error: {message}")


def test_the_default_container_is_reported(tmp_path: Path, log_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (log_folder / "0.log").write_bytes(lines("x"))
    item = pod(containers=("app", "side"))
    item["spec"]["initContainers"] = [{"name": "prepare"}]
    status, out, err = run_logs(tmp_path, capfd, "web", item=item)
    assert (status, out, err) == (0, "x\n", 'Defaulted container "app" out of: app, side, prepare (init)\n')


def test_all_containers_skips_one_that_never_ran(
    tmp_path: Path, log_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (log_folder / "0.log").write_bytes(lines("x"))
    item = pod(containers=("app", "side"))
    item["status"]["containerStatuses"][1]["state"] = {"waiting": {"reason": "PodInitializing"}}
    assert run_logs(tmp_path, capfd, "web", "--all-containers", item=item) == (0, "x\n", "")


def ended(item: Object) -> Object:
    copy: Object = json.loads(json.dumps(item))
    copy["status"]["containerStatuses"][0]["state"] = {"terminated": {"exitCode": 0}}
    return copy


def test_following_prints_what_grows_until_the_container_ends(
    tmp_path: Path, log_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = log_folder / "0.log"
    path.write_bytes(lines("a", "b", "c"))
    item = pod()
    watching = threading.Event()

    def get(peer: Peer, request: Object) -> None:
        peer.send({"event": "object", "type": "ADDED", "object": item})
        if not request["watch"]:
            peer.ok()
            return
        watching.set()
        with path.open("ab") as file:
            file.write(lines("d"))
        path.rename(log_folder / "0.log.20260102-030405")
        path.write_bytes(lines("e") + b"2026-01-02T03:04:05Z stdout F last")
        peer.send({"event": "object", "type": "MODIFIED", "object": ended(item)})
        peer.receive()

    with fake_agent(tmp_path) as agent:
        agent.handlers["get"] = get
        assert minipod_command(agent.paths, "logs", "web", "-f", "--tail=2") == 0
    assert watching.is_set()
    assert capfd.readouterr().out == "b\nc\nd\ne\nlast\n"


def test_following_goes_on_when_the_agent_is_replaced(
    tmp_path: Path, log_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (log_folder / "0.log").write_bytes(lines("a"))
    item = pod()
    watches: list[int] = []

    def get(peer: Peer, request: Object) -> None:
        peer.send({"event": "object", "type": "ADDED", "object": item if len(watches) < 2 else ended(item)})
        if request["watch"]:
            watches.append(1)
            if len(watches) == 1:
                return  # closes without a word, as a killed agent does
            peer.send({"event": "object", "type": "MODIFIED", "object": ended(item)})
        peer.ok()

    with fake_agent(tmp_path) as agent:
        agent.handlers["get"] = get
        assert minipod_command(agent.paths, "logs", "web", "-f") == 0
    assert len(watches) == 2
    assert capfd.readouterr().out == "a\n"


def test_following_ends_when_the_pod_went_while_no_agent_ran(
    tmp_path: Path, log_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (log_folder / "0.log").write_bytes(lines("a"))
    watches: list[int] = []

    def get(peer: Peer, request: Object) -> None:
        if not request["watch"] or not watches:
            peer.send({"event": "object", "type": "ADDED", "object": pod()})
        if not request["watch"]:
            peer.ok()
            return
        watches.append(1)
        if len(watches) == 2:
            peer.send({"event": "object", "type": "ADDED", "object": pod() | {"metadata": pod("db")["metadata"]}})
            peer.send({"event": "bookmark", "resource_version": "1"})
            peer.receive()

    with fake_agent(tmp_path) as agent:
        agent.handlers["get"] = get
        assert minipod_command(agent.paths, "logs", "web", "-f") == 0
    assert len(watches) == 2
    assert capfd.readouterr().out == "a\n"


def test_logs_of_pods_by_their_labels_are_ten_lines_of_each(
    tmp_path: Path, log_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (log_folder / "0.log").write_bytes(lines(*map(str, range(12))))
    status, out, _ = run_logs(tmp_path, capfd, "-l", "app=web", "--prefix")
    assert status == 0
    assert out.splitlines()[0] == "[pod/web/app] 2"
    assert len(out.splitlines()) == 10
    status, out, err = run_logs(tmp_path, capfd, "-l", "app=none")
    assert (status, out, err) == (0, "", "No resources found in default namespace.\n")
    assert run_logs(tmp_path, capfd, "web", "-l", "app=web")[0] == 2


def test_an_image_that_does_not_come_is_why_there_are_no_logs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    item = pod(containerStatuses=[{"name": "app", "state": {"waiting": {"reason": "ImagePullBackOff"}}}])
    _, _, err = run_logs(tmp_path, capfd, "web", item=item)
    assert 'container "app" in pod "web" is waiting to start: trying and failing to pull image' in err


def test_too_many_logs_at_once_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    item = pod(containers=tuple("abcdef"))
    status, _, err = run_logs(tmp_path, capfd, "web", "-f", "--all-containers", item=item)
    assert status == 2
    assert "maximum allowed concurrency is 5, use --max-log-requests" in err


def test_the_fake_agent_is_asked_for_the_object(tmp_path: Path) -> None:
    with fake_agent(tmp_path) as agent:
        assert isinstance(agent, FakeAgent)
        agent.serve_pods(pod())
        minipod_command(agent.paths, "logs", "web")
        assert agent.requests[0]["output"] == "object"


def test_all_pods_have_their_names_before_their_lines(
    tmp_path: Path, log_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (log_folder / "0.log").write_bytes(lines("a", "b"))
    assert run_logs(tmp_path, capfd, "--all-pods") == (0, "[pod/web/app] a\n[pod/web/app] b\n", "")


def test_errors_can_be_ignored(tmp_path: Path, log_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    item = pod()
    item["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ContainerCreating"}}
    why = 'error: container "app" in pod "web" is waiting to start: ContainerCreating\n'
    assert run_logs(tmp_path, capfd, "web", item=item) == (1, "", why)
    assert run_logs(tmp_path, capfd, "web", "--ignore-errors", item=item) == (0, "", why)


def test_following_waits_for_a_container_to_start(
    tmp_path: Path, log_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    waiting = pod()
    waiting["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ContainerCreating"}}
    status, _, err = run_logs(tmp_path, capfd, "-f", "web", "--pod-running-timeout", "10ms", item=waiting)
    assert (status, err.split(":")[0]) == (1, "error")
    (log_folder / "0.log").write_bytes(lines("a"))
    first = True

    def get(peer: Peer, request: Object) -> None:
        nonlocal first
        item = waiting if first else ended(pod())
        first = False
        peer.send({"event": "object", "type": "ADDED", "object": item})
        if request.get("watch"):
            peer.send({"event": "bookmark", "resource_version": "1"})
            peer.send({"event": "object", "type": "MODIFIED", "object": ended(pod())})
        peer.ok()

    with fake_agent(tmp_path) as agent:
        agent.handlers["get"] = get
        assert minipod_command(agent.paths, "logs", "-f", "web") == 0
    assert capfd.readouterr().out == "a\n"
