"""Layers from strangers: what a good archive holds is kept, what a bad one tries is refused or stays inside."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import subprocess
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from minipod.errors import ImageError
from minipod.kernel import mount as kmount
from minipod.runtime.images import layers
from minipod.runtime.images.store import ImageStore
from minipod.runtime.images.upkeep import disk_usage
from tests.layouts import Entry, archive, entry, folder, hard_link, make_layout, symlink


def unpack(store: ImageStore, tmp_path: Path, *entries: Entry) -> Path:
    """Loads an image of one layer; the folder it was unpacked to."""
    return Path(store.load_layout(make_layout(tmp_path / "layout", archive(entries))).layers[0])


def test_owners_modes_and_times_are_kept(store: ImageStore, tmp_path: Path) -> None:
    root = unpack(
        store,
        tmp_path,
        folder("d", mode=0o1770, uid=5, gid=6, mtime=1000),
        entry("d/f", b"x", mode=0o4755, uid=1000, gid=2000, mtime=2000),
        symlink("d/l", "/nowhere"),
    )
    found = os.stat(root / "d" / "f")
    assert (oct(found.st_mode), found.st_uid, found.st_gid, found.st_mtime) == ("0o104755", 1000, 2000, 2000)
    found = os.stat(root / "d")
    assert (oct(found.st_mode), found.st_uid, found.st_gid, found.st_mtime) == ("0o41770", 5, 6, 1000)
    assert os.readlink(root / "d" / "l") == "/nowhere"


def test_the_root_folder_s_own_entry_counts(store: ImageStore, tmp_path: Path) -> None:
    root = unpack(store, tmp_path, folder("./", mode=0o711, uid=7))
    assert (oct(os.stat(root).st_mode), os.stat(root).st_uid) == ("0o40711", 7)


def test_hard_links_stay_one_file(store: ImageStore, tmp_path: Path) -> None:
    root = unpack(store, tmp_path, entry("a", b"x"), hard_link("d/b", "a"), hard_link("c", "/d/../a"))
    assert os.stat(root / "a").st_nlink == 3


@pytest.mark.vm
def test_devices_and_pipes_are_made(store: ImageStore, tmp_path: Path) -> None:
    root = unpack(
        store,
        tmp_path,
        entry("null", kind=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3),
        entry("pipe", kind=tarfile.FIFOTYPE, mode=0o600),
    )
    found = os.stat(root / "null")
    assert stat.S_ISCHR(found.st_mode)
    assert found.st_rdev == os.makedev(1, 3)
    assert stat.S_ISFIFO(os.stat(root / "pipe").st_mode)


@pytest.mark.attack(row=32)
@pytest.mark.vm
def test_capabilities_are_kept_and_overlay_s_own_attributes_are_not(store: ImageStore, tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service=ep
    headers = {
        "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.user.note": "kept",
    }
    root = unpack(store, tmp_path, entry("ping", b"x", pax_headers=headers))
    assert sorted(os.listxattr(root / "ping")) == ["security.capability", "user.note"]
    assert os.getxattr(root / "ping", "security.capability") == capability


@pytest.mark.vm
def test_whiteouts_become_overlayfs_s(store: ImageStore, tmp_path: Path) -> None:
    root = unpack(store, tmp_path, entry("etc/.wh.passwd"), entry("var/.wh..wh..opq"), entry("var/.wh..wh.plnk"))
    found = os.lstat(root / "etc" / "passwd")
    assert (stat.S_ISCHR(found.st_mode), found.st_rdev) == (True, 0)
    assert os.getxattr(root / "var", "trusted.overlay.opaque") == b"y"
    assert os.listdir(root / "var") == []


def test_what_a_layer_hides_and_brings_anew_is_its_own_only(store: ImageStore, tmp_path: Path) -> None:
    """Image-spec layer.md: a whiteout is for the layers below, wherever in the archive it stands."""
    lower = archive([folder("a"), entry("a/old"), folder("b"), entry("b/old"), folder("c"), entry("c/old"), entry("d")])
    upper = archive([
        *(entry(".wh.a"), folder("a"), entry("a/new")),
        *(folder("b"), entry("b/new"), entry(".wh.b")),
        *(entry(".wh.c"), entry("c/deep/new")),
        *(entry("d", b"new"), entry(".wh.d")),
    ])  # fmt: skip
    image = store.load_layout(make_layout(tmp_path / "l", lower, upper))
    with mounted_overlay(image.layers, tmp_path) as root:
        found = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
        assert found == ["a", "a/new", "b", "b/new", "c", "c/deep", "c/deep/new", "d"]
        assert (root / "d").read_bytes() == b"new"


def test_folders_become_links_and_links_folders(store: ImageStore, tmp_path: Path) -> None:
    lower = archive([folder("a"), entry("a/old"), symlink("b", "a"), entry("c")])
    upper = archive([symlink("a", "b"), folder("b"), entry("b/new"), folder("c"), entry("c/new")])
    image = store.load_layout(make_layout(tmp_path / "l", lower, upper))
    with mounted_overlay(image.layers, tmp_path) as root:
        assert sorted(os.listdir(root)) == ["a", "b", "c"]
        assert os.readlink(root / "a") == "b"
        assert [os.listdir(root / name) for name in ("b", "c")] == [["new"], ["new"]]


def test_a_set_gid_folder_gives_its_group_to_nothing(store: ImageStore, tmp_path: Path) -> None:
    root = unpack(
        *(store, tmp_path, folder("mail", mode=0o2775, gid=8), entry("mail/box", mode=0o2640)),
        *(symlink("mail/link", "box"), folder("mail/sub")),
    )
    found = {name: os.lstat(root / "mail" / name) for name in ("box", "link", "sub")}
    assert {name: status.st_gid for name, status in found.items()} == {"box": 0, "link": 0, "sub": 0}
    assert [stat.S_IMODE(found[name].st_mode) for name in ("box", "sub")] == [0o2640, 0o755]


@contextmanager
def mounted_overlay(layers: Sequence[str], tmp_path: Path) -> Iterator[Path]:
    """What a container sees. mount(8) of 2.39 on uses fsconfig(2), which takes no option of more than 255 bytes."""
    (tmp_path / "merged").mkdir()
    kmount.overlay_read_only(tuple(layers), str(tmp_path / "merged"), 0)
    try:
        yield tmp_path / "merged"
    finally:
        subprocess.run(["umount", tmp_path / "merged"], check=True)


@pytest.mark.attack(row=32)
def test_a_later_entry_replaces_an_earlier_one(store: ImageStore, tmp_path: Path) -> None:
    root = unpack(
        store,
        tmp_path,
        folder("a"),
        entry("a/b/c", b"1"),
        entry("a", b"2"),
        symlink("l", "a"),
        entry("l", b"3"),
        entry("f", b"4"),
        folder("f"),
    )
    assert ((root / "a").read_bytes(), (root / "l").read_bytes(), (root / "f").is_dir()) == (b"2", b"3", True)


def test_names_that_are_not_utf_8_are_kept(store: ImageStore, tmp_path: Path) -> None:
    root = unpack(store, tmp_path, entry(b"caf\xe9".decode("utf-8", "surrogateescape"), b"x"))
    assert os.listdir(os.fsencode(root)) == [b"caf\xe9"]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that an archive tries to reach; four levels above a layer in the making."""
    target = tmp_path / "state" / "victim"
    target.mkdir(parents=True)
    (target / "file").write_text("untouched")
    return target


ESCAPES = {
    "dots": lambda v: [entry("../../../../victim/file", b"evil")],
    "absolute": lambda v: [entry(f"{v}/file", b"evil")],
    "symlinked folder": lambda v: [symlink("d", str(v)), entry("d/file", b"evil")],
    "relative symlink": lambda v: [symlink("d", "../../../../victim"), entry("d/file", b"evil")],
    "symlink chain": lambda v: [symlink("a", ".."), symlink("b", "a/../../.."), entry("b/victim/file", b"evil")],
    "symlinked file": lambda v: [symlink("f", f"{v}/file"), entry("f", b"evil")],
    "folder through symlink": lambda v: [symlink("d", str(v)), folder("d/file/x")],
    "whiteout through symlink": lambda v: [symlink("d", str(v)), entry("d/.wh.file")],
    "opaque through symlink": lambda v: [symlink("d", str(v)), entry("d/.wh..wh..opq")],
    "mode through symlink": lambda v: [symlink("d", f"{v}/file"), hard_link("e", "d"), entry("e", b"", mode=0o777)],
}


@pytest.mark.attack(row=31)
@pytest.mark.parametrize("escape", ESCAPES)
def test_nothing_is_written_outside(store: ImageStore, tmp_path: Path, outside: Path, escape: str) -> None:
    try:
        unpack(store, tmp_path, *ESCAPES[escape](outside))
    except ImageError:
        assert store.list() == []
    assert (outside / "file").read_text() == "untouched"
    assert (os.listdir(outside), os.listxattr(outside)) == (["file"], [])
    assert oct(os.stat(outside / "file").st_mode) == "0o100644"


@pytest.mark.attack(row=31)
def test_a_hard_link_to_the_outside_is_refused(store: ImageStore, tmp_path: Path, outside: Path) -> None:
    with pytest.raises(ImageError, match="cannot be unpacked"):
        unpack(store, tmp_path, hard_link("f", "../../../../victim/file"))
    with pytest.raises(ImageError, match="cannot be unpacked"):
        unpack(store, tmp_path, hard_link("f", str(outside / "file")))
    assert os.stat(outside / "file").st_nlink == 1


@pytest.mark.attack(row=32)
@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "etc/.wh..."])
def test_a_whiteout_of_nothing_or_of_dots_is_refused(store: ImageStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="whiteout of nothing"):
        unpack(store, tmp_path, entry(name))


@pytest.mark.parametrize("uid", [-1, 2**32 - 1, 2**40])
def test_an_owner_that_no_kernel_has_is_refused(store: ImageStore, tmp_path: Path, uid: int) -> None:
    with pytest.raises(ImageError, match="out of range"):
        unpack(store, tmp_path, entry("f", uid=uid))


def test_a_late_damaged_header_is_not_taken_for_the_end(store: ImageStore, tmp_path: Path) -> None:
    data = bytearray(archive([entry("first", b"x"), entry("second", b"y")]))
    data[1024 + 150] ^= 1  # in the second header's checksum
    with pytest.raises(ImageError, match="damaged header"):
        store.load_layout(make_layout(tmp_path / "l", bytes(data)))


@pytest.mark.attack(row=34)
def test_a_truncated_archive_is_refused(store: ImageStore, tmp_path: Path) -> None:
    data = archive([entry("f", b"x" * 5000)])[:3000]
    with pytest.raises(ImageError, match="cannot be unpacked"):
        store.load_layout(make_layout(tmp_path / "l", data))


def test_garbage_instead_of_gzip_is_refused(store: ImageStore, tmp_path: Path) -> None:
    layer = b"no gzip and no archive" * 100
    path = make_layout(tmp_path / "l", layer, compress=False, layer_type="application/vnd.oci.image.layer.v1.tar+gzip")
    with pytest.raises(ImageError, match="cannot be unpacked: damaged header"):
        store.load_layout(path)


def test_a_layer_with_no_entries_is_an_empty_folder(store: ImageStore, tmp_path: Path) -> None:
    assert os.listdir(unpack(store, tmp_path)) == []


def test_no_code_is_loaded_from_the_archive(store: ImageStore, tmp_path: Path) -> None:
    """The unpacker's own modules, planted where an interpreter inside the chroot would look for them."""
    library = os.path.dirname(os.__file__).lstrip("/")
    evil = b"raise SystemExit('loaded from the image')\n"
    planted = [entry(f"{library}/{name}.py", evil) for name in ("copy", "traceback", "linecache", "shutil", "json")]
    planted += [entry(f"{library}/encodings/{name}.py", evil) for name in ("idna", "latin_1", "cp437")]
    # glibc loads this one when a thread is ended
    planted += [entry(f"{place}/libgcc_s.so.1", b"no library") for place in ("lib", "lib/x86_64-linux-gnu", "usr/lib")]
    assert unpack(store, tmp_path, *planted, entry(b"\xff".decode("utf-8", "surrogateescape"))).is_dir()


def test_the_diff_id_covers_the_padding_too(store: ImageStore, tmp_path: Path) -> None:
    layer = archive([entry("f", b"x")]) + bytes(10240)
    image = store.load_layout(make_layout(tmp_path / "l", layer))
    assert image.layers[0].endswith(hashlib.sha256(layer).hexdigest())


@pytest.mark.parametrize("claimed", ["", "+gzip", "+zstd"])
@pytest.mark.parametrize("real", ["", "+gzip", "+zstd"])
def test_a_layer_is_what_its_bytes_say(store: ImageStore, tmp_path: Path, claimed: str, real: str) -> None:
    layer = archive([entry("f", b"x" * 2000)])
    blob = {"": layer, "+gzip": gzip.compress(layer), "+zstd": zstandard.compress(layer)}[real]
    path = make_layout(
        *(tmp_path / "l", blob),
        compress=False,
        diff_ids=[f"sha256:{hashlib.sha256(layer).hexdigest()}"],
        layer_type=f"application/vnd.oci.image.layer.v1.tar{claimed}",
    )
    assert Path(store.load_layout(path).layers[0], "f").read_bytes() == b"x" * 2000


def test_gzip_of_several_members_is_one_layer(store: ImageStore, tmp_path: Path) -> None:
    layer = archive([entry("f", b"x" * 2000)])
    blob = gzip.compress(layer[:1000]) + gzip.compress(layer[1000:])
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    path = make_layout(
        tmp_path / "l",
        blob,
        compress=False,
        diff_ids=[diff_id],
        layer_type="application/vnd.docker.image.rootfs.diff.tar.gzip",
    )
    assert Path(store.load_layout(path).layers[0], "f").read_bytes() == b"x" * 2000


# ---- formats, and what lies about itself


def header(name: bytes, length: int = 0, kind: bytes = b"0", **fields: bytes) -> bytes:
    """A ustar header with whatever is asked for, and the right checksum."""
    block = bytearray(512)
    values = {"mode": b"0000644\0", "uid": b"0000000\0", "gid": b"0000000\0", "mtime": b"00000000000\0", **fields}
    block[: len(name)] = name
    for field, place in (("mode", 100), ("uid", 108), ("gid", 116), ("mtime", 136)):
        block[place : place + len(values[field])] = values[field]
    block[124:136] = fields.get("size", b"%011o\0" % length)
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    text = b""
    for key, value in records:
        body = b" " + key + b"=" + value + b"\n"
        length = len(body) + 1
        while len(b"%d" % length) + len(body) != length:
            length += 1
        text += b"%d" % length + body
    return header(b"pax", len(text), kind) + padded(text)


END = bytes(1024)
SPARSE_MAP = b"GNU.sparse.map"


def load(store: ImageStore, tmp_path: Path, layer: bytes) -> Path:
    return Path(store.load_layout(make_layout(tmp_path / "layout", layer)).layers[0])


def test_names_of_every_length_come_from_gnu_and_pax_headers(store: ImageStore, tmp_path: Path) -> None:
    long = b"d" * 120 + b"/" + b"f" * 200
    gnu = header(b"././@LongLink", len(long) + 1, b"L") + padded(long + b"\0") + header(b"short", 1) + padded(b"g")
    other = pax((b"path", b"p" * 250), (b"mtime", b"12.5"), (b"uid", b"70000"), (b"size", b"2"))
    root = load(store, tmp_path, gnu + other + header(b"short", 0) + padded(b"xy") + END)
    assert (root / long.decode()).read_bytes() == b"g"
    found = os.stat(root / ("p" * 250))
    assert (found.st_size, found.st_mtime_ns, found.st_uid) == (2, 12_500_000_000, 70000)


def test_empty_pax_records_leave_the_header_as_it_is(store: ImageStore, tmp_path: Path) -> None:
    records = [(name, b"") for name in (b"path", b"size", b"uid", b"gid", b"mtime")]
    data = pax((b"uid", b"7"), kind=b"g") + pax(*records) + header(b"f", 2, uid=b"0000005\0") + padded(b"xy") + END
    root = Path(store.load_layout(make_layout(tmp_path / "l", data)).layers[0])
    assert (root / "f").read_bytes() == b"xy"
    assert os.stat(root / "f").st_uid == 5


@pytest.mark.attack(row=32)
@pytest.mark.parametrize("version", ["0.1", "1.0", "gnu"])
def test_sparse_files_of_each_kind_keep_holes_and_content(store: ImageStore, tmp_path: Path, version: str) -> None:
    """As GNU tar writes them; 4 MB with two kB in the middle."""
    (tmp_path / "tree").mkdir()
    with open(tmp_path / "tree" / "sparse", "wb") as file:
        file.truncate(4 << 20)
        file.seek(2 << 20)
        file.write(b"x" * 2048)
    form = ["--format=gnu"] if version == "gnu" else ["--format=pax", f"--sparse-version={version}"]
    made = subprocess.run(
        ["tar", "-C", tmp_path / "tree", "--sparse", *form, "-cf", "-", "."], capture_output=True, check=True
    )
    root = load(store, tmp_path, made.stdout)
    found = (root / "sparse").read_bytes()
    assert hashlib.sha256(found).digest() == hashlib.sha256((tmp_path / "tree" / "sparse").read_bytes()).digest()
    assert os.stat(root / "sparse").st_blocks * 512 < 1 << 20


GLOBAL_BOMB = b"".join(pax((b"k%d" % number, b"x" * 100_000), kind=b"g") for number in range(12))


@pytest.mark.attack(row=32)
@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (header(b"f") + b"x" * 100, "in the middle of a header"),
        (header(b"f", 5000) + b"x" * 100, "in the middle of a file"),
        (header(b"f", size=b"-0000000001\0") + END, "damaged header"),
        (header(b"f", size=b"\xff" * 12) + END, "negative size"),
        (header(b"f", size=b"\x80" + b"\xff" * 11) + END, "in the middle of a file"),
        (header(b"f", uid=b"zzzzzzz\0") + END, "damaged header: uid"),
        (header(b"f", kind=b"V") + END, "unknown type"),
        (header(b"pax", 1 << 30, b"x") + END, "bytes for a name or a pax header"),
        (header(b"L", 1 << 30, b"L") + END, "bytes for a name or a pax header"),
        (pax((b"size", b"-5")) + header(b"f") + END, "is no size"),
        (pax((b"size", b"9" * 4000)) + header(b"f") + END, "is no size"),
        (pax((b"uid", b"x")) + header(b"f") + END, "damaged pax header"),
        (GLOBAL_BOMB + header(b"f") + END, "too many global records"),
        (header(b"p", 10, b"x") + padded(b"99 path=x\n") + header(b"f") + END, "damaged pax header"),
        (header(b"p", 10, b"x") + padded(b"no length\n") + header(b"f") + END, "damaged pax header"),
        (pax((b"path", b"a\0b")) + header(b"f") + END, "embedded null"),
        (pax((b"path", b"a" * 5000)) + header(b"f") + END, "name too long"),
        (pax((SPARSE_MAP, b"0,1,0,1"), (b"GNU.sparse.size", b"9")) + header(b"f", 2) + padded(b"xy") + END, "map"),
        (pax((SPARSE_MAP, b"8,5"), (b"GNU.sparse.size", b"9")) + header(b"f", 5) + padded(b"hello") + END, "map"),
        (pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"9")) + header(b"f", 0) + END, "map"),
        (header(b"dev", kind=b"1") + END, "cannot be unpacked"),
    ],
)  # fmt: skip
def test_what_lies_about_itself_is_refused(store: ImageStore, tmp_path: Path, layer: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        load(store, tmp_path, layer)
    assert store.list() == []


@pytest.mark.attack(row=34)
@pytest.mark.parametrize("by", ["entries", "one name", "links"])
def test_deep_folders_come_and_go(store: ImageStore, tmp_path: Path, by: str) -> None:
    """Deeper than Python recurses, and by links deeper than a name can be."""
    if by == "entries":
        entries = [folder("/".join("a" * depth)) for depth in range(1, 1900)]
        entries.append(entry("/".join("a" * 1900), b"x"))  # on a tmpfs nothing else takes blocks
    elif by == "one name":
        entries = [entry("/".join("a" * 1900), b"x")]
    else:
        deep = "/".join("a" * 1900)
        entries = [entry(f"{deep}/x"), symlink("l", deep), entry("/".join(["l", *("b" * 1500), "y"]))]
        entries += [symlink("m", "/".join(["l", *("b" * 1500)])), entry("/".join(["m", *("c" * 1500), "z"]))]
    image = store.load_layout(make_layout(tmp_path / "l", archive(entries)))
    assert disk_usage(store).layer_bytes > 0
    store.remove(image.id)
    assert os.listdir(store.path / "layers") == os.listdir(store.path / "tmp") == []
    if by != "links":  # a later entry replaces it
        unpack(store, tmp_path, *entries, entry("a", b"x"))


@pytest.mark.attack(row=34)
def test_a_bomb_is_defused(store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """120 MB of zeros in as many kB: refused while it unpacks, and nothing of it stays."""
    monkeypatch.setattr(layers, "ALWAYS_ALLOWED_BYTES", 1 << 24)
    zeros = bytes(1 << 20)
    size = 120 << 20
    packed = zlib.compressobj(9, wbits=31)
    blob = packed.compress(header(b"zeros", size)) + b"".join(packed.compress(zeros) for _ in range(120))
    blob += packed.compress(END) + packed.flush()
    layout = make_layout(
        tmp_path / "l",
        blob,
        compress=False,
        diff_ids=["sha256:" + "0" * 64],
        layer_type="application/vnd.oci.image.layer.v1.tar+gzip",
    )
    with pytest.raises(ImageError, match="unpacks to more than 16777216 bytes"):
        store.load_layout(layout)
    assert os.listdir(store.path / "layers") == os.listdir(store.path / "ingest") == []


@pytest.mark.attack(row=34)
@pytest.mark.parametrize("cut", [5, 30, -4, -1])
def test_gzip_that_ends_too_early_is_refused(store: ImageStore, tmp_path: Path, cut: int) -> None:
    layer = archive([entry("f", os.urandom(3000))])
    path = make_layout(
        tmp_path / "l",
        gzip.compress(layer)[:cut],
        compress=False,
        diff_ids=[f"sha256:{hashlib.sha256(layer).hexdigest()}"],
        layer_type="application/vnd.oci.image.layer.v1.tar+gzip",
    )
    with pytest.raises(ImageError, match="cannot be unpacked"):
        store.load_layout(path)


def test_every_flipped_bit_of_an_archive_is_refused_or_harmless(store: ImageStore, tmp_path: Path) -> None:
    """The digest catches all of them before; this is what the unpacker does with those that a publisher signs."""
    good = bytearray(archive([folder("d"), entry("d/f", b"content", uid=5), symlink("l", "d"), hard_link("h", "d/f")]))
    said = []
    for position in range(0, 2048, 37):
        bad = bytearray(good)
        bad[position] ^= 1 << (position % 8)
        try:
            load(store, tmp_path / str(position), bytes(bad))
        except ImageError as error:
            said.append(str(error))
    assert said
    assert not [words for words in said if "\n" in words or "Traceback" in words or "unpacking ended" in words]


def test_more_than_a_hundred_layers_are_one_image(store: ImageStore, tmp_path: Path) -> None:
    many = [archive([entry(f"f{number}", b"x")]) for number in range(120)]
    image = store.load_layout(make_layout(tmp_path / "l", *many))
    assert len(image.layers) == 120


@pytest.mark.attack(row=34)
def test_more_layers_than_the_kernel_stacks_are_refused_at_once(store: ImageStore, tmp_path: Path) -> None:
    many = [archive([entry(f"f{number}")]) for number in range(1000)]
    with pytest.raises(ImageError, match="1000 layers; the kernel stacks no more than 500"):
        store.load_layout(make_layout(tmp_path / "l", *many))
    assert store.list() == []


@pytest.mark.attack(row=34)
def test_a_layer_that_comes_twice_is_stacked_once(store: ImageStore, tmp_path: Path) -> None:
    first, second = archive([entry("f", b"1")]), archive([entry("f", b"2")])
    image = store.load_layout(make_layout(tmp_path / "l", first, second, first))
    assert [Path(layer, "f").read_bytes() for layer in image.layers] == [b"2", b"1"]
