"""The output of containers in the service manager's store (unit)."""

from __future__ import annotations

import os
import pty
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.kernel.sd_notify import ServiceManager, StoredFd
from minipod.runtime.kept import Kept


class Manager:
    """A service manager with a store; `restart` is what the next process of the service gets."""

    def __init__(self, folder: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        self.socket.setblocking(False)
        self.store: list[StoredFd] = []

    def receive(self) -> None:
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.socket, 4096, 8)
            except BlockingIOError:
                return
            lines = data.decode().split("\n")
            name = next(line.removeprefix("FDNAME=") for line in lines if line.startswith("FDNAME="))
            if "FDSTORE=1" in lines:
                self.store += [StoredFd(name, fd) for fd in fds]
            else:
                for found in [found for found in self.store if found.name == name]:
                    os.close(found.fd)
                    self.store.remove(found)

    def restart(self) -> Kept:
        self.receive()
        copies = [StoredFd(found.name, os.dup(found.fd)) for found in self.store]
        return Kept(ServiceManager(self.socket.getsockname(), 0.0, copies))

    def names(self) -> list[str]:
        self.receive()
        return [found.name for found in self.store]

    def close(self) -> None:
        for found in self.store:
            os.close(found.fd)
        self.socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.close()


class Pipes:
    """The output of a container; `die`: no process of ours has it any more, and the container has ended."""

    def __init__(self) -> None:
        self.readers: dict[str, int] = {}
        self.writers: dict[str, int] = {}
        for name in ("stdout", "stderr"):
            self.readers[name], self.writers[name] = os.pipe()
        self.numbers = {name: os.fstat(fd).st_ino for name, fd in self.readers.items()}

    def die(self) -> None:
        for name, fd in self.writers.items():
            os.write(fd, f"last of {name}".encode())
        for fd in (*self.readers.values(), *self.writers.values()):
            os.close(fd)


def test_output_outlives_agent_spawner_and_container(manager: Manager) -> None:
    pipes = Pipes()
    manager.restart().store("abc", {**pipes.readers, "pidfd": 0})
    pipes.die()
    second = manager.restart()
    assert second.has("abc")
    taken = second.take("abc", pipes.numbers)
    assert {name: os.read(fd, 100) for name, fd in taken.items()} == {
        "stdout": b"last of stdout",
        "stderr": b"last of stderr",
    }
    for fd in taken.values():
        os.close(fd)
    second.forget("abc")
    assert manager.names() == []
    assert not second.has("abc")


def test_what_is_not_needed_is_closed_and_stays_stored_while_its_container_runs(manager: Manager) -> None:
    one, two = Pipes(), Pipes()
    first = manager.restart()
    first.store("one", one.readers)
    first.store("two", two.readers)
    manager.receive()
    before = len(os.listdir("/proc/self/fd"))
    second = manager.restart()
    second.close_others({"two"})
    assert len(os.listdir("/proc/self/fd")) == before
    assert manager.names() == ["two", "two"]
    assert second.take("two", two.numbers) == {}
    one.die()
    two.die()


def test_a_terminal_is_known_by_its_kind_and_foreign_descriptors_are_closed(manager: Manager) -> None:
    terminal, other = pty.openpty()
    pipes = Pipes()
    first = manager.restart()
    first.store("abc", {"terminal": terminal})
    first.store("abc", {"stdout": pipes.readers["stdout"]})
    second = manager.restart()
    before = len(os.listdir("/proc/self/fd"))
    taken = second.take("abc", {})
    assert list(taken) == ["terminal"]
    assert os.isatty(taken["terminal"])
    assert len(os.listdir("/proc/self/fd")) == before - 1
    for fd in (terminal, other, *taken.values()):
        os.close(fd)
    pipes.die()


def test_without_a_service_manager_nothing_is_kept() -> None:
    kept = Kept(ServiceManager())
    kept.store("abc", {"stdout": 0})
    assert not kept.has("abc")
    assert kept.take("abc", {}) == {}
    kept.forget("abc")
    kept.close_others(set())
