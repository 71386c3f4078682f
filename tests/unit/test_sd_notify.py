"""The messages to a service manager, and what it passes to a service (unit)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.agent.environment import kept_environment
from minipod.kernel import sd_notify
from minipod.kernel.sd_notify import ServiceManager


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(10)
        yield sock


def manager_of(listener: socket.socket) -> ServiceManager:
    return ServiceManager(listener.getsockname())


def test_a_message_is_one_datagram_of_lines(listener: socket.socket) -> None:
    assert manager_of(listener).notify(sd_notify.READY, sd_notify.status("3 pods\nand more"))
    assert listener.recv(4096) == b"READY=1\nSTATUS=3 pods and more"


def test_an_abstract_address_is_one_with_a_zero_byte() -> None:
    name = f"minipod-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        assert ServiceManager(sd_notify.address_of({"NOTIFY_SOCKET": f"@{name}"})).notify(sd_notify.STOPPING)
        assert sock.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative/path"])
def test_other_addresses_are_none(address: str) -> None:
    assert sd_notify.address_of({"NOTIFY_SOCKET": address}) == ""


def test_without_a_manager_nothing_is_sent(tmp_path: Path) -> None:
    assert not ServiceManager()
    assert not ServiceManager().notify(sd_notify.READY)
    assert not ServiceManager(str(tmp_path / "nobody")).notify(sd_notify.READY)


def test_stored_descriptors_are_neither_polled_nor_lost_with_their_writers(listener: socket.socket) -> None:
    manager = manager_of(listener)
    read_fd, write_fd = os.pipe()
    try:
        os.write(write_fd, b"the tail")
        assert manager.store("abc.out", [read_fd])
    finally:
        os.close(read_fd)
        os.close(write_fd)
    message, fds, _, _ = socket.recv_fds(listener, 4096, 4)
    try:
        assert message.decode().split("\n") == ["FDSTORE=1", "FDNAME=abc.out", "FDPOLL=0"]
        assert [os.read(fd, 100) for fd in fds] == [b"the tail"]
    finally:
        for fd in fds:
            os.close(fd)
    assert manager.remove("abc.out")
    assert listener.recv(4096) == b"FDSTOREREMOVE=1\nFDNAME=abc.out"


@pytest.mark.parametrize("name", ["", "a:b", "a\nb", "ä", "x" * 256])
def test_a_name_that_a_manager_would_replace_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        ServiceManager("/nobody").store(name, [])


def test_the_watchdog_is_that_of_this_process() -> None:
    assert sd_notify.watchdog_s({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 7) == 60.0
    assert sd_notify.watchdog_s({"WATCHDOG_USEC": "1500000"}, 7) == 1.5
    assert sd_notify.watchdog_s({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, 7) == 0.0
    assert sd_notify.watchdog_s({"WATCHDOG_USEC": "-1"}, 7) == 0.0
    assert sd_notify.watchdog_s({}, 7) == 0.0


@pytest.mark.parametrize(
    ("names", "then"),
    [
        ("a:b", [("a", 3), ("b", 4)]),
        ("a", [("a", 3), ("unknown", 4)]),
        ("a:b:c", [("a", 3), ("b", 4)]),
        (None, [("unknown", 3), ("unknown", 4)]),
    ],
)
def test_stored_descriptors_come_with_their_names(names: str | None, then: list[tuple[str, int]]) -> None:
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": "2"} | ({} if names is None else {"LISTEN_FDNAMES": names})
    assert [(found.name, found.fd) for found in sd_notify.stored_fds(environ, 7)] == then


@pytest.mark.parametrize(
    "environ", [{}, {"LISTEN_PID": "8", "LISTEN_FDS": "2"}, {"LISTEN_PID": "7", "LISTEN_FDS": "many"}]
)
def test_descriptors_of_another_process_are_not_ours(environ: dict[str, str]) -> None:
    assert sd_notify.stored_fds(environ, 7) == []


def test_no_program_of_the_agent_gets_what_its_service_manager_set() -> None:
    assert not kept_environment(dict.fromkeys(sd_notify.VARIABLES, "1")).keys() & set(sd_notify.VARIABLES)


SERVICE = "0::/system.slice/minipod.service\n"
UNITS = {
    (SERVICE, "SYSTEMD_EXEC_PID"): "minipod.service",
    (SERVICE, "NOTIFY_SOCKET"): "minipod.service",
    (SERVICE, ""): "",  # a child of a service: a shell of it, say
    (
        "12:memory:/x.service\n1:name=systemd:/system.slice/minipod.service\n0::/\n",
        "SYSTEMD_EXEC_PID",
    ): "minipod.service",
    ("0::/system.slice/minipod.service/agent\n", "SYSTEMD_EXEC_PID"): "minipod.service",
    ("0::/user.slice/user-0.slice/user@0.service/app.slice/minipod.service\n", "SYSTEMD_EXEC_PID"): "",
    ("0::/user.slice/user-0.slice/session-1.scope\n", "SYSTEMD_EXEC_PID"): "",
    ("", "SYSTEMD_EXEC_PID"): "",
}


def test_which_unit_a_process_is() -> None:
    values = {"SYSTEMD_EXEC_PID": "7", "NOTIFY_SOCKET": "/run/systemd/notify", "": ""}
    wrong = {
        (groups, variable): found
        for (groups, variable), unit in UNITS.items()
        if (found := sd_notify.unit_of({"INVOCATION_ID": "a", variable: values[variable]}, 7, groups)) != unit
    }
    assert not wrong
    assert sd_notify.unit_of({"SYSTEMD_EXEC_PID": "7"}, 7, SERVICE) == "", "no invocation"
    assert sd_notify.unit_of({"INVOCATION_ID": "a", "SYSTEMD_EXEC_PID": "8"}, 7, SERVICE) == "", "of its parent"


def test_a_listening_socket_is_none_of_the_stored_descriptors(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as other:
        sock.bind(str(tmp_path / "s"))
        assert not sd_notify.listens(sock.fileno())
        sock.listen()
        assert sd_notify.listens(sock.fileno())
        other.connect(str(tmp_path / "s"))
        assert not sd_notify.listens(other.fileno())
    read_fd, write_fd = os.pipe()
    assert not sd_notify.listens(read_fd)
    os.close(read_fd)
    os.close(write_fd)
