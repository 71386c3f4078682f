"""Section C of the catalogue: what the kernel's own file systems let a container read, set and use."""

from __future__ import annotations

from typing import Any

import pytest

from tests.attacks.conftest import AttackedNode
from tests.attacks.test_b_rootfs_and_mounts import LOOK
from tests.builders import container, manifest, pod

pytestmark = pytest.mark.vm

#: open to root in containerd's containers, too: triggers of pressure, what asks for CAP_SYS_ADMIN at the write, and
#: which of the kernel's debug messages are logged
HARMLESS = {f"/proc/pressure/{name}" for name in ("cpu", "io", "irq", "memory")} | {"/proc/mtrr"}
HARMLESS |= {"/proc/dynamic_debug/control"}


@pytest.mark.attack(row=21)
def test_root_in_a_container_opens_nothing_of_the_kernel_for_writing(node: AttackedNode) -> None:
    """Every file with a write permission in /proc and /sys is opened and closed, and none is written to."""
    script = """
        find /proc /sys -type f -perm /222 2>/dev/null | grep -v '^/proc/[0-9]' > /tmp/all
        wc -l < /tmp/all
        while read -r file; do (true >> "$file") 2>/dev/null && echo "$file"; done < /tmp/all; exit 0
    """
    tried, *opened = node("run", "-", input=manifest(pod("p", container("c", script)))).stdout.splitlines()
    assert int(tried) > 500
    assert set(opened) - HARMLESS == set()


@pytest.mark.attack(row=21)
@pytest.mark.parametrize(("field", "value"), [("hostUsers", True), ("hostUsers", None)])
def test_proc_is_unmasked_only_in_a_user_namespace(node: AttackedNode, field: str, value: Any) -> None:
    made = pod("p", container("c", "true", securityContext={"procMount": "Unmasked"}), **{field: value})
    refused = node("run", "-", input=manifest(made), check=False)
    assert refused.returncode != 0
    assert "procMount" in refused.stderr
    assert "hostUsers" in refused.stderr


@pytest.mark.attack(row=21)
@pytest.mark.parametrize("shared", ["nothing", "shareProcessNamespace", "hostPID", "hostNetwork", "hostIPC", "debug"])
def test_every_kind_of_procfs_and_sysfs_is_masked(node: AttackedNode, shared: str) -> None:
    """That of the pod's, of the host's or of another container's PID namespace, and the sysfs of the host's network."""
    fields: dict[str, Any] = {} if shared in ("nothing", "debug") else {shared: True}
    if shared != "debug":
        assert node("run", "-", input=manifest(pod("p", container("c", LOOK), **fields))).stdout == "looked\n"
        return
    node("run", "-d", "-", input=manifest(pod("p", container("c", "exec sleep 1000"))))
    seen = node("debug", "p", "--image=busybox", "--target=c", "-q", "--attach=true", "--", "sh", "-c", LOOK).stdout
    assert seen == "looked\n"
