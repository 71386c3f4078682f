"""`minipod serve` for a test, and Kubernetes' own kubectl (scripts/setup --test puts it there)."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.node_fixtures import COMMAND_TIMEOUT_S, Node

KUBECTL = Path(sys.executable).with_name("kubectl")


class ApiServer:
    """The API of a node, on a port of its own; `api("get", "pods")` runs kubectl."""

    def __init__(self, node: Node, directory: Path) -> None:
        if not KUBECTL.exists():
            pytest.skip(f"{KUBECTL} is not there: scripts/setup --test fetches it on x86-64")
        self.node = node
        self.directory = directory
        self.process = self._start("127.0.0.1:0")
        self.kubeconfig = directory / "kubeconfig"
        self.kubeconfig.write_text(node("kubeconfig", "--server", self.url).stdout)

    def _start(self, listen: str) -> subprocess.Popen[str]:
        process = self.node.popen("serve", "--listen", listen)
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], COMMAND_TIMEOUT_S)
        line = process.stdout.readline() if readable else ""
        assert "serving" in line, line
        self.url = line.split()[-1]
        return process

    def restart(self) -> None:
        """As after a kill -9: at the same place."""
        self.process.kill()
        self.process.communicate()
        self.process = self._start(self.url.removeprefix("https://"))

    def __call__(self, *args: str, check: bool = True, input: str | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*args), input=input, capture_output=True, text=True, env=self.env, check=False,
            timeout=COMMAND_TIMEOUT_S, stdin=None if input is not None else subprocess.DEVNULL,
        )  # fmt: skip
        if check and done.returncode != 0:
            pytest.fail(f"kubectl {' '.join(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def popen(self, *args: str) -> subprocess.Popen[str]:
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(self.command(*args), env=self.env, **options)

    def command(self, *args: str) -> list[str]:
        return [str(KUBECTL), f"--cache-dir={self.directory}/cache", *args]

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.directory)}

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=COMMAND_TIMEOUT_S)
