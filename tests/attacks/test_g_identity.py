"""G. Who a container is: users, groups, capabilities, and what another user of the host reaches (rows 38 to 43)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from minipod.plan.process.passwd import MAX_GROUPS
from minipod.runtime.images.busybox import find_busybox
from tests.attacks.canary import Canary
from tests.attacks.conftest import AttackedNode
from tests.attacks.evil import EvilImages
from tests.builders import Object, container, empty_dir, manifest, mount, pod
from tests.layouts import Entry, entry, folder, symlink
from tests.patience import SLOWNESS
from tests.volume_pods import apply, wait_for

pytestmark = pytest.mark.vm

V = {"volumeMounts": [mount("v", "/v")]}
WHO = "echo $(id -u) $(id -g) $(grep ^Groups: /proc/self/status | cut -f2)"
EVIL_PASSWD = "1000:x:0:0:root:/root:/bin/sh\nroot:x:0:0:root:/root:/bin/sh\napp:x:7:8::/home/app:/bin/sh\n"
EVIL_GROUP = "1000:x:0:1000\nroot:x:0:\nstaff:x:50:app,1000\n"
ACCOUNTS = (folder("etc"), entry("etc/passwd", EVIL_PASSWD.encode()), entry("etc/group", EVIL_GROUP.encode()))


def noted(script: str, name: str) -> str:
    """In one write, so that no half of it is read."""
    return f'said=$({script}) 2>&1; echo "$said" >> /v/{name}'


def says(name: str, image: str, script: str = WHO, **fields: Any) -> Object:
    """A container that writes to /v/<name> what the script prints at each of its starts, and stays."""
    return container(name, f"{noted(script, name)}; exec sleep 10000", image=image, **V, **fields)


def begin(node: AttackedNode, *containers: Object, name: str = "p", **spec: Any) -> None:
    apply(node, pod(name, *containers, volumes=[empty_dir("v")], **spec))


def said(node: AttackedNode) -> dict[str, str]:
    """What the containers have written, by name; the container that has not come to exec is not among them."""
    folder = Path(node.paths.state, "pods")
    return {path.name: path.read_text().strip() for path in folder.glob("*/volumes/kubernetes.io~empty-dir/v/*")}


def waiting(node: AttackedNode, name: str = "p") -> dict[str, tuple[str, str]]:
    """Reason and message of each container that waits."""
    status: Any = node.pod(name)["status"]
    return {
        one["name"]: (one["state"]["waiting"]["reason"], one["state"]["waiting"].get("message", ""))
        for one in status.get("containerStatuses", ())
        if one["state"].get("waiting", {}).get("reason", "ContainerCreating") != "ContainerCreating"
    }


def settled(node: AttackedNode, count: int, name: str = "p") -> None:
    """Each container has either written or waits for a reason."""
    wait_for(lambda: len(said(node).keys() | waiting(node, name).keys()) >= count, 30)


# -- 38: USER


@pytest.mark.attack(row=38)
def test_a_number_is_never_looked_up_as_a_name(node: AttackedNode, evil: EvilImages) -> None:
    """First start, restart, exec with and without a terminal, probe, hook and ephemeral container: all are uid 1000."""
    image = evil("names", *ACCOUNTS)
    note = {"exec": {"command": ["sh", "-c", noted(WHO, "probe")]}}
    hook = {"postStart": {"exec": {"command": ["sh", "-c", noted(WHO, "hook")]}}}
    script = f"{noted(WHO, 'own')}; [ $(wc -l < /v/own) = 1 ] || exec sleep 10000"
    begin(
        node,
        container("c", script, image=image, livenessProbe=note, lifecycle=hook, **V),
        securityContext={"runAsUser": 1000, "runAsNonRoot": True},
        restartPolicy="Always",
    )
    wait_for(lambda: {"own", "probe", "hook"} <= said(node).keys() and said(node)["own"].count("\n") == 1, 30)
    wait_for(lambda: not waiting(node))
    for words in ([], ["-t"]):
        assert node("exec", *words, "p", "--", "sh", "-c", WHO).stdout.split() == ["1000", "0", "0"]
    assert set("\n".join(said(node).values()).splitlines()) == {"1000 0 0"}
    seen = node("debug", "p", "--image", image, "--target", "c", "-i", "-q", "--", "sh", "-c", WHO, check=False)
    assert seen.stdout.split() == ["1000", "0", "0"]


NON_NUMERIC = "cannot verify user is non-root"
AS_ROOT = "image will run as root"
INVALID = "invalid user id"
REFUSED = {
    "": AS_ROOT,
    "0": AS_ROOT,
    "00": AS_ROOT,
    "+0": AS_ROOT,
    "0:1000": AS_ROOT,
    ":1000": AS_ROOT,
    "-1": INVALID,
    "2147483648": INVALID,
    "4294967295": INVALID,
    "4294967296": INVALID,
    "65536:0": "",
    "18446744073709551616": NON_NUMERIC,
    "1_0": NON_NUMERIC,
    "\u0660": NON_NUMERIC,
    "\uff10": NON_NUMERIC,
    " 0": NON_NUMERIC,
    "root": NON_NUMERIC,
    "x:y:z": NON_NUMERIC,
}


@pytest.mark.attack(row=38)
def test_no_user_of_an_image_is_root_in_spite_of_run_as_non_root(node: AttackedNode, evil: EvilImages) -> None:
    zero = "".join(f"{user.partition(':')[0]}:x:0:0::/root:/bin/sh\n" for user in REFUSED if user)
    accounts = (folder("etc"), entry("etc/passwd", zero.encode()))
    containers = [
        says(f"c{number}", evil(f"user{number}", *accounts, config={"User": user}))
        for number, user in enumerate(REFUSED)
    ]
    begin(node, *containers, securityContext={"runAsNonRoot": True})
    settled(node, len(containers))
    found = waiting(node)
    for number, (user, words) in enumerate(REFUSED.items()):
        if words:
            reason, message = found[f"c{number}"]
            assert (reason, words in message) == ("CreateContainerConfigError", True), f"{user!r}: {message}"
    assert list(said(node).values()) == ["65536 0 0"]


#: an image's User → who that is on a cluster: kubelet and containerd pass on the name alone
USERS = {
    "": "0 0 0 50",  # the first line of uid 0 is the one, and its name is 1000
    "app:50": "7 8 8 50",
    "app:staff": "7 8 8 50",
    "app:nosuch": "7 8 8 50",
    "1000:2000": "1000 0 0",
    "01000": "1000 0 0",
    "7": "7 8 8 50",
    "2147483647": "2147483647 0 0",
    "nosuch": "unable to find user nosuch: no matching entries in passwd file",
    "1_0": "unable to find user 1_0: no matching entries in passwd file",
    " 1000": "unable to find user  1000: no matching entries in passwd file",
    "\uff10": "unable to find user \uff10: no matching entries in passwd file",
    "-1": "invalid user -1: out of range",
    "4294967296": "invalid user 4294967296: out of range",
    "2147483648": "invalid user 2147483648: out of range",
    "18446744073709551616": "invalid user 18446744073709551616: out of range",
    "lost": 'uid of user lost: "4294967296" is no number',
}


@pytest.mark.attack(row=38)
def test_an_image_s_user_is_who_it_is_on_a_cluster_or_the_container_waits(node: AttackedNode, evil: EvilImages) -> None:
    accounts = (*ACCOUNTS[:1], entry("etc/passwd", f"{EVIL_PASSWD}lost:x:4294967296:0::/:\n".encode()), ACCOUNTS[2])
    containers = [
        says(f"c{number}", evil(f"user{number}", *accounts, config={"User": user})) for number, user in enumerate(USERS)
    ]
    begin(node, *containers)
    settled(node, len(containers))
    heard, found = said(node), waiting(node)
    for number, (user, expected) in enumerate(USERS.items()):
        if expected[0].isdigit():
            assert heard[f"c{number}"] == expected, user
        else:
            reason, message = found[f"c{number}"]
            assert (reason, " ".join(expected.split()) in message) == ("CreateContainerError", True), message
    status: Any = node.pod("p")["status"]
    assert status["phase"] == "Pending"  # waits are no end, whatever restartPolicy says
    assert all("terminated" not in one["state"] and not one["restartCount"] for one in status["containerStatuses"])
    events = node("events", "--for", "pod/p").stdout
    assert "Error: unable to find user nosuch" in events
    assert len(heard) + len(found) == len(USERS)


# -- 39: passwd and group


@pytest.mark.attack(row=39)
def test_a_passwd_that_is_no_passwd_neither_holds_up_the_agent_nor_lets_it_grow(
    node: AttackedNode, evil: EvilImages, canary: Canary
) -> None:
    tar_fifo, tar_device = b"6", b"3"
    million = b"".join(b"g%d:x:%d:root\n" % (number, number) for number in range(1_000_000))
    many = b"".join(b"g%d:x:%d:root\n" % (number, number) for number in range(1, MAX_GROUPS + 9))
    there = "etc/passwd"
    images: dict[str, tuple[Entry, str]] = {
        "fifo": (entry(there, kind=tar_fifo), "/etc/passwd: is no regular file"),
        "folder": (folder(there), "/etc/passwd: is no regular file"),
        "device": (entry(there, kind=tar_device, devmajor=1, devminor=5, mode=0o666), "is no regular file"),
        "line": (entry(there, b"root:x:0:0:" + b"x" * (3 << 20)), "/etc/passwd: has more than"),
        "groups": (entry("etc/group", million), "/etc/group: has more than"),
        "member": (entry("etc/group", many), f"at most {MAX_GROUPS} are supported"),
        "loop": (symlink(there, "passwd"), "/etc/passwd: too many levels of symbolic links"),
        "canary": (symlink(there, str(canary.file)), ""),
        "climbs": (symlink(there, f"../../../../../..{canary.file}"), ""),
        "environ": (symlink(there, "/proc/self/environ"), ""),
    }
    begin(node, container("c", "sleep 10000"), name="first")
    pid = node.agent_pid()
    assert pid is not None
    before = psutil.Process(pid).memory_info().rss
    made = {name: evil(name, folder("etc"), there_is) for name, (there_is, _) in images.items()}
    begin(node, *(says(name, made[name]) for name in images))
    settled(node, len(images))
    begun = time.monotonic()
    assert node.ask("status")
    assert time.monotonic() - begun < 1 * SLOWNESS
    found = waiting(node)
    expected = {name for name, (_, words) in images.items() if words}
    assert found.keys() == expected, said(node)
    for name in expected:
        assert (found[name][0], images[name][1] in found[name][1]) == ("CreateContainerError", True), found[name]
    assert said(node) == dict.fromkeys(("canary", "climbs", "environ"), "0 0 0")
    assert node.agent_pid() == pid
    assert psutil.Process(pid).memory_info().rss - before < 40 << 20


@pytest.mark.attack(row=39)
def test_a_passwd_behind_a_link_inside_the_image_is_found_in_whichever_layer(
    node: AttackedNode, evil: EvilImages
) -> None:
    lower = [folder("usr/share/etc"), entry("usr/share/etc/passwd", b"app:x:7:8::/:\n")]
    links = [folder("etc"), symlink("etc/passwd", "../usr/share/./etc/passwd")]
    upper = [entry("usr/share/etc/passwd", b"app:x:9:10::/:\n")]
    gone = [entry("etc/.wh.passwd")]
    user = {"User": "app"}
    begin(
        node,
        says("two", evil("two", layers=[lower, links], config=user)),
        says("three", evil("three", layers=[lower, links, upper], config=user)),
        says("gone", evil("gone", layers=[lower, links, upper, gone], config=user)),
        says("hidden", evil("hidden", layers=[lower, [entry("etc/.wh..wh..opq")]], config=user)),
    )
    settled(node, 4)
    assert said(node) == {"two": "7 8 8", "three": "9 10 10"}
    unknown = ("CreateContainerError", "unable to find user app: no matching entries in passwd file")
    assert waiting(node) == {"gone": unknown, "hidden": unknown}


# -- 40: supplementary groups

PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:100::/:/bin/sh\n"
GROUP = b"root:x:0:root\nwheel:x:10:root,app\napp:x:1000:app\nusers:x:100:\nshut:x:50:app\n"

#: securityContext of the container → its groups with the policies Merge and Strict; the pod's: fsGroup 2000, 3000 4000
GROUPS: list[tuple[Object, str, str]] = [
    ({}, "0 0 0 10 2000 3000 4000", "0 0 0 2000 3000 4000"),
    ({"runAsUser": 1000}, "1000 100 10 50 100 2000 3000 4000", "1000 100 100 2000 3000 4000"),
    ({"runAsUser": 1000, "runAsGroup": 7}, "1000 7 7 10 50 2000 3000 4000", "1000 7 7 2000 3000 4000"),
    ({"runAsUser": 1234}, "1234 0 0 2000 3000 4000", "1234 0 0 2000 3000 4000"),
    ({"runAsUser": 1234, "runAsGroup": 3000}, "1234 3000 2000 3000 4000", "1234 3000 2000 3000 4000"),
    ({"runAsGroup": 5}, "0 5 5 10 2000 3000 4000", "0 5 5 2000 3000 4000"),
]


@pytest.mark.attack(row=40)
@pytest.mark.parametrize("policy", ["Merge", "Strict"])
def test_groups_are_exactly_those_of_a_cluster_also_for_an_exec(
    node: AttackedNode, evil: EvilImages, policy: str
) -> None:
    """As containerd has them; a group that is missing opens what its absence was to close (mode 0707)."""
    closed = entry("closed", b"for all but the group", mode=0o707, gid=50)
    image = evil("groups", folder("etc"), entry("etc/passwd", PASSWD), entry("etc/group", GROUP), closed)
    containers = [says(f"c{number}", image, securityContext=context) for number, (context, _, _) in enumerate(GROUPS)]
    of_pod = {"fsGroup": 2000, "supplementalGroups": [3000, 4000, 3000], "supplementalGroupsPolicy": policy}
    begin(node, *containers, securityContext=of_pod)
    settled(node, len(GROUPS))
    expected = {
        f"c{number}": strict if policy == "Strict" else merge for number, (_, merge, strict) in enumerate(GROUPS)
    }
    assert said(node) == expected
    status: Any = node.pod("p")["status"]
    for one in status["containerStatuses"]:
        user = one["user"]["linux"]
        told = " ".join(map(str, (user["uid"], user["gid"], *user["supplementalGroups"])))
        assert told == expected[one["name"]]
    for name in expected:
        assert node("exec", "p", "-c", name, "--", "sh", "-c", WHO).stdout.strip() == expected[name]
    read = node("exec", "p", "-c", "c1", "--", "cat", "/closed", check=False)
    assert ("denied" in read.stderr) == (policy == "Merge")


# -- 41: capabilities

CAPS = "for name in CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs; do grep $name: /proc/self/status | cut -f2; done"
DEFAULT, PTRACE, BIND, NOTHING = "00000000a80425fb", "00000000a80c25fb", "0000000000000400", "0" * 16
INHERITABLE_NET_RAW = bytes.fromhex("0000000200000000002000000000000000000000")  # struct vfs_cap_data
CAPABLE = {"SCHILY.xattr.security.capability": INHERITABLE_NET_RAW.decode("utf-8", "surrogateescape")}
RESTRICTED = {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}, "allowPrivilegeEscalation": False}
#: securityContext → CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs
SETS: dict[str, tuple[Object, list[str]]] = {
    "root": ({}, [NOTHING, DEFAULT, DEFAULT, DEFAULT, NOTHING, "0"]),
    "user": ({"runAsUser": 1000}, [NOTHING, NOTHING, NOTHING, DEFAULT, NOTHING, "0"]),
    "root-restricted": (RESTRICTED, [NOTHING, BIND, BIND, BIND, NOTHING, "1"]),
    "user-restricted": ({**RESTRICTED, "runAsUser": 1000}, [NOTHING, NOTHING, NOTHING, BIND, NOTHING, "1"]),
}


@pytest.mark.attack(row=41)
def test_inheritable_and_ambient_capabilities_are_empty_in_every_process_of_a_container(
    node: AttackedNode, evil: EvilImages
) -> None:
    def probed(name: str) -> Object:
        return {"exec": {"command": ["sh", "-c", noted(CAPS, f"probe-{name}")]}}

    containers = [
        says(name, "busybox", CAPS, securityContext=context, livenessProbe=probed(name))
        for name, (context, _) in SETS.items()
    ]
    init = container("init", noted(CAPS, "init"), volumeMounts=V["volumeMounts"])
    begin(node, *containers, init=[init])
    wait_for(lambda: len(said(node)) == 2 * len(SETS) + 1, 30)
    heard = said(node)
    for name, (_, sets) in SETS.items():
        executed = node("exec", "p", "-c", name, "--", "sh", "-c", CAPS).stdout
        terminal = node("exec", "-t", "p", "-c", name, "--", "sh", "-c", CAPS).stdout
        for seen in (heard[name], heard[f"probe-{name}"], executed, terminal):
            assert seen.split() == sets, name
    assert heard["init"].split() == SETS["root"][1]
    seen = node("debug", "p", "--image", "busybox", "-i", "-q", "--", "sh", "-c", CAPS, check=False).stdout
    assert seen.split() == [NOTHING, PTRACE, PTRACE, PTRACE, NOTHING, "0"]  # kubectl's profile `general` adds it


@pytest.mark.attack(row=41)
def test_a_program_with_inheritable_file_capabilities_gains_none(node: AttackedNode, evil: EvilImages) -> None:
    """Its file's inheritable set counts only with the process's, which would be the bounding set (CVE-2022-24769)."""
    program = entry("caps/sh", find_busybox().read_bytes(), mode=0o755, pax_headers=CAPABLE)
    script = "/caps/sh -c 'for set in Eff Prm; do grep Cap$set: /proc/self/status | cut -f2; done'"
    begin(node, says("c", evil("caps", folder("caps"), program), script, securityContext={"runAsUser": 1000}))
    settled(node, 1)
    assert said(node)["c"].split() == [NOTHING, NOTHING]
    (stored,) = Path(node.paths.state, "images", "layers").glob("*/caps/sh")
    assert os.getxattr(stored, "security.capability") == INHERITABLE_NET_RAW


# -- 43: state


def as_nobody(paths: list[str]) -> dict[str, list[str]]:
    """What uid 65534 of the host can list, read and write below these places."""
    command = [os.path.realpath(sys.executable), "-I", "-c", WALK, *paths]  # the environment may be in /root
    done = subprocess.run(command, user=65534, group=65534, extra_groups=[], check=True, stdout=subprocess.PIPE)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


WALK = """
import json, os, sys
found = {"list": [], "read": [], "write": []}
def look(path):
    if os.path.isdir(path) and not os.path.islink(path):
        found["write"] += [path] * os.access(path, os.W_OK)
        try:
            names = os.listdir(path)
        except PermissionError:
            names = GUESSED
        else:
            found["list"].append(path)
        for name in names:
            look(f"{path}/{name}")
    elif os.path.lexists(path) and not os.path.islink(path):
        for kind, mode in (("read", os.R_OK), ("write", os.W_OK)):
            found[kind] += [path] * os.access(path, mode)
GUESSED = json.loads(sys.argv.pop(1))
for place in sys.argv[1:]:
    look(place)
print(json.dumps(found))
"""


@pytest.mark.attack(row=43)
def test_another_user_of_the_host_reaches_no_state_even_if_he_guesses_every_name(node: AttackedNode) -> None:
    """As a uid that a container's user is mapped to would: no list, no secret, no socket, no log."""
    root, state = Path(node.paths.root), Path(node.paths.state)
    for made in (root, state):  # by the agent itself, with the modes that it gives
        os.rename(made, f"{made}.of-the-fixture")
    Path(state).mkdir(mode=0o711)
    os.symlink(os.readlink(f"{state}.of-the-fixture/images"), state / "images")
    root.parent.chmod(0o755)
    secret: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": "secret"}}
    volumes = [{"name": "s", "secret": {"secretName": "s"}}, empty_dir("v")]
    holder = container("c", "echo said; cp /s/key /v/copy; cp /s/key /own; exec sleep 10000",
                       volumeMounts=[mount("s", "/s"), mount("v", "/v")])  # fmt: skip
    try:
        apply(node, secret, pod("p", holder, volumes=volumes))
        wait_for(lambda: "copy" in said(node))
        names = sorted({path.name for place in (root, state) for path in place.rglob("*")})
        reached = as_nobody([json.dumps(names), str(root), str(state)])
        ours = as_nobody([json.dumps(names), "/etc/hostname"])
    finally:
        node.close()
        for made in (root, state):
            shutil.rmtree(made, ignore_errors=True)
            os.rename(f"{made}.of-the-fixture", made)
    names_only = {f"{root}/containers", f"{root}/sandboxes", f"{state}/pods"}  # as on a node, names are no secret
    listed = {place for place in reached["list"] if not place.startswith(f"{state}/log")}
    assert listed <= names_only
    assert (reached["read"], reached["write"]) == ([], [])
    assert ours["read"]  # the walk itself finds what can be read


@pytest.mark.attack(row=43)
def test_long_and_many_fields_of_a_pod_break_no_message_on_the_way_to_the_kernel(node: AttackedNode) -> None:
    """What does not fit is refused by name, and the next pod starts."""
    env = [{"name": f"V{number}", "value": "x" * 40} for number in range(10_000)]
    env += [{"name": "LONG", "value": "x" * (100 << 10)}, {"name": "LINES", "value": "a\nb"}]
    mounts = [mount("v", f"/m/{number}", subPath=f"{'s' * 200}/{number}") for number in range(300)]
    shown = 'echo ${#LONG} $(env | grep -c ^V) "$LINES" $(ls /m | wc -l)'
    big = {**container("c", shown), "env": env, "volumeMounts": mounts}
    note: Object = {"metadata": {"annotations": {"a": "x" * (200 << 10)}}}
    done = node("run", "-", input=manifest(pod("big", big, volumes=[empty_dir("v")], **note)))
    assert done.stdout.split() == [str(100 << 10), "10000", "a", "b", "300"]
    too_long = container("c", "true", env=[{"name": f"E{n}", "value": "x" * (120 << 10)} for n in range(20)])
    done = node("run", "-", input=manifest(pod("longer", too_long)), check=False)
    assert done.returncode == 3
    assert "too long" in done.stderr
    assert node("run", "-", input=manifest(pod("next", container("c", "echo next")))).stdout == "next\n"
