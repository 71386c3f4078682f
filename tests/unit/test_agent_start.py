"""The agent's start: options, lock, folders, the process that owns a pod (unit)."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from minipod.agent import inheritance, processes
from minipod.agent.environment import KEPT, PATH, kept_environment
from minipod.control import server
from minipod.errors import HostError, UsageError
from minipod.kernel import inherit
from minipod.paths import Paths
from minipod.runtime.images.unpack import shed_protection
from minipod.serve import lock, main, options, start
from tests.conftest import CHECKOUT
from tests.descriptors import open_fds


def made_paths(folder: Path) -> Paths:
    (folder / "r").mkdir()
    return Paths(str(folder / "r"), str(folder / "s"))


def test_options_are_read_in_both_spellings() -> None:
    parsed = options.parse(["--run-dir", "/a", "--data-dir=/b", "--auto", "--ready-fd", "7"])
    assert (parsed.paths.root, parsed.paths.state, parsed.auto, parsed.ready_fd) == ("/a", "/b", True, 7)


@pytest.mark.parametrize("arguments", [["--fast"], ["--run-dir"], ["--ready-fd", "x"], ["--ready-fd=\uff17"]])
def test_wrong_options_are_reported(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        options.parse(arguments)


def test_a_failure_is_one_line_on_the_ready_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    read_fd, write_fd = os.pipe()
    assert main.main(["--run-dir", str(tmp_path / "r"), "--ready-fd", str(write_fd)]) == 3
    with open(read_fd) as ready:
        assert ready.read() == "the agent needs root: it makes namespaces, mounts and cgroups: use sudo\n"
    assert "needs root" in capsys.readouterr().err


def test_a_failure_after_the_start_is_not_written_to_what_has_the_ready_descriptor_s_number_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_fd, write_fd = os.pipe()
    log = tmp_path / "0.log"

    def run(given: options.Options) -> int:
        main._notify(given, "ready")
        assert os.open(log, os.O_CREAT | os.O_WRONLY) == write_fd, "the lowest number that is free"
        raise ValueError("too late for a notice")

    monkeypatch.setattr(main, "_run", run)
    with pytest.raises(ValueError, match="too late"):
        main.main(["--run-dir", str(tmp_path / "r"), "--ready-fd", str(write_fd)])
    os.close(write_fd)  # it is open still
    assert log.read_bytes() == b""
    with open(read_fd) as ready:
        assert ready.read() == "ready\n"


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match=r"cannot be made: not a directory: choose another --run-dir"):
        start.check_host(Paths(str(tmp_path / "file" / "r"), str(tmp_path / "s")))


@pytest.mark.parametrize(("number", "text"), [(28, "No space left on device"), (122, "Disk quota exceeded")])
def test_a_full_disk_is_reported_and_the_agent_starts_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, text: str
) -> None:
    """Pods may run that need it: one that is deleted may be what fills the disk."""

    def full(fd: int, data: bytes) -> int:
        raise OSError(number, text)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "write", full)
    lines = start.check_host(Paths(str(tmp_path / "r"), str(tmp_path / "s")))
    assert [line.partition(": pods go on")[0] for line in lines] == [
        f"{tmp_path}/{folder}: {text.lower()}" for folder in ("r", "s")
    ]
    monkeypatch.undo()
    assert list((tmp_path / "r").iterdir()) == []


def test_a_disk_that_cannot_be_written_is_reported_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int, data: bytes) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(HostError, match=r"cannot be written: input/output error: choose another --run-dir"):
        start.check_host(Paths(str(tmp_path / "r"), str(tmp_path / "s")))
    monkeypatch.undo()
    assert list((tmp_path / "r").iterdir()) == []


def test_folders_that_others_could_write_to_are_repaired_and_what_they_may_have_forged_is_thrown_away(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "s"
    for name, mode in (("", 0o777), ("cache", 0o775), ("exits", 0o755), ("sandboxes", 0o700), ("elsewhere", 0o777)):
        (folder / name).mkdir()
        (folder / name).chmod(mode)
    (folder / "cache" / "forged.bpf").touch()
    (folder / "spawners").symlink_to(tmp_path)  # none of ours: left alone
    before = os.stat(tmp_path).st_mode
    assert start.repair(str(folder)) == [
        f"{folder}: mode was 0777: set to 0755",
        f"{folder}/exits: mode was 0755: set to 0700",
        f"{folder}/sandboxes: mode was 0700: set to 0711",
        f"{folder}/cache: mode was 0775: set to 0700",
    ]
    assert (os.path.exists(folder / "cache"), os.stat(tmp_path).st_mode) == (False, before)
    assert start.repair(str(folder)) == []


def test_a_folder_for_everybodys_files_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(HostError, match=r"is shared by all users \(sticky\): choose a directory in it"):
        start.repair(str(tmp_path))
    assert os.stat(tmp_path).st_mode & 0o7777 == 0o1777


# -- what the agent has from its caller


def test_of_the_callers_environment_only_settings_are_kept() -> None:
    caller = {"SECRET": "x", "HOME": "/home/u", "TMPDIR": "/tmp/u", "LC_ALL": "C", "LD_PRELOAD": "/x.so", "PATH": "."}
    settings = {"MINIPOD_REGISTRIES": "/r", "https_proxy": "p", "REGISTRY_AUTH_FILE": "/a"}
    kept = kept_environment({**caller, **settings})
    assert kept == {**settings, "PATH": PATH, "LANG": "C.UTF-8"}


def test_what_cannot_be_undone_is_said_with_its_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        inherit, "namespace", lambda pid, kind: "net:[2]" if (pid, kind) == (1, "net") else f"{kind}:[1]"
    )
    monkeypatch.setattr(inherit, "status_field", lambda pid, name: {"Seccomp": "2"}.get(name, "3" if pid == 1 else "1"))
    monkeypatch.setattr(inherit, "has_no_new_privs", lambda: True)
    monkeypatch.setattr(inherit, "read_own", lambda name: "docker-default (enforce)")
    words = "\n".join(inheritance.stays())
    for part in ("no_new_privs", "seccomp filter", "docker-default (enforce)", "net namespace", "0x2 are missing"):
        assert part in words
    assert "uts namespace" not in words


def test_the_page_has_every_attribute_with_what_it_is_set_to() -> None:
    page = (CHECKOUT / "docs" / "security.md").read_text()
    lines = dict(re.findall(r"^\| ([^|]+) \| (.+) \|$", page, re.MULTILINE))
    for attribute in inheritance.ATTRIBUTES:
        assert lines[attribute.name].startswith(attribute.ours) or attribute.name == "limits"
    assert [name for name in inheritance.LIMITS if name not in lines["limits"]] == []
    assert [name for name in KEPT if name not in page and not name.upper().endswith("_PROXY")] == ["PYTHONPATH"]


def test_a_call_that_is_refused_is_reported_and_the_rest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> str:
        raise PermissionError(1, "Operation not permitted")

    taken: list[str] = []
    attributes = (
        inheritance.Attribute("securebits", "0", refused),
        inheritance.Attribute("umask", "0022", lambda: taken.append("umask") or ""),  # type: ignore[func-returns-value]
    )
    monkeypatch.setattr(inheritance, "ATTRIBUTES", attributes)
    monkeypatch.setattr(inheritance, "stays", list)
    monkeypatch.setattr(inherit, "close_descriptors", lambda *keep: None)
    assert inheritance.take_over() == ["securebits: stays as the caller's, not 0: operation not permitted"]
    assert taken == ["umask"]


@pytest.mark.parametrize(("inherited", "own"), [("-999\n", "0"), ("0\n", "0\n"), ("500\n", "500\n")])
def test_the_process_of_a_layer_is_not_protected_from_the_oom_killer_as_the_agent_is(
    tmp_path: Path, inherited: str, own: str
) -> None:
    (tmp_path / "adj").write_text(inherited)
    shed_protection(str(tmp_path / "adj"))
    assert (tmp_path / "adj").read_text()[: len(own)] == own


# -- the lock


def test_a_second_agent_finds_the_first_and_leaves(tmp_path: Path) -> None:
    paths = made_paths(tmp_path)
    first = lock.acquire(paths)
    assert first is not None
    with server.listen(paths.agent_socket):
        first.started()
        assert lock.acquire(paths) is None
    first.release()
    again = lock.acquire(paths)
    assert again is not None
    again.release()


def test_an_agent_that_holds_the_lock_and_answers_nothing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PATIENCE_S", 0.01)
    paths = made_paths(tmp_path)
    first = lock.acquire(paths)
    assert first is not None
    with pytest.raises(HostError, match="another agent has been starting"):
        lock.acquire(paths)
    first.started()
    with pytest.raises(HostError, match=rf"held by agent {os.getpid()}, which does not answer: end it"):
        lock.acquire(paths)
    first.release()


def test_two_roots_cannot_have_one_state(tmp_path: Path) -> None:
    paths = made_paths(tmp_path)
    first = lock.acquire(paths)
    assert first is not None
    other = Paths(str(tmp_path / "other"), paths.state)
    os.makedirs(other.root)
    with pytest.raises(HostError, match=rf"agent {os.getpid()} of {paths.root} keeps its pods there"):
        lock.acquire(other)
    first.release()
    again = lock.acquire(other)
    assert again is not None
    again.release()


def test_the_next_agent_waits_for_one_that_leaves(tmp_path: Path) -> None:
    paths = made_paths(tmp_path)
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, f"{paths.root}/agent.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as leaving:
        assert leaving.stdout is not None
        assert leaving.stdin is not None
        leaving.stdout.readline()
        leaving.stdin.close()
        held = lock.acquire(paths)
    assert held is not None
    held.release()


# -- the owner of a foreground pod


def test_a_process_is_known_by_its_start_time() -> None:
    own = processes.identity(os.getpid())
    assert own.split()[0] == str(os.getpid())
    assert own == processes.identity(os.getpid())
    assert processes.identity(2**22 + 1) == ""


@pytest.mark.parametrize("who", ["ends", "has-ended", "another"])
def test_the_end_of_an_owner_is_reported(who: str) -> None:
    async def told() -> None:
        with subprocess.Popen(["sleep", "100"]) as owner:
            identity = processes.identity(owner.pid) if who != "another" else f"{os.getpid()} 1"
            if who == "has-ended":
                owner.kill()
                owner.wait()
            called = asyncio.get_running_loop().create_future()
            processes.when_gone(identity, lambda: called.set_result(None))
            if who == "ends":
                await asyncio.sleep(0)
                assert not called.done()
                owner.kill()
            await asyncio.wait_for(called, 5)
            owner.kill()

    before = open_fds()
    asyncio.run(told())
    assert open_fds() == before


def test_an_owner_that_is_no_longer_watched_is_not_reported() -> None:
    async def untold() -> None:
        with subprocess.Popen(["sleep", "100"]) as owner:
            called = asyncio.get_running_loop().create_future()
            stop = processes.when_gone(processes.identity(owner.pid), lambda: called.set_result(None))
            stop()
            stop()
            owner.kill()
            owner.wait()
            await asyncio.sleep(0)
            assert not called.done()

    asyncio.run(untold())


def test_the_old_names_of_the_places_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["--root", "/a", "--state=/b"], ["--run-dir=/a", "--data-dir", "/b"]):
        parsed = options.parse(arguments)
        assert (parsed.paths.root, parsed.paths.state) == ("/a", "/b")
    for names in (("MINIPOD_ROOT", "MINIPOD_STATE"), ("MINIPOD_RUN_DIR", "MINIPOD_DATA_DIR")):
        for name, value in zip(names, ("/c", "/d"), strict=True):
            monkeypatch.setenv(name, f"{value}{len(name)}")
        parsed = options.parse([])
        assert (parsed.paths.root, parsed.paths.state) == (f"/c{len(names[0])}", f"/d{len(names[1])}")


def test_a_socket_that_a_service_manager_listens_on_is_served_and_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.sock")

    async def serve() -> None:
        with socket.socket(socket.AF_UNIX) as manager:
            manager.bind(path)
            manager.listen()
            waiting = socket.socket(socket.AF_UNIX)
            waiting.connect(path)  # before there is an agent
            sock = server.taken_over(os.dup(manager.fileno()), path)
            serving = server.Server(sock, "", {}, lambda: None)
            serving.start()
            waiting.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(waiting, b'{"verb": "x", "version": ""}\n')
            assert b"VersionMismatch" in await asyncio.get_running_loop().sock_recv(waiting, 4096)
            waiting.close()
            await serving.stop()
            assert os.path.exists(path), "it is the manager's"
            with socket.socket(socket.AF_UNIX) as later:
                later.connect(path)  # waits for the next agent

    asyncio.run(serve())


def test_a_socket_at_another_path_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as manager:
        manager.bind(str(tmp_path / "other"))
        manager.listen()
        with pytest.raises(UsageError, match=r"ListenStream=.*other is not the control socket /run/x"):
            server.taken_over(os.dup(manager.fileno()), "/run/x")


def test_an_agent_that_exits_leaves_the_socket_of_its_successor(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.sock")

    async def serve() -> None:
        serving = server.Server(server.listen(path), path, {}, lambda: None)
        serving.start()
        with socket.socket(socket.AF_UNIX) as other:
            os.unlink(path)
            other.bind(path)
            await serving.stop()
            assert os.path.exists(path)

    asyncio.run(serve())
