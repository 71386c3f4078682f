"""Keeps the state of a version: runs its agent, kills everything, writes what is left as text. Needs root.

python3 -m tests.releases CHECKOUT      CHECKOUT: the source of that version
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from minipod.paths import Paths
from tests import releases
from tests.releases import pods

#: the image store's blobs and layers are found by their sums, whatever the version; what is mounted dies with the boot
KEPT = {
    "root": ("sandboxes/*/*.json", "containers/*/*", "leases/*", "network.json", "exits/*"),
    "state": ("images/index.json",),
}
WAIT_S = 60


class Release:
    """The command line of one version with folders of its own."""

    def __init__(self, checkout: Path, paths: Paths) -> None:
        self.paths = paths
        self._env = os.environ | {
            "PYTHONPATH": str(checkout), "MINIPOD_ROOT": paths.root, "MINIPOD_STATE": paths.state,
            "MINIPOD_CONFIG": str(Path(paths.root).with_name("config.toml")),
        }  # fmt: skip

    def __call__(self, *words: str, input: object = None, check: bool = True) -> str:
        text = None if input is None else "\n---\n".join(map(json.dumps, input if isinstance(input, list) else [input]))
        done = subprocess.run(self.command(*words), input=text, stdout=subprocess.PIPE, text=True, env=self._env,
                              check=check, cwd="/", stdin=subprocess.DEVNULL if text is None else None)  # fmt: skip
        return done.stdout

    def popen(self, *words: str, input: object) -> subprocess.Popen[str]:
        child = subprocess.Popen(self.command(*words), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                                 env=self._env, cwd="/")  # fmt: skip
        assert child.stdin is not None
        child.stdin.write(json.dumps(input))
        child.stdin.close()
        return child

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "minipod", *words]

    def status(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self("get", "pod", name, "-o", "json"))["status"]
        return status


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.1)


def fill(release: Release) -> None:
    """Every object there is, every pod in the stage that it is kept for."""
    release("image", "load", "--default")
    gate, shelf = (Path(release.paths.state, name) for name in ("gate", "shelf"))
    gate.mkdir()
    shelf.mkdir()
    release("apply", "-f", "-", input=pods.objects(str(shelf)))
    release("run", "-d", "--until", "created", "-", input=pods.ended())
    release("run", "-d", "--timeout", "60s", "-", input=pods.running(str(gate)))
    release("debug", "sidecar", "--image=busybox", "--", "sh", "-c", pods.TRAPPED)
    release("label", "pod", "web", "tier=front")
    until(lambda: release.status("loop")["containerStatuses"][0]["restartCount"] >= 1, "loop restarts")
    for name, phase in (("succeeded", "Succeeded"), ("failed", "Failed")):
        until(lambda name=name, phase=phase: release.status(name)["phase"] == phase, name)  # type: ignore[misc]
    foreground = release.popen("run", "-", input=pods.pod("foreground", pods.container("main", pods.TRAPPED)))
    until(lambda: "Running" in release("get", "pod", "foreground", check=False), "foreground runs")
    deletion = release.popen("delete", "pod", "leaving", input=None)
    until(lambda: "deletionTimestamp" in release("get", "pod", "leaving", "-o", "json"), "leaving leaves")
    kill_all(release, gate, [foreground, deletion])


def kill_all(release: Release, gate: Path, clients: list[subprocess.Popen[str]]) -> None:
    """The agent first; a container that ends then leaves an exit record; then the spawner and all containers."""
    agent = agent_of(release.paths)
    doomed = agent.children(recursive=True)
    agent.suspend()  # so that it does not see its clients go, and they start no other
    for client in clients:
        client.kill()
        client.wait()
    agent.kill()
    agent.wait()
    (gate / Path(pods.GATE).name).touch()
    exits = Path(release.paths.root, "exits")
    until(lambda: any(json.loads(file.read_text())["code"] == 7 for file in exits.iterdir()), "an exit record")
    for process in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(doomed, timeout=10)


def agent_of(paths: Paths) -> psutil.Process:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(paths.agent_socket)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return psutil.Process(struct.unpack("3i", credentials)[0])


def clear(release: Release, base: Path) -> None:
    """What is left on this host goes, by an agent of that version."""
    for namespace in ("default", "other"):
        release("delete", "pods", "--all", "-n", namespace, "--grace-period=0", "--force")
    release("gc")
    agent = agent_of(release.paths)
    agent.terminate()
    psutil.wait_procs([agent], timeout=10)
    shutil.rmtree(base)


def keep(paths: Paths, target: Path, known: dict[str, str]) -> None:
    """What is left, as text."""
    shutil.rmtree(target, ignore_errors=True)
    for part, folder in (("root", paths.root), ("state", paths.state)):
        for file in sorted(found for pattern in KEPT[part] for found in Path(folder).glob(pattern)):
            place = target / part / file.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(releases.frozen(file.read_text(encoding="utf-8"), known), encoding="utf-8")
    (target / releases.DATABASE).write_text(releases.frozen(dump(Path(paths.state, "minipod.db")), known))


def dump(database: Path) -> str:
    """sqlite3's dump, with the schema's version and with blobs as the text that they are."""
    with sqlite3.connect(database) as db:
        lines = [f"PRAGMA user_version={db.execute('PRAGMA user_version').fetchone()[0]};"]
        lines += [_readable(line) for line in db.iterdump()]
    db.close()
    return "\n".join(lines) + "\n"


def _readable(line: str) -> str:
    head, *blobs = line.split(",X'")
    for blob in blobs:
        digits, rest = blob.split("'", 1)
        text = bytes.fromhex(digits).decode().replace("'", "''")
        head += f",\n CAST('{text}' AS BLOB){rest}"
    return head


def main(checkout: Path) -> None:
    base = Path(tempfile.mkdtemp(prefix="mprelease", dir="/tmp"))
    paths = Paths(str(base / "r"), str(base / "s"))
    for folder in (paths.root, paths.state):
        os.mkdir(folder)
    base.joinpath("config.toml").write_text(releases.CONFIGURATION)
    release = Release(checkout.resolve(), paths)
    version = release("version").split()[2]
    print(f"the state of {version} in {base}", file=sys.stderr)
    try:
        fill(release)
        keep(paths, releases.FOLDER / version, releases.values(paths))
    finally:
        clear(release, base)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
