"""agent.log stays bounded while the agent runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from minipod.serve.agent_log import KEPT_BYTES, MAX_BYTES

PROGRAM = """
import logging
from minipod.serve.agent_log import AgentLog
logging.basicConfig(handlers=[AgentLog()], level=logging.INFO)
for number in range(6000):
    logging.warning("%05d %s", number, "x" * 1000)
"""


def test_a_log_that_grows_is_cut_to_its_end_in_place(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    with path.open("ab") as file:
        inode = path.stat().st_ino
        subprocess.run([sys.executable, "-c", PROGRAM], stderr=file, check=True)
    assert path.stat().st_ino == inode
    assert KEPT_BYTES < path.stat().st_size < MAX_BYTES
    lines = path.read_text().splitlines()
    assert lines[0] == "(shortened)"
    numbers = [int(line.split()[3]) for line in lines[1:]]
    assert numbers == list(range(numbers[0], 6000))


def test_a_log_that_was_long_before_the_agent_began_is_cut_too(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    path.write_text("an old line\n" * (MAX_BYTES // 10))
    with path.open("ab") as file:
        subprocess.run([sys.executable, "-c", "from minipod.serve.agent_log import AgentLog; AgentLog()"], stderr=file)
    assert KEPT_BYTES - 100 < path.stat().st_size <= KEPT_BYTES + 100


def test_a_log_that_there_is_no_memory_to_read_is_cut_altogether_and_no_error(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    path.write_text("an old line\n" * (MAX_BYTES // 10))
    text = (
        "from minipod.serve import agent_log\n"
        "def full(*_): raise MemoryError\n"
        "agent_log.open = full\n"
        "agent_log.AgentLog()\n"
    )
    with path.open("ab") as file:
        subprocess.run([sys.executable, "-c", text], stderr=file, check=True)
    assert path.read_bytes() == b""
