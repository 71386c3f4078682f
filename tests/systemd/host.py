"""minipod installed on the virtual machine as docs/systemd.md says, and what the tests ask of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.conftest import CHECKOUT
from tests.patience import SLOWNESS

VARIABLE = "MINIPOD_TEST_SYSTEMD"
LIBRARY = Path("/opt/venv/lib/python3.11/site-packages/minipod")
PROGRAM = Path("/usr/local/bin/minipod")
SOCKET = "/run/minipod/agent.sock"
GROUP = Path("/sys/fs/cgroup/minipod")
UNIT_GROUP = Path("/sys/fs/cgroup/system.slice/minipod.service")
STATIC = Path("/etc/minipod/pods")
UNITS = Path("/etc/minipod/units")
NODE = socket.gethostname().lower()
READY_AFTER_S = 3
PAGE = CHECKOUT / "docs" / "systemd.md"
WAIT_S = 30.0 * SLOWNESS

#: what `pip install` writes
_WRAPPER = """#!/opt/venv/bin/python3
import sys
from minipod.cli.main import entry
if __name__ == "__main__":
    sys.exit(entry())
"""
#: counts, and says goodbye within its grace period
COUNTING = (
    "trap 'echo ending; sleep 1; echo ended; exit 0' TERM; i=0; while true; do i=$((i+1)); echo line $i; sleep 1; done"
)
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: {policy}
  terminationGracePeriodSeconds: 60
  containers:
  - name: c
    image: busybox
    command: [sh, -c, {script}]
    resources: {{limits: {{memory: 64Mi, cpu: 500m}}}}
"""


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        list(map(str, command)), cwd=CHECKOUT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert not check or done.returncode == 0, f"{shlex.join(map(str, command))}: {done.stdout}{done.stderr}"
    return done


def minipod(*arguments: str, check: bool = True) -> str:
    return run(PROGRAM, *arguments, check=check).stdout


def systemctl(*arguments: str, check: bool = True) -> str:
    return run("systemctl", *arguments, check=check).stdout.strip()


def until(condition: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}\n{journal()}"
        time.sleep(0.2)


def journal(*arguments: str) -> str:
    units = ("-u", "minipod", "-u", "minipod-pods")
    return run("journalctl", "--no-pager", "-o", "cat", *units, *(arguments or ("-n", "60"))).stdout


def commands_of(heading: str) -> list[str]:
    """The indented lines below a heading of the page."""
    section = f"\n{PAGE.read_text()}".partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    return [line.strip() for line in section.splitlines() if line.startswith("    ")]


def install() -> None:
    """The program, then what the page says, by copy and paste."""
    copy(version=None)
    PROGRAM.write_text(_WRAPPER)
    PROGRAM.chmod(0o755)
    run(PROGRAM, "image", "load", "--default")
    for folder in (STATIC, UNITS):
        folder.mkdir(parents=True, exist_ok=True)
    for command in commands_of("# minipod as a service of systemd"):
        run("sh", "-c", command)


def copy(version: str | None) -> None:
    """Installs the checkout's files over those that are there, as another version."""
    shutil.rmtree(LIBRARY, ignore_errors=True)
    shutil.copytree(CHECKOUT / "minipod", LIBRARY)
    if version is not None:
        init = LIBRARY / "__init__.py"
        before = init.read_text()
        init.write_text(re.sub(r'^__version__ = ".*"$', f'__version__ = "{version}"', before, flags=re.MULTILINE))
        assert init.read_text() != before


@contextlib.contextmanager
def setting(**settings: str) -> Iterator[None]:
    """The unit with other settings, and the agent restarted with them."""
    folder = Path("/run/systemd/system/minipod.service.d")
    folder.mkdir(parents=True)
    (folder / "test.conf").write_text("[Service]\n" + "".join(f"{key}={value}\n" for key, value in settings.items()))
    systemctl("daemon-reload")
    systemctl("restart", "minipod")
    try:
        yield
    finally:
        shutil.rmtree(folder)
        systemctl("daemon-reload")
        systemctl("restart", "minipod")


# -- what there is


def shown(unit: str, name: str) -> str:
    return systemctl("show", "-P", name, unit)


def main_pid() -> int:
    return int(shown("minipod", "MainPID"))


def active() -> bool:
    return shown("minipod", "ActiveState") == "active"


def serves() -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(SOCKET) == 0


def procs(group: Path) -> list[int]:
    """The processes of a group and of those below it."""
    files = [group / "cgroup.procs", *group.glob("**/cgroup.procs")]
    return sorted({int(pid) for file in files if file.exists() for pid in file.read_text().split()})


def spawners() -> list[int]:
    return procs(GROUP / "spawner")


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(minipod("get", "pod", name, "-o", "json"))
    return found


def container(name: str) -> dict[str, Any]:
    found: dict[str, Any] = pod(name)["status"]["containerStatuses"][0]
    return found


def pod_group(name: str) -> Path:
    uid = pod(name)["metadata"]["uid"]
    [found] = GROUP.glob(f"kubepods/**/pod{uid}")
    return found


def processes(name: str) -> list[int]:
    """The first processes of the pod's containers: what a `sleep` of theirs is changes all the time."""
    return [procs(group)[0] for group in sorted(pod_group(name).iterdir()) if group.is_dir()]


def start_pod(name: str = "web", policy: str = "Always", script: str = COUNTING) -> list[int]:
    """Runs the pod until it is ready; its processes."""
    file = Path(f"/tmp/{name}.yaml")
    file.write_text(POD.format(name=name, policy=policy, script=json.dumps(script)))
    minipod("run", "-d", "--until", "ready", str(file))
    return processes(name)


def static_pod(name: str) -> str:
    """Writes the manifest of a static pod; the name that the pod gets."""
    (STATIC / f"{name}.yaml").write_text(POD.format(name=name, policy="Always", script=json.dumps(COUNTING)))
    return f"{name}-{NODE}"


def unit_pod(name: str) -> None:
    """Writes the manifest of minipod@NAME, whose pod is ready after READY_AFTER_S."""
    probe = f"    readinessProbe: {{initialDelaySeconds: {READY_AFTER_S}, exec: {{command: ['true']}}}}\n"
    text = POD.format(name=name, policy="Always", script=json.dumps(COUNTING))
    (UNITS / f"{name}.yaml").write_text(text.rstrip() + "\n" + probe)


def pod_names() -> list[str]:
    return [found["metadata"]["name"] for found in json.loads(minipod("get", "pods", "-o", "json"))["items"]]


def running(name: str) -> bool:
    return name in pod_names() and bool(container(name)["state"].get("running"))


def delete_pods() -> None:
    if names := pod_names():
        minipod("delete", "pod", "--grace-period", "0", "--force", *names)


def lines_of(name: str, *arguments: str) -> list[str]:
    return minipod("logs", name, *arguments).splitlines()


def assert_untouched(name: str, before: list[int]) -> None:
    """The pod's processes are the same, none was restarted, and no line of their output is missing."""
    assert processes(name) == before
    assert container(name)["restartCount"] == 0
    lines = lines_of(name)
    assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]
    until(lambda: len(lines_of(name)) > len(lines), "its output is read on")


def oom_score_adj(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def exists(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")
