"""Other people's named network namespaces beside the pods' own (node, root), in a mount namespace of the test's own."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, subprocess, sys
from minipod.kernel import mount
from minipod.plan.process.namespaces import CreateNamespaces
from tests.own_mounts import unshare_mounts

unshare_mounts()
mount.mount("run", "/run", "tmpfs")
def mounted():
    return [line.split()[4] for line in open("/proc/self/mountinfo")].count("/run/netns")
before = mounted()
made = CreateNamespaces(pins={"net": "/run/netns/pod"})
made.execute()
subprocess.run(["ip", "netns", "add", "theirs"], check=True)
made.undo()
assert os.listdir("/run/netns") == ["theirs"], os.listdir("/run/netns")
subprocess.run(["ip", "netns", "delete", "theirs"], check=True)
again = CreateNamespaces(pins={"net": "/run/netns/pod"})
again.execute()
again.undo()
assert os.listdir("/run/netns") == []
assert mounted() == before
"""


@pytest.mark.vm
def test_a_namespace_that_somebody_adds_does_not_hide_the_pods() -> None:
    """`ip netns add` binds /run/netns onto itself where it is no mount: what was mounted in it could never go again."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
