"""Section F: images from strangers (rows 31 to 36). More of them are in tests/node/test_images* and test_pull*."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zstandard

from minipod.errors import ImageError
from minipod.runtime.images import layers, unpack
from minipod.runtime.images.store import ImageStore
from minipod.runtime.images.tarstream import BadLayerError
from tests import registry as fake
from tests.attacks.canary import Canary
from tests.attacks.conftest import AttackedNode
from tests.attacks.evil import EvilImages
from tests.builders import container, manifest, pod
from tests.layouts import Entry, archive, entry, folder, hard_link, make_layout, symlink
from tests.pulling import HELLO, get, login
from tests.registry import Registry, Request

# ---- row 31, 32: layers that reach outside

FAR = "../" * 40


def chain(target: str) -> list[Entry]:
    """Links whose names together are longer than a path can be, at the end of them the target."""
    name = "x" * 200
    links = [symlink(f"l{number}", f"{'./' * 500}l{number + 1}") for number in range(20)]
    return [*links, symlink("l20", target), folder(name), entry("l0/secret", b"evil"), entry("l0/new", b"evil")]


#: layers, lowest first, each a list of entries; `c` is the canary's folder
Reach = Callable[[str], Sequence[Sequence[Entry]]]
OUTWARD: dict[str, Reach] = {
    "dots": lambda c: [[entry(f"{FAR}{c[1:]}/secret", b"evil")]],
    "absolute": lambda c: [[entry(f"{c}/secret", b"evil"), folder(f"{c}/new")]],
    "link of a lower layer": lambda c: [[symlink("a", c)], [entry("a/secret", b"evil"), entry("a/new", b"evil")]],
    "dots of a lower layer": lambda c: [[symlink("a", FAR + c[1:])], [entry("a/secret", b"evil", mode=0o777)]],
    "whiteout below a lower link": lambda c: [[symlink("a", c)], [entry("a/.wh.secret"), entry("a/.wh..wh..opq")]],
    "link in the middle": lambda c: [
        [folder("a"), entry("a/f", b"x"), symlink("a", c), entry("a/secret", b"evil"), entry("a/.wh.ptmx")]
    ],
    "hard link to a link": lambda c: [[symlink("s", f"{c}/secret"), hard_link("h", "s"), entry("h", b"evil")]],
    "hard link through a link": lambda c: [[symlink("d", c), hard_link("h", "d/secret"), entry("h", b"evil")]],
    "hard link below": lambda c: [[hard_link("h", f"{FAR}{c[1:]}/secret")]],
    "link without a name": lambda c: [[symlink("", c), symlink("./", c), entry("secret", b"evil")]],
    "chain longer than a path": lambda c: [chain(c)],
    "mode of a link's target": lambda c: [[symlink("m", f"{c}/ptmx"), hard_link("n", "m"), entry("n", mode=0o666)]],
    "owner and time of a link": lambda c: [[symlink("m", f"{c}/ptmx"), symlink("m", f"{c}/ptmx")]],
    "folder over a link": lambda c: [[symlink("d", c), folder("d", mode=0o777, uid=5), folder("d/sub", mode=0o777)]],
    "device over a link": lambda c: [
        [symlink("d", f"{c}/new"), entry("d", kind=tarfile.CHRTYPE, devmajor=1, devminor=3)]
    ],
    "root entry is a link": lambda c: [[symlink("./", c), folder("./", mode=0o777)]],
    "attributes of a link's target": lambda c: [
        [symlink("d", c), entry("d/ptmx", b"x", pax_headers={"SCHILY.xattr.user.evil": "1"})]
    ],
    "pax path": lambda c: [[entry("f", b"evil", pax_headers={"path": f"{FAR}{c[1:]}/secret"})]],
    "pax linkpath": lambda c: [
        [(entry("f", kind=tarfile.LNKTYPE, pax_headers={"linkpath": f"{c}/secret"})), entry("f", b"evil")]
    ],
}


@pytest.mark.attack(row=31)
@pytest.mark.attack(row=32)
@pytest.mark.vm
@pytest.mark.parametrize("how", OUTWARD)
def test_no_layer_reaches_outside_and_no_pod_sees_more_by_it(
    node: AttackedNode, evil: EvilImages, canary: Canary, how: str
) -> None:
    """Loaded or refused; what is loaded is started, and all that it holds is printed. The canary is the oracle."""
    image = ""
    with suppress(ImageError):
        image = evil("outward", layers=OUTWARD[how](str(canary.folder)))
    if not image:
        assert "outward" not in node("image", "ls").stdout
        return
    script = (
        "for f in /* /*/secret /*/new; do cat $f/secret $f; ls -laR $f; done 2>/dev/null | grep -v ^/proc; echo end"
    )
    done = node("run", "-", input=manifest(pod("p", container("c", script, image=image))), check=False)
    assert done.stdout.endswith("end\n") or "CreateContainerError" in done.stderr, done


@pytest.mark.attack(row=31)
@pytest.mark.parametrize("missing", ["chroot", "chdir"])
def test_an_unpacker_that_is_not_in_its_target_unpacks_nothing(tmp_path: Path, missing: str) -> None:
    """`enter` alone, in a child: what follows would work on the host's own root."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            setattr(os, missing, lambda _: None)
            unpack.enter(str(tmp_path))
        except BadLayerError as error:
            status = 0 if "is not the layer's" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# ---- row 33: names that are no names


def docker_folder(path: Path, **wrong: object) -> Path:
    """What `docker save` writes, unpacked, and made to say something else."""
    layer = archive([entry("f", b"x")])
    config = {"rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}}
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    (path / "layer.tar").write_bytes(layer)
    item = {"Config": "config.json", "Layers": ["layer.tar"], "RepoTags": ["a/b:c"], **wrong}
    (path / "manifest.json").write_text(json.dumps([item]))
    return path


def as_archive(path: Path) -> Path:
    """The folder as one tar archive, links as links."""
    with tarfile.open(f"{path}.tar", "w") as tar:
        for name in sorted(os.listdir(path)):
            tar.add(path / name, name)
    return Path(f"{path}.tar")


@pytest.mark.attack(row=33)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("field", ["Config", "Layers"])
@pytest.mark.parametrize("how", ["dots", "absolute", "link", "link to a device", "FIFO"])
def test_no_file_beside_an_image_gets_into_it(
    store: ImageStore, tmp_path: Path, canary: Canary, how: str, field: str, packed: bool
) -> None:
    """The name leads to a proper configuration or layer, so that nothing but the place is wrong with it."""
    good = docker_folder(tmp_path / "good")
    name = {"Config": "config.json", "Layers": "layer.tar"}[field]
    wrong = {"dots": f"../good/{name}", "absolute": str(good / name)}.get(how, "l")
    image = docker_folder(tmp_path / "image", **{field: [wrong] if field == "Layers" else wrong})
    if how == "link":
        (image / "l").symlink_to(f"../good/{name}")
    elif how == "link to a device":
        (image / "l").symlink_to("/dev/zero")
    elif how == "FIFO":
        os.mkfifo(image / "l")
    with pytest.raises(ImageError, match=r"leads out of the directory|is missing|is not a regular file"):
        store.load_layout(as_archive(image) if packed else image)
    assert store.list() == []
    assert store.load_layout(as_archive(good) if packed else good).layers


@pytest.mark.attack(row=33)
@pytest.mark.parametrize("tag", ["../../../x:y", "/abs:x", "a/../b:c", "A/B:c", "a:b\nc", "a b:c", "a/b:" + "t" * 129])
def test_a_name_in_an_archive_is_a_name_or_refused(store: ImageStore, tmp_path: Path, tag: str) -> None:
    with pytest.raises(ImageError):
        store.load_layout(docker_folder(tmp_path / "image", RepoTags=[tag]))
    assert store.list() == []


HEX = "0" * 64
BAD_DIGESTS = [
    "sha256:../../x", f"sha256:{HEX[:-1]}", f"sha256:{HEX}0", f"sha256:{'A' * 64}", f"SHA256:{HEX}", f"md5:{'0' * 32}",
    f"sha512:{'0' * 128}", HEX, "", "sha256:", f"sha256:{HEX[:-1]}\n", f"sha256:{HEX}/../x", f"sha256:{HEX[:-1]}/",
    f"sha256:{HEX[:-1]}\u0660",
]  # fmt: skip


@pytest.mark.attack(row=33)
@pytest.mark.parametrize("digest", BAD_DIGESTS)
@pytest.mark.parametrize("where", ["index", "config", "layer", "diff_id"])
def test_what_is_no_digest_is_refused_wherever_it_stands(
    store: ImageStore, tmp_path: Path, registry: Registry, where: str, digest: str
) -> None:
    (descriptor,) = json.loads((tmp_path / "hello/index.json").read_text())["manifests"]
    read = json.loads((tmp_path / "hello/blobs/sha256" / descriptor["digest"][7:]).read_text())
    if where == "index":
        made: dict[str, Any] = {"manifests": [{**descriptor, "digest": digest, "platform": platform_here()}]}
    elif where == "diff_id":
        config = json.dumps({"rootfs": {"diff_ids": [digest]}}).encode()
        real = f"sha256:{hashlib.sha256(config).hexdigest()}"
        registry.content[real] = ("application/json", config)
        made = {**read, "config": {"mediaType": "", "digest": real, "size": len(config)}}
    else:
        descriptors = {
            "config": {**read["config"], "digest": digest},
            "layer": [{**read["layers"][0], "digest": digest}],
        }
        made = {**read, "layers" if where == "layer" else "config": descriptors[where]}
    registry.put(made, "application/json")
    registry.seen.clear()
    with pytest.raises(ImageError, match=r"is no sha256 digest|valid diff ids"):
        get(store, registry)
    assert [what for what in registry.requests("blobs") if not re.fullmatch("sha256:[0-9a-f]{64}", what)] == []
    assert store.list() == []


def platform_here() -> dict[str, str]:
    from minipod.runtime.images.manifests import architecture

    return {"architecture": architecture(), "os": "linux"}


# ---- row 34: what has no end

MEMORY_BYTES = 400 << 20  # of address space: half of it is the interpreter's


@pytest.mark.attack(row=34)
@pytest.mark.parametrize("what", ["gigabyte", "a million manifests", "deep", "deep config"])
def test_what_has_no_end_is_refused_soon_and_with_little_memory(node: AttackedNode, tmp_path: Path, what: str) -> None:
    layout = make_layout(tmp_path / "l", HELLO)
    index = layout / "index.json"
    if what == "gigabyte":
        os.truncate(index, 1 << 30)
    elif what == "a million manifests":
        one = json.loads(index.read_text())["manifests"][0]
        with index.open("w") as file:
            file.write(json.dumps({"manifests": [one]})[:-2])
            for _ in range(1000):
                file.write(f",{json.dumps(one)}" * 1000)
            file.write("]}")
    elif what == "deep":
        index.write_text('{"x":' * 10_000)
    else:
        index.write_text(json.dumps({"manifests": [], "config": None})[:-1] + ',"y":' + "[" * 10_000)
    limited = ["prlimit", f"--as={MEMORY_BYTES}", *node.command("image", "load", layout)]
    begun = time.monotonic()
    done = subprocess.run(limited, env=os.environ | node.env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "is damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - begun < 20


def header_with_size(kind: bytes, size: bytes) -> bytes:
    """A tar header whose size says something odd."""
    block = bytearray(512)
    block[:1], block[100:107], block[124:136] = b"f", b"0000644", size
    block[156:157], block[257:265] = kind, b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.attack(row=32)
@pytest.mark.attack(row=34)
@pytest.mark.parametrize("kind", [b"0", b"x", b"g", b"L"])
@pytest.mark.parametrize(
    "size", [b"\xff" * 11 + b"\x00", b"\x80" + b"\x7f" * 11, b"-0000001000\0", b"\xff\xff" + bytes(10)]
)
@pytest.mark.parametrize("place", ["archive", "layer"])
def test_a_size_that_is_negative_or_without_end_holds_nobody(
    store: ImageStore, tmp_path: Path, kind: bytes, size: bytes, place: str
) -> None:
    """tarfile went round in circles on a negative size (CVE-2025-8194)."""
    data = header_with_size(kind, size) + bytes(1024)
    if place == "archive":
        (tmp_path / "image.tar").write_bytes(data)
        layout = tmp_path / "image.tar"
    else:
        layout = make_layout(tmp_path / "l", data)
    with pytest.raises(ImageError):
        store.load_layout(layout)
    assert store.list() == []


@pytest.mark.attack(row=34)
def test_an_archive_of_endless_members_is_refused(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minipod.runtime.images.layout.MAX_MEMBERS", 1000)
    members = b"".join(info(f"f{number}") for number in range(1001))
    (tmp_path / "image.tar").write_bytes(members + bytes(1024))
    with pytest.raises(ImageError, match="more than 1000 members"):
        store.load_layout(tmp_path / "image.tar")


def info(name: str) -> bytes:
    return tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.attack(row=34)
def test_a_zstd_bomb_is_defused(store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "ALWAYS_ALLOWED_BYTES", 1 << 24)
    zeros = tarfile.TarInfo("zeros")
    zeros.size = 1 << 28
    buffer = io.BytesIO()
    with zstandard.ZstdCompressor(level=3).stream_writer(buffer, closefd=False) as writer:
        writer.write(zeros.tobuf())
        for _ in range(256):
            writer.write(bytes(1 << 20))
    layout = make_layout(
        tmp_path / "l", buffer.getvalue(), compress=False, diff_ids=[f"sha256:{HEX}"],
        layer_type="application/vnd.oci.image.layer.v1.tar+zstd",
    )  # fmt: skip
    with pytest.raises(ImageError, match="unpacks to more than 16777216 bytes"):
        store.load_layout(layout)
    assert os.listdir(store.path / "layers") == os.listdir(store.path / "ingest") == []


@pytest.mark.attack(row=34)
def test_a_registry_that_is_never_satisfied_is_given_up(store: ImageStore, registry: Registry) -> None:
    """A new token each time, and the same answer to each."""

    def never(request: Request) -> bool:
        if request.path.startswith("/token"):
            request.answer(200, json.dumps({"token": f"t{len(registry.seen)}"}).encode())
        else:
            realm = f'Bearer realm="http://{registry.host}/token",service="s"'
            request.fail(401, "UNAUTHORIZED", "once more", {"WWW-Authenticate": realm})
        return True

    registry.rules.append(never)
    with pytest.raises(ImageError, match="401 unauthorized"):
        get(store, registry, secrets=login(registry.host, "joe", "pa55word"))
    assert len(registry.seen) < 30


# ---- row 35: passwords and addresses


@pytest.mark.attack(row=35)
def test_a_layer_s_foreign_addresses_are_never_asked(store: ImageStore, registry: Registry, tmp_path: Path) -> None:
    (descriptor,) = json.loads((tmp_path / "hello/index.json").read_text())["manifests"]
    made = json.loads((tmp_path / "hello/blobs/sha256" / descriptor["digest"][7:]).read_text())
    with fake.running() as elsewhere:
        elsewhere.content = dict(registry.content)
        made["layers"][0]["urls"] = [f"http://{elsewhere.host}/v2/test/blobs/{made['layers'][0]['digest']}"]
        made["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        registry.put(made, "application/vnd.oci.image.manifest.v1+json")
        del registry.content[made["layers"][0]["digest"]]
        registry.rules.append(fake.basic("joe", "pa55word"))
        with pytest.raises(ImageError, match="404"):
            get(store, registry, secrets=login(registry.host, "joe", "pa55word"))
        assert elsewhere.seen == []


@pytest.mark.attack(row=35)
def test_a_token_is_not_sent_where_a_blob_is_redirected_to(store: ImageStore, registry: Registry) -> None:
    """Another port of the same host is another host."""
    with fake.running() as elsewhere:
        elsewhere.content = registry.content

        def away(request: Request) -> None:
            request.answer(307, b"", {"Location": f"http://{elsewhere.host}/v2/test/blobs/{request.what}"})

        registry.rules += [fake.bearer({"joe": "pa55word"}, "t0p"), fake.on("blobs", away)]
        assert get(store, registry, secrets=login(registry.host, "joe", "pa55word")).changed
        assert elsewhere.seen
        sent = "".join(str(request.headers) + request.path for request in elsewhere.seen)
        assert "t0p" not in sent
        assert "Authorization" not in sent


@pytest.mark.attack(row=35)
def test_a_pull_secret_is_in_no_output(node: AttackedNode, registry: Registry, tmp_path: Path) -> None:
    """plan, describe, get, events, logs of the agent; the registry refuses it, so that errors speak of it."""
    word = "pa55word-of-joe"
    secret = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": json.dumps(login(registry.host, "joe", word))},
    }  # fmt: skip
    encoded = json.dumps(login(registry.host, "joe", word))
    registry.rules.append(fake.basic("joe", "another"))
    body = manifest(
        secret, pod("p", container("c", image=f"{registry.host}/test"), imagePullSecrets=[{"name": "login"}])
    )
    (tmp_path / "p.yaml").write_text(body)
    outputs = [node(*args, check=False) for args in (
        ("run", "-d", tmp_path / "p.yaml"), ("plan", tmp_path / "p.yaml"), ("describe", "pod", "p"), ("events",),
        ("get", "pod", "p", "-o", "yaml"), ("describe", "secret", "login"), ("validate", tmp_path / "p.yaml"),
    )]  # fmt: skip
    text = "".join(done.stdout + done.stderr for done in outputs) + Path(node.paths.root, "agent.log").read_text()
    assert "401" in text or "unauthorized" in text
    assert word not in text
    assert json.loads(encoded)["auths"][registry.host]["auth"] not in text


# ---- row 36: labels and annotations

INNER = (
    "io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel", "io.containerd.image.name",
    "io.kubernetes.container.restartCount", "io.kubernetes.pod.terminationGracePeriod", "run.oci.handler",
    "run.oci.keep_original_groups",
    "run.oci.hooks.stdout", "org.systemd.property.ExecStart", "cdi.k8s.io/gpu", "devices.gardener.cloud/x",
    "io.podman.annotations.privileged", "io.podman.annotations.seccomp", "io.podman.annotations.userns",
    "io.container.manager", "minipod/owner", "minipod.io/privileged", "io.kubernetes.cri.untrusted-workload",
    "seccomp.security.alpha.kubernetes.io/pod", "container.apparmor.security.beta.kubernetes.io/other",
)  # fmt: skip


@pytest.mark.attack(row=36)
@pytest.mark.vm
def test_labels_of_an_image_and_annotations_of_a_pod_change_nothing(node: AttackedNode, evil: EvilImages) -> None:
    """The same pod with and without them: its processes, mounts, capabilities and cgroup settings are the same."""
    values = dict.fromkeys(INNER, "/bin/sh -c 'touch /canary'")
    values["seccomp.security.alpha.kubernetes.io/pod"] = "runtime/default"
    values["container.apparmor.security.beta.kubernetes.io/other"] = "runtime/default"
    plain = evil("plain", config={"Cmd": ["sh"]})
    labelled = evil("labelled", config={"Cmd": ["sh"], "Labels": values})
    script = """
        grep -E '^(Cap|Seccomp|NoNew|Uid|Gid|Groups)' /proc/self/status; env | grep -v HOSTNAME | sort
        ls /dev /proc/self/fd; cat /proc/self/oom_score_adj
        sed -e 's/^.* - //' /proc/self/mountinfo | cut -d' ' -f1 | sort"""
    annotations = {key: value for key, value in values.items() if annotable(key)}
    seen = []
    for name, image, noted in (("a", plain, {}), ("b", labelled, annotations)):
        body = pod(name, container("c", script, image=image), metadata={"annotations": noted})
        seen.append(node("run", "-", input=manifest(body)).stdout)
    assert "CapEff" in seen[0]
    assert seen[0] == seen[1]


def annotable(key: str) -> bool:
    """Kubernetes' own two of another time must agree with the pod's fields, and are refused by validation."""
    return not key.startswith(("seccomp.", "container.apparmor."))
