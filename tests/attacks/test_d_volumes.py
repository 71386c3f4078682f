"""Section D of the catalogue: volumes, subPath, what writes and changes owners in them."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import ContainerError
from minipod.kernel.ownership import give_to_group
from minipod.plan.operation import ChildContext
from minipod.plan.process.rootfs import BindMount
from minipod.plan.volumes import sub_path
from minipod.plan.volumes.sub_path import MakeSubPath, open_source
from tests.attacks.canary import Canary
from tests.attacks.conftest import AttackedNode
from tests.attacks.evil import EvilImages
from tests.attacks.swapper import Swapper, attempts
from tests.builders import container, empty_dir, host_path, manifest, mount, pod
from tests.guard import guarded
from tests.layouts import symlink
from tests.volume_pods import claim, config_map, secret, wait_for

SLEEP = "exec sleep 100000"
LOOK = "cat /x /x/secret /x/sub/*; ls -la /x; echo started"


def apply(node: AttackedNode, *objects: dict[str, Any]) -> None:
    node("apply", "-", input=manifest(*objects))


def waiting(node: AttackedNode, name: str = "p") -> dict[str, tuple[str, str]]:
    """Container → (reason, message) of what it waits for."""
    status: Any = node.pod(name)["status"]
    states = {one["name"]: one["state"].get("waiting") or {} for one in status.get("containerStatuses") or []}
    return {name: (state.get("reason", ""), state.get("message", "")) for name, state in states.items()}


# ---- 22. links in a subPath


LINKS = {
    "root": "ln -s / /v/root",
    "root/etc": "",
    "canary": "ln -s CANARY /v/canary",
    "canary/secret": "",
    "file": "ln -s CANARY/secret /v/file",
    "chain": "ln -s chain2 /v/chain; ln -s CANARY /v/chain2",
    "magic": "ln -s /proc/self/root /v/magic",
    "magic/tmp": "",
    "descriptor": "ln -s /proc/self/fd /v/descriptor",
    "up": "ln -s ../../../../../../../.. /v/up",
    "new/canary": "mkdir /v/new; ln -s ../canary /v/new/canary",
    "canary/made": "",
    "dangling": "ln -s CANARY/made /v/dangling",
}


@pytest.mark.attack(row=22)
@pytest.mark.vm
def test_no_link_in_a_sub_path_leads_out_of_the_volume(node: AttackedNode, canary: Canary) -> None:
    """CVE-2017-1002101: every container of the pod mounts another link that the first one made."""
    make = "; ".join(filter(None, LINKS.values())).replace("CANARY", str(canary.folder))
    victims = [
        {**container(f"c{number}", LOOK), "volumeMounts": [mount("v", "/x", subPath=path)]}
        for number, path in enumerate(LINKS)
    ]
    init = {**container("i", make), "volumeMounts": [mount("v", "/v")]}
    apply(node, pod("p", *victims, init=[init], volumes=[empty_dir("v")]))
    wait_for(lambda: all(reason == "CreateContainerConfigError" for reason, _ in waiting(node).values()))
    assert len(waiting(node)) == len(LINKS)
    told = {path: waiting(node)[f"c{number}"][1] for number, path in enumerate(LINKS)}
    assert [path for path, message in told.items() if "leads" not in message] == []
    assert str(canary.folder) not in "".join(told.values())


@pytest.mark.attack(row=22)
def test_what_an_expression_expands_to_is_judged_and_not_what_it_says(node: AttackedNode, canary: Canary) -> None:
    values = {"up": "..", "absolute": str(canary.folder), "below": f"a/../../..{canary.folder}", "root": "/"}
    victims = [
        {**container(name, LOOK, env=[{"name": "X", "value": value}]),
         "volumeMounts": [mount("v", "/x", subPathExpr="$(X)" if name != "below" else "b/$(X)")]}
        for name, value in values.items()
    ]  # fmt: skip
    apply(node, pod("p", *victims, volumes=[empty_dir("v")]))
    wait_for(lambda: all(reason == "CreateContainerConfigError" for reason, _ in waiting(node).values()))
    assert len(waiting(node)) == len(values)


# ---- 23. a subPath that is exchanged


@pytest.mark.attack(row=23)
@pytest.mark.vm
def test_a_sub_path_that_another_container_exchanges_is_the_volumes_or_refused(
    node: AttackedNode, evil: EvilImages, canary: Canary
) -> None:
    """CVE-2021-25741: the folder, a file in it, and one that has to be made, while a pod swaps it for a link."""
    swapper = Swapper(node, evil, canary.folder, prepare="echo own > /v/d/secret")
    seen: set[str] = set()
    for number in attempts():
        path = ("d", "d/secret", "d/made/deep")[number % 3]
        try:
            MakeSubPath(volume="v", container="c", source=str(swapper.folder), sub_path=path).execute()
            fd = open_source(str(swapper.folder), path)
        except (OSError, ContainerError) as error:
            seen.add(type(error).__name__)
            continue
        seen.add("opened")
        where = os.readlink(f"/proc/self/fd/{fd}")
        os.close(fd)
        assert where.startswith(str(swapper.folder))
        for made in ("d/made/deep", "d/made"):
            with contextlib.suppress(OSError):
                os.rmdir(swapper.folder / made)
    swapper.assert_raced(seen)
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    for number in range(6):
        victim = {**container("c", "cat /x/secret; ls -la /x"), "volumeMounts": [mount("data", "/x", subPath="d")]}
        node(
            "run",
            "--timeout",
            "10s",
            "-",
            input=manifest(pod(f"victim{number}", victim, volumes=[volume])),
            check=False,
        )


@pytest.mark.attack(row=23)
def test_a_sub_path_that_is_exchanged_between_its_making_and_its_mount_is_refused(
    tmp_path: Path, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced: first between the check and the mount, then between the search for a parent and the making in it."""
    volume = tmp_path / "volume"
    (volume / "d").mkdir(parents=True)
    make = MakeSubPath(volume="v", container="c", source=str(volume), sub_path="d")
    make.execute()
    (volume / "d").rmdir()
    (volume / "d").symlink_to(canary.folder)
    with pytest.raises(OSError, match="Invalid cross-device link") as caught:
        open_source(str(volume), "d")
    assert caught.value.errno == errno.EXDEV
    (volume / "d").unlink()
    (volume / "d").mkdir()
    original = sub_path._make_folder
    swapped = []

    def after_the_swap(volume_fd: int, parent: str, name: str, mode: int) -> int:
        (volume / "d").rmdir()
        (volume / "d").symlink_to(canary.folder)
        swapped.append(parent)
        return original(volume_fd, parent, name, mode)

    monkeypatch.setattr(sub_path, "_make_folder", after_the_swap)
    with pytest.raises(ContainerError, match="leads out of the volume"):
        MakeSubPath(volume="v", container="c", source=str(volume), sub_path="d/made").execute()
    assert swapped == ["./d"]


# ---- 24. where a volume comes from


@pytest.mark.attack(row=24)
def test_no_link_of_an_image_volume_leads_out_of_the_image(
    node: AttackedNode, evil: EvilImages, canary: Canary
) -> None:
    """CVE-2024-1753."""
    links = {"root": "/", "canary": str(canary.folder), "up": "../../../../../../../../..", "magic": "/proc/self/root"}
    image = evil("links", *(symlink(name, target) for name, target in links.items()))
    paths = [*links, "canary/secret", f"up{canary.folder}", "magic/etc"]
    victims = [
        {**container(f"c{number}", LOOK), "volumeMounts": [mount("i", "/x", subPath=path)]}
        for number, path in enumerate(paths)
    ]
    apply(node, pod("p", *victims, volumes=[{"name": "i", "image": {"reference": image}}]))
    wait_for(lambda: all(reason == "CreateContainerError" for reason, _ in waiting(node).values()))
    assert len(waiting(node)) == len(paths)


@pytest.mark.attack(row=24)
@pytest.mark.parametrize("kind", ["Socket", "File", "CharDevice", "BlockDevice"])
def test_a_path_of_the_host_that_is_swapped_after_it_was_checked_is_not_mounted(
    canary: Canary, tmp_path: Path, kind: str
) -> None:
    """Forced: of the wanted type when it is looked at, then a link to a folder: what is mounted is looked at again."""
    (tmp_path / "path").symlink_to(canary.folder)
    wanted = BindMount(source=str(tmp_path / "path"), target="/x", host_path_type=kind)
    with pytest.raises(OSError, match="type check failed"):
        wanted.take().execute(ChildContext({}))


@pytest.mark.attack(row=24)
@pytest.mark.vm
def test_the_type_of_a_path_of_the_host_reaches_its_mount(node: AttackedNode, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    one = {**container("c", "cat /x; exit 0"), "volumeMounts": [mount("h", "/x")]}
    text = manifest(pod("p", one, volumes=[host_path("h", tmp_path / "file", type="File")]))
    assert node("run", "-", input=text).stdout == "text\n"


@pytest.mark.attack(row=24)
@pytest.mark.parametrize(
    "thing",
    [
        {"kind": "PersistentVolume", "metadata": {"name": "../../x"}, "spec": {"local": {"path": "/tmp"}}},
        {"kind": "PersistentVolume", "metadata": {"name": "x"}, "spec": {"local": {"path": "/a/../../etc"}}},
        {"kind": "PersistentVolume", "metadata": {"name": "x"}, "spec": {"hostPath": {"path": "/a/../etc"}}},
        {"kind": "PersistentVolume", "metadata": {"name": "x"}, "spec": {"nfs": {"server": "s", "path": "../x"}}},
        {"kind": "PersistentVolumeClaim", "metadata": {"name": ".."}, "spec": {}},
        {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"../x": "1"}},
        {"kind": "Secret", "metadata": {"name": "a/b"}, "stringData": {"x": "1"}},
        {"kind": "Pod", "metadata": {"name": "../x"}, "spec": {"containers": [container("c", "true")]}},
        pod("x", container("c", "true"), volumes=[host_path("v", "/a/../../etc")]),
        pod("x", container("c", "true"), volumes=[empty_dir("../v")]),
        pod("x", container("c", "true"), volumes=[{"name": "v", "configMap": {"name": "c", "items": [
            {"key": "k", "path": "../x"}]}}]),
    ],
    ids=range(11),
)  # fmt: skip
def test_a_name_or_path_that_leads_elsewhere_is_refused_by_its_field(node: AttackedNode, thing: dict[str, Any]) -> None:
    capacity = {"capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"]}
    if thing["kind"] == "PersistentVolume":
        thing = {**thing, "spec": {**capacity, **thing["spec"]}}
    if thing["kind"] == "PersistentVolumeClaim":
        thing = {**thing, "spec": claim()["spec"]}
    done = node("apply", "-", input=manifest({"apiVersion": "v1", **thing}), check=False)
    assert done.returncode != 0
    assert "Invalid value" in done.stderr


@pytest.mark.attack(row=24)
@pytest.mark.parametrize(
    "source", [{"configMap": {"name": "../c"}}, {"persistentVolumeClaim": {"claimName": "../../c"}}]
)
def test_a_name_that_kubernetes_takes_is_no_path(node: AttackedNode, source: dict[str, Any]) -> None:
    victim = {**container("c", SLEEP), "volumeMounts": [mount("v", "/v")]}
    apply(node, pod("p", victim, volumes=[{"name": "v", **source}]))
    wait_for(lambda: '/c" not found' in node("events").stdout)


@pytest.mark.attack(row=24)
def test_the_end_of_a_volume_follows_no_link_in_it(node: AttackedNode, canary: Canary) -> None:
    make = f"ln -s {canary.folder} /v/link; mkdir /v/d; ln -s {canary.folder}/secret /v/d/file"
    maker = {**container("c", make), "volumeMounts": [mount("data", "/v")]}
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    node("run", "-", input=manifest(claim(), pod("p", maker, volumes=[volume])))
    folder = next(Path(node.paths.state, "pv").iterdir())
    assert (folder / "link").is_symlink()
    node("delete", "pod", "p", check=False)
    node("delete", "pvc", "data")
    wait_for(lambda: not folder.exists())


# ---- 25. the files that minipod writes


@pytest.mark.attack(row=25)
@pytest.mark.vm
def test_an_update_of_files_follows_no_link_that_a_container_left(node: AttackedNode, canary: Canary) -> None:
    """CVE-2025-9566, CVE-2017-1002102: every name in the volume becomes a link, and then the object changes."""
    volumes: list[dict[str, Any]] = [
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "s", "secret": {"secretName": "s"}},
        {"name": "p", "projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "s"}}]}},
    ]
    reader = {**container("r", SLEEP), "volumeMounts": [mount(one["name"], f"/{one['name']}") for one in volumes]}
    attacker = {**container("a", SLEEP), "volumeMounts": [mount("pods", "/pods", mountPropagation="HostToContainer")]}
    volumes.append(host_path("pods", f"{node.paths.state}/pods"))
    start = pod("p", reader, attacker, volumes=volumes)
    node("run", "-d", "--timeout", "20s", "-", input=manifest(config_map("c", k="1"), secret("s", q="1"), start))
    ways = (
        "rm -f k q; ln -s CANARY/secret k; ln -s CANARY/secret q; ln -s CANARY/new other",
        "t=$(readlink ..data); rm ..data; ln -s CANARY ..data",
        "rm -f ..data; ln -s ..2_CANARY ..data; ln -s CANARY ..2_CANARY",
        "rm -rf ..2*; for n in 1 2 3; do ln -s CANARY ..2030_01_01_00_00_00.$n; done; ln -s CANARY ..data_tmp",
    )
    for number, way in enumerate(ways, 2):
        change = way.replace("..2_CANARY", "..2030_x").replace("CANARY", str(canary.folder))
        script = (
            f"for d in /pods/*/volumes/*/c /pods/*/volumes/*/s /pods/*/volumes/*/p; do cd $d && {{ {change}; }}; done"
        )
        node("exec", "p", "-c", "a", "--", "sh", "-c", guarded(script), check=False)
        apply(node, config_map("c", k=str(number), other="x"), secret("s", q=str(number)))
        # seen by a volume that is whole, or refused with an event: in either case the agent has looked at it
        places = [next(Path(node.paths.state, "pods").glob(f"*/volumes/*/{name}")) for name in "csp"]
        wait_for(partial(all_looked_at, node, places, str(number)))


def all_looked_at(node: AttackedNode, places: Sequence[Path], value: str) -> bool:
    return all(looked_at(node, place, value) for place in places)


def looked_at(node: AttackedNode, place: Path, value: str) -> bool:
    """Whether the new value is in the volume, or an event says why it is not."""
    for name in ("k", "q"):
        with contextlib.suppress(OSError):
            if (place / "..data" / name).read_text() == value:
                return True
    return str(place.name) in node("events").stdout and "does not lead to a directory" in node("events").stdout


@pytest.mark.attack(row=25)
def test_the_same_pod_again_begins_with_files_of_its_own(node: AttackedNode, canary: Canary) -> None:
    links = f"ln -s {canary.folder} ..data; ln -s {canary.folder}/secret k; echo x > k"
    attack = guarded(f"cd /c || exit; rm -rf ..data k ..2*; {links}; cat /c/k")
    victim = {**container("c", attack), "volumeMounts": [mount("c", "/c")]}
    text = manifest(config_map("c", k="whole\n"), pod("p", victim, volumes=[{"name": "c", "configMap": {"name": "c"}}]))
    for _ in range(5):
        assert node("run", "-", input=text).stdout == "whole\n"
        node("delete", "pod", "p", "--ignore-not-found", check=False)


# ---- 26. fsGroup


@pytest.mark.attack(row=26)
@pytest.mark.vm
def test_a_group_is_given_nothing_outside_of_the_volume(node: AttackedNode, evil: EvilImages, canary: Canary) -> None:
    """CVE-2021-43816's kin: chown and chmod of a tree in which a pod swaps a folder for a link to elsewhere."""
    prepare = (
        "echo x > /v/d/secret; mkdir /v/d/sub; ln -s CANARY/secret /v/file; mkfifo /v/fifo; mknod /v/null c 1 3; "
        "for n in $(seq 20); do ln -s CANARY /v/d/$n; done"
    ).replace("CANARY", str(canary.folder))
    swapper = Swapper(node, evil, canary.folder, prepare=prepare)
    inside = swapper.open_folder("secret")
    seen: set[str] = set()
    for number in attempts():
        give_to_group(str(swapper.folder), 2000 + number, file_bits=0o660, folder_bits=0o2770)
        seen.add("reached" if os.fstat(inside).st_gid == 2000 + number else "missed")
    os.close(inside)
    swapper.assert_raced(seen)
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    owner = {**container("c", "stat -c %g /v/null /v/fifo"), "volumeMounts": [mount("data", "/v")]}
    text = manifest(pod("p", owner, volumes=[volume], securityContext={"fsGroup": 3000}))
    assert node("run", "-", input=text).stdout == "3000\n3000\n"


@pytest.mark.attack(row=26)
def test_a_volume_of_very_many_files_is_given_to_a_group_in_a_bounded_time(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / str(number)).mkdir()
        for name in range(200):
            os.symlink("/", tmp_path / str(number) / str(name))
    begun = time.monotonic()
    give_to_group(str(tmp_path), 2000, file_bits=0o660, folder_bits=0o2770)
    assert time.monotonic() - begun < 20


# ---- 27. volumes of an image


@pytest.mark.attack(row=27)
@pytest.mark.vm
def test_the_volumes_of_an_image_are_folders_of_its_own_root(
    node: AttackedNode, evil: EvilImages, canary: Canary
) -> None:
    """CVE-2022-23648: an image's VOLUME names a place of the host, through `..` or a link."""
    places = (f"/../../..{canary.folder}", "/s", "/s/sub", "/up/d", "relative", "", "/")
    volumes: dict[str, Any] = {place: {} for place in places}
    links = (symlink("s", str(canary.folder)), symlink("up", "../../../../.."))
    image = evil("volumes", *links, config={"Volumes": volumes})
    script = (
        f"for d in /s /s/sub {canary.folder} /up/d /relative; do ls -la $d; echo x > $d/secret; done; echo done; exit 0"
    )
    for read_only in (False, True):
        context = {"readOnlyRootFilesystem": read_only}
        victim = container("c", script, image=image, securityContext=context)
        assert "done" in node("run", "-", input=manifest(pod("p", victim))).stdout


# ---- 28. gitRepo


@pytest.mark.attack(row=28)
@pytest.mark.parametrize("repository", ["file:///", "ext::sh -c touch% CANARY/new", "CANARY", "--upload-pack=touch"])
def test_no_git_runs_on_the_host(
    node: AttackedNode, canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: str
) -> None:
    """CVE-2024-10220, CVE-2025-1767, CVE-2018-11235."""
    git = tmp_path / "git"
    git.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    source = {"repository": repository.replace("CANARY", str(canary.folder)), "directory": "."}
    victim = {**container("c", SLEEP), "volumeMounts": [mount("v", "/v")]}
    text = manifest(pod("p", victim, volumes=[{"name": "v", "gitRepo": source}]))
    for verb in ("run", "apply"):
        done = node(verb, "-", input=text, check=False)
        assert done.returncode != 0
        assert "gitRepo: not supported" in done.stderr
    assert not (tmp_path / "ran").exists()
