"""`minipod cp` into a directory that stands for a container's root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.cli_fakes import Object, Peer, fake_agent, minipod_command, pod


@pytest.mark.parametrize(("options", "mode"), [([], 0o750), (["--no-preserve"], 0o755)])
def test_permissions_are_kept_unless_told_otherwise(tmp_path: Path, options: list[str], mode: int) -> None:
    root = tmp_path / "root-of-it"
    root.mkdir()
    source = tmp_path / "script"
    source.write_text("#!/bin/sh\n")
    source.chmod(0o750)

    def send_root(peer: Peer, _: Object) -> None:
        fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
        peer.send({"event": "root", "cwd": "/", "uid": os.getuid(), "gid": os.getgid(), "fds": ["root"]}, (fd,))
        os.close(fd)
        peer.ok()

    with fake_agent(tmp_path) as agent:
        agent.serve_pods(pod())
        agent.handlers["root"] = send_root
        os.umask(0o022)
        assert minipod_command(agent.paths, "cp", *options, str(source), "web:/script") == 0
    assert (root / "script").stat().st_mode & 0o777 == mode
