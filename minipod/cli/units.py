"""An agent that is a unit of systemd (layer 6): systemd alone stops and starts it, and so knows its state."""

from __future__ import annotations

import re
import subprocess

from minipod.cli.patience import patience
from minipod.cli.values import Object
from minipod.errors import AgentError

_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]+\.service", re.ASCII)


def unit_of(agent: Object) -> str:
    """The unit of systemd that the agent is; empty: none."""
    unit = str(agent.get("unit") or "")
    return unit if _UNIT.fullmatch(unit) else ""


def systemctl(verb: str, unit: str) -> None:
    """Asks systemd, and returns when it has done it. Raises AgentError with its words."""
    command = ["systemctl", verb, "--", unit]
    try:
        with patience.during(f"systemctl {verb} {unit}"):
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise AgentError(f"the agent is {unit}, and systemctl cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        words = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise AgentError(f"systemctl {verb} {unit}: {words}: journalctl -u {unit}")
