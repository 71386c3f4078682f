"""One minipod of a storm: its folders, its processes, what its containers recorded, what it has left on the host."""

from __future__ import annotations

import contextlib
import functools
import gzip
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minipod.kernel.mount import MNT_DETACH, mount, umount
from minipod.paths import Paths
from tests import leaks
from tests.conftest import CHECKOUT
from tests.faults.ledger import Attempt, attempt_of
from tests.node_fixtures import Node
from tests.set_clock import MOVE

#: a crash loop is quick, and a log is rotated many times without losing a file
CONFIGURATION = """max_container_restart_period_s = 1.0
log_max_size = 65536
log_max_files = 100
ipv4_subnet = "10.{net}.{slot}.0/24"
ipv6_subnet = "fd6d:7000:{slot:x}::/64"
"""
NET = 233
NEWER = "9.9.9"
TOO_LATE = 124  # as of timeout(1)
PLAIN, SMALL, CLOCK = "plain", "small", "clock"
SMALL_DISKS = {"r": "size=8m,nr_inodes=2000", "s": "size=64m,nr_inodes=6000"}
PROGRAMS = {"agent": "minipod/serve", "spawner": "minipod.runtime.spawner"}


class Instance(Node):
    """`slot`, 0 to 255, tells instances apart that run at the same time. `host`: what can be done to it.

    PLAIN; SMALL, its file systems can be filled; CLOCK, `set_clock` moves the wall clock of all its processes.
    """

    def __init__(self, slot: int, images: str, host: str = PLAIN) -> None:
        self.host = host
        self.base = Path(tempfile.mkdtemp(prefix="mpf", dir="/tmp"))
        super().__init__(Paths(str(self.base / "r"), str(self.base / "s")))
        for folder in (self.paths.root, self.paths.state, self.truth):
            os.mkdir(folder)
        self.disks = SMALL_DISKS if host == SMALL else {}
        for name, options in self.disks.items():
            mount("tmpfs", str(self.base / name), "tmpfs", 0, f"{options},mode=755")
        os.symlink(images, f"{self.paths.state}/images")
        self.configure(CONFIGURATION.format(net=NET, slot=slot))
        if host == CLOCK:
            self.set_clock(0)
            self.env["PYTHONPATH"] = self._checkout("moved", MOVE.format(file=str(self.base / "clock")))
        self.session = leaks.Session("faults", {str(self.base)}, {self.paths.instance, f"10.{NET}.{slot}.0"})

    def set_clock(self, seconds: float) -> None:
        """The wall clock of CLI, agent and spawner differs so much from the host's, from now on."""
        place = self.base / "clock"
        place.with_suffix(".new").write_text(str(seconds))
        place.with_suffix(".new").rename(place)

    def __call__(self, *args: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """A command that takes too long has ended with an error, which a round reports."""
        try:
            return super().__call__(*args, **options)
        except subprocess.TimeoutExpired as error:
            if options.get("check", True):
                raise
            return subprocess.CompletedProcess(error.cmd, TOO_LATE, "", f"runs after {error.timeout:.0f} s")

    @property
    def truth(self) -> Path:
        """A folder a pod, in which its containers record what they do."""
        return self.base / "truth"

    def processes(self, name: str) -> list[int]:
        """The pids of the agent or the spawner."""
        return [pid for pid, words in self._commands() if PROGRAMS[name] in words]

    def signal(self, name: str, number: int) -> list[int]:
        """Sends it to all of that name; the pids."""
        pids = self.processes(name)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return pids

    def resume_all(self) -> None:
        for name in PROGRAMS:
            self.signal(name, signal.SIGCONT)

    def _commands(self) -> Iterator[tuple[int, str]]:
        for name in os.listdir("/proc"):
            if name.isdigit() and self.paths.root in (
                words := leaks.read(f"/proc/{name}/cmdline").decode("utf-8", "replace")
            ):
                yield int(name), words

    def attempts(self, pod: str, uid: str, containers: tuple[str, ...]) -> dict[str, list[Attempt]]:
        """What each container recorded, attempt by attempt, and what the logs have of it (read after the records)."""
        found: dict[str, list[Attempt]] = {}
        for container in containers:
            records = sorted((self.truth / pod).glob(f"{container}.*"), key=lambda path: int(path.suffix[1:]))
            found[container] = [attempt_of(path.read_text()) for path in records]
            for number, attempt in enumerate(found[container]):
                folder = Path(self.paths.state, "log", "pods", f"default_{pod}_{uid}", container)
                attempt.logged = lines_of(folder, number)
        return found

    def left(self) -> list[str]:
        """What is on the host and in the folders of an instance without pods, but for agent and spawner themselves."""
        found = leaks.leftover_files(Path(self.paths.root), Path(self.paths.state))
        for part in (
            leaks.mounts(),
            leaks.named_netns(),
            leaks.links(),
            leaks.nft_tables(),
            leaks.cgroups(),
            leaks.routes(),
        ):
            found += [words for words in part.values() if self.session.mentions(words)]
        return [
            words
            for words in found
            if not words.startswith(tuple(f"mount {self.base / name} (" for name in self.disks))
        ]

    @functools.cached_property
    def newer(self) -> str:
        """A checkout of the next version: the same but for its number."""
        return self._checkout("newer", f'__version__ = "{NEWER}"\n')

    def _checkout(self, name: str, addition: str) -> str:
        """A copy of this one, `minipod/__init__.py` with some lines more."""
        copy = self.base / name / "minipod"
        shutil.copytree(CHECKOUT / "minipod", copy)
        with (copy / "__init__.py").open("a") as file:
            file.write(addition)
        return str(copy.parent)

    def left_processes(self) -> list[str]:
        return [f"process {pid} ({words[:80]})" for pid, words in self._commands()]

    def log_tail(self, count: int = 40) -> str:
        log = leaks.read(f"{self.paths.root}/agent.log").decode("utf-8", "replace")
        return "\n".join(log.splitlines()[-count:])

    def end(self) -> list[str]:
        """Deletes all, ends the agent, and returns what is left after that."""
        self.resume_all()
        self.close()
        left = leaks.wait_until_gone(lambda: self.left() + self.left_processes())
        for pid, _ in list(self._commands()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for name in self.disks:
            umount(str(self.base / name), MNT_DETACH)
        if left:
            self._clear_host()
            return [*left, f"(its folders are kept: {self.base})"]
        shutil.rmtree(self.base)
        return []

    def _clear_host(self) -> None:
        """What was left is reported; the host is not to keep it."""
        for name in leaks.links().values():
            if self.session.mentions(name):
                subprocess.run(["ip", "link", "delete", name.rpartition(" ")[2]], check=False, capture_output=True)
        if any(self.session.mentions(words) for words in leaks.nft_tables().values()):
            table = ["nft", "delete", "table", "inet", self.paths.instance]
            subprocess.run(table, check=False, capture_output=True)


def lines_of(folder: Path, attempt: int) -> list[str] | None:
    """The lines of an attempt's log, of its rotated files too; None where there is none."""
    stem = f"{attempt}.log"
    names = [name for name in leaks.list_folder(folder) if name == stem or name.startswith(f"{stem}.")]
    older = sorted({name.removesuffix(".gz") for name in names if name != stem and not name.endswith(".tmp")})
    text = "".join(_text(folder / name) for name in [*older, *([stem] if stem in names else [])])
    return [_plain(line) for line in text.splitlines()] if names else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:  # it has been compressed
        with contextlib.suppress(FileNotFoundError):
            return gzip.decompress(Path(f"{path}.gz").read_bytes()).decode()
    return ""


def _plain(line: str) -> str:
    parts = line.split(" ", 3)
    return parts[3] if len(parts) == 4 and parts[2] == "F" else line
