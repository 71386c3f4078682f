"""What scripts/chroot-test makes of its arguments, in which order it works, and what it calls a changed host."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.chroot import __main__ as command
from tests.chroot import debian, host
from tests.conftest import IN_CHROOT_VARIABLE
from tests.tools import DidNotRunError


@pytest.mark.parametrize(
    ("words", "suites", "then"),
    [
        ([], ["bookworm", "trixie"], []),
        (["trixie"], ["trixie"], []),
        (["--keep", "sid", "--", "-k", "groups", "--", "-x"], ["sid"], ["-k", "groups", "--", "-x"]),
        (["--", "tests/node"], ["bookworm", "trixie"], ["tests/node"]),
    ],
)
def test_what_follows_two_dashes_is_pytest_s(words: list[str], suites: list[str], then: list[str]) -> None:
    args, pytest_arguments = command.parsed(words)
    assert (args.suites, pytest_arguments) == (suites, then)


SETTING_UP = [("--test", False, True), (command.PACKAGES, False, True)]


class Chroot:
    """Notes what would be run in it; the n-th command ends with the n-th status."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *statuses: int) -> None:
        self.run: list[tuple[str, bool, bool]] = []
        self.statuses = list(statuses)
        monkeypatch.setattr(command, "run_in", self.run_in)

    def run_in(
        self, _root: Path, words: tuple[str, ...], variables: dict[str, str], _limit: float, network: bool = False
    ) -> tuple[int, str]:
        self.run.append((words[-1], IN_CHROOT_VARIABLE in variables, network))
        return self.statuses.pop(0), f"the end of {words[-1]}"


def test_the_suite_is_run_after_what_destroys_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chroot = Chroot(monkeypatch, 0, 0, 0, 1)
    assert command.run_all(tmp_path, ["-x"], 1) == (1, "the end of -x")
    assert chroot.run == [*SETTING_UP, ("tests/chroot", False, False), ("-x", True, False)]


def test_where_pods_are_not_confined_the_suite_is_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chroot = Chroot(monkeypatch, 0, 0, 1)
    assert command.run_all(tmp_path, ["-x"], 1) == (1, "the end of tests/chroot")
    assert chroot.run == [*SETTING_UP, ("tests/chroot", False, False)]


def test_without_a_set_up_no_test_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chroot = Chroot(monkeypatch, 1)
    with pytest.raises(DidNotRunError, match="the end of --test"):
        command.run_all(tmp_path, [], 1)
    assert chroot.run == SETTING_UP[:1]


def test_the_host_is_compared_whatever_came_of_the_tests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pictures = [{"link eth0": "eth0"}, {}]
    monkeypatch.setattr(host, "picture", lambda: pictures.pop(0))
    monkeypatch.setattr(command, "bare_debian", lambda suite, _folder: tmp_path / suite)
    monkeypatch.setattr(command, "copy_of", lambda bare, _keep: contextlib.nullcontext(bare))
    monkeypatch.setattr(command, "end_descendants", lambda: ["process 7 (sleep)"])
    Chroot(monkeypatch, 1)
    args, _ = command.parsed([])
    result = command.tested("sid", args, [])
    assert (result.status, result.exit_status) == (command.DID_NOT_RUN, command.DID_NOT_RUN)
    assert result.differences == ["left: process 7 (sleep)", "gone: link eth0: eth0"]


def test_a_host_that_is_not_as_before_is_a_failure() -> None:
    assert command.Result("trixie", 0, "9 passed", []).exit_status == 0
    assert command.Result("trixie", 0, "9 passed", ["new: nft 1 x"]).exit_status == command.HOST_CHANGED
    assert command.Result("trixie", 1, "1 failed", ["new: nft 1 x"]).exit_status == 1


def test_every_difference_of_the_host_is_named() -> None:
    before = {"file /usr/bin/sh": "a", "link eth0": "network interface eth0", "service 7 1": "process 7 (sshd)"}
    now = {"file /usr/bin/sh": "b", "link mp012345-1": "network interface mp012345-1"}
    assert host.differences(before, now, shared=False) == [
        "changed: file /usr/bin/sh: was a, is b",
        "gone: link eth0: network interface eth0",
        "new: link mp012345-1: network interface mp012345-1",
        "gone: service 7 1: process 7 (sshd)",
    ]
    of_the_host_alone = ["changed: file /usr/bin/sh: was a, is b", "gone: link eth0: network interface eth0"]
    assert host.differences(before, now, shared=True) == of_the_host_alone


def test_a_link_of_the_chroot_leads_to_no_file_of_the_host(tmp_path: Path) -> None:
    target = tmp_path / "host"
    target.write_text("the host's")
    link = tmp_path / "link"
    link.symlink_to(target)
    debian.replace(link, b"the chroot's")
    assert (target.read_text(), link.read_text()) == ("the host's", "the chroot's")


def test_the_environment_is_a_login_s_and_the_ways_to_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "PIP_INDEX_URL", "PIP_FIND_LINKS", "LD_PRELOAD", IN_CHROOT_VARIABLE):
        monkeypatch.setenv(name, "x")
    names = debian.environment().keys() - set(debian.TEST_VARIABLES)
    assert names >= {"PATH", "HOME", "LANG", "https_proxy", "PIP_INDEX_URL"}
    assert not names & {"PIP_FIND_LINKS", "LD_PRELOAD", IN_CHROOT_VARIABLE}
