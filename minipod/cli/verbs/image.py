"""`minipod image` (layer 6): everything about the image store. Works on the store itself, without the agent."""

from __future__ import annotations

import argparse
import os
import sys
import time

from minipod.cli.options import paths_of
from minipod.cli.values import TYPE_CHECKING
from minipod.errors import NEGATIVE, SUCCESS, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from minipod.plan.configs import Image
    from minipod.runtime.images.store import ImageStore

SHORT_ID = 12


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Pull, list, load, save and remove images."
    verbs = parser.add_subparsers(dest="image_verb", metavar="COMMAND", required=True)
    ls = verbs.add_parser("ls", help="list the images of the store")
    ls.add_argument("-q", "--quiet", action="store_true", help="the ids only")
    ls.add_argument("-o", "--output", choices=("table", "json", "name"), default="table", help="table, json or name")
    pull = verbs.add_parser("pull", help="pull images from their registries")
    pull.add_argument("images", nargs="+", metavar="IMAGE")
    pull.add_argument("-q", "--quiet", action="store_true", help="print the ids only")
    login = verbs.add_parser("login", help="check a name and password at a registry, and keep them for pulls")
    login.add_argument("registry", nargs="?", default="docker.io", metavar="REGISTRY", help="HOST[:PORT]; docker.io")
    login.add_argument("-u", "--username", metavar="NAME", help="the user there; asked for on a terminal")
    login.add_argument(
        "-p", "--password", metavar="TEXT", help="the password or token; seen by ps: better --password-stdin"
    )
    login.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    logout = verbs.add_parser("logout", help="forget the password of a registry")
    logout.add_argument("registry", nargs="?", default="docker.io", metavar="REGISTRY", help="HOST[:PORT]; docker.io")
    inspect = verbs.add_parser("inspect", help="show what the store knows of images, as JSON")
    inspect.add_argument("images", nargs="+", metavar="IMAGE")
    tag = verbs.add_parser("tag", help="give an image one more name")
    tag.add_argument("image", metavar="IMAGE")
    tag.add_argument("name", metavar="NAME")
    rm = verbs.add_parser("rm", help="remove images: by name, or by id with all names")
    rm.add_argument("images", nargs="+", metavar="IMAGE")
    load = verbs.add_parser("load", help="load images from an OCI image layout or docker's archive")
    load.add_argument("path", nargs="?", metavar="PATH", help="a directory, a tar archive, or - for standard input")
    load.add_argument("-i", "--input", metavar="PATH", help="the same as PATH")
    load.add_argument("--name", metavar="NAME", help="the image's name; default: the one that stands in it")
    load.add_argument("--default", action="store_true", help="build busybox from this host's busybox-static")
    save = verbs.add_parser("save", help="write images as an OCI image layout or docker's archive")
    save.add_argument("images", nargs="+", metavar="IMAGE")
    save.add_argument("-o", "--output", metavar="PATH", help="a tar archive, or a directory (an empty one, or PATH/)")
    save.add_argument("--format", choices=("oci", "docker"), default="oci", help="oci (the default) or docker")
    prune = verbs.add_parser(
        "prune", help="remove nameless images that no container uses, and leftovers of killed pulls"
    )
    prune.add_argument("-a", "--all", action="store_true", help="all images that no container uses")
    df = verbs.add_parser("df", help="show what the store takes on disk")
    df.add_argument("-o", "--output", choices=("table", "json"), default="table", help="table or json")
    verbs.add_parser("verify", help="check every blob against its digest")
    build = verbs.add_parser(
        "build-rootfs", help="build busybox again, or an image of Debian packages or of a directory"
    )
    build.add_argument("name", nargs="?", metavar="NAME", help="the image's name; without one: busybox")
    build.add_argument("--packages", metavar="LIST", help="Debian packages, separated by commas; needs debootstrap")
    build.add_argument(
        "--from", dest="folder", metavar="DIR", help="a root directory that is there, instead of packages"
    )
    build.add_argument("--suite", metavar="SUITE", help="Debian's release; default: this host's, else stable")
    build.add_argument("--mirror", metavar="URL", help="where packages come from; default: deb.debian.org")
    build.add_argument(
        *("-c", "--change"), action="append", default=[], metavar="LINE", help="as in a Dockerfile: 'CMD [\"nginx\"]'"
    )


def run(args: argparse.Namespace) -> int:
    if args.image_verb in ("login", "logout"):
        from minipod.cli import logins

        (logins.login if args.image_verb == "login" else logins.logout)(args)
        return SUCCESS
    from minipod.runtime.images.store import ImageStore

    store = ImageStore(paths_of(args))
    verb = {
        "ls": _ls,
        "pull": _pull,
        "inspect": _inspect,
        "tag": _tag,
        "rm": _rm,
        "load": _load,
        "save": _save,
        "prune": _prune,
        "df": _df,
        "verify": _verify,
        "build-rootfs": _build,
    }[args.image_verb]
    return verb(store, args) or 0


def _ls(store: ImageStore, args: argparse.Namespace) -> None:
    from minipod.cli.show.pull_progress import human_size
    from minipod.cli.show.table import table

    images = store.list()
    if args.quiet:
        print("".join(f"{_short(image.id)}\n" for image in images), end="")
    elif args.output == "json":
        print(_json(images))
    elif args.output == "name":
        print("".join(f"{image.reference}\n" for image in images), end="")
    else:
        rows = [(*_split(image.reference), _short(image.id), human_size(image.size_bytes)) for image in images]
        print(table([("IMAGE", "TAG", "IMAGE ID", "SIZE"), *rows]), end="")


def _pull(store: ImageStore, args: argparse.Namespace) -> None:
    from minipod.cli.show.pull_progress import Bars, Lines, human_size

    for name in args.images:
        scheme, separator, rest = name.partition("://")
        if separator:
            raise UsageError(f"image pull {name}: the name of an image has no {scheme}://: write {rest}")
        report: Bars | Lines | None = None
        if not args.quiet:
            report = Bars(*os.get_terminal_size(2)) if sys.stderr.isatty() else Lines(name, _say)
        try:
            pulled = store.fetch(name, report=report) if report else store.fetch(name)
        finally:
            if report is not None:
                report.finish()
        image = pulled.image
        if args.quiet:
            print(image.id)
        elif pulled.changed:
            size = human_size(image.size_bytes)
            print(f"pulled {image.reference} ({_short(image.id)}, {size}, {pulled.seconds:.1f} s)")
        else:
            print(f"unchanged {image.reference} ({_short(image.id)})")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _inspect(store: ImageStore, args: argparse.Namespace) -> None:
    print(_json([store.find(name) for name in args.images]))


def _tag(store: ImageStore, args: argparse.Namespace) -> None:
    image = store.tag(args.image, args.name)
    print(f"tagged {image.reference} ({_short(image.id)})")


def _rm(store: ImageStore, args: argparse.Namespace) -> None:
    for name in args.images:
        for image in store.remove(name):
            print(f"removed {image.reference}")


def _load(store: ImageStore, args: argparse.Namespace) -> None:
    sources = [place for place in (args.path, args.input) if place]
    if len(sources) + args.default != 1:
        raise UsageError("image load: give either a path or --default")
    if args.default:
        _loaded([store.ensure_default(rebuild=True)])
        return
    if "://" in sources[0]:
        raise UsageError(f"image load {sources[0]}: loads files: curl -fsSL {sources[0]} | minipod image load -")
    if sources != ["-"]:
        _loaded(store.load(sources[0], args.name))
        return
    import shutil
    import tempfile

    from minipod.paths import large_files

    if sys.stdin.isatty():
        raise UsageError("image load -: standard input is a terminal; give it an archive")
    with tempfile.NamedTemporaryFile(prefix="minipod-image-", dir=large_files()) as file:
        shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
        file.flush()
        _loaded(store.load(file.name, args.name))


def _loaded(images: Sequence[Image]) -> None:
    for image in images:
        print(f"loaded {image.reference} ({_short(image.id)})")


def _build(store: ImageStore, args: argparse.Namespace) -> None:
    if not args.name:
        if args.packages is not None or args.folder or args.suite or args.mirror or args.change:
            raise UsageError("image build-rootfs: give the image a name")
        _loaded([store.ensure_default(rebuild=True)])
        return
    if (args.packages is None) == (args.folder is None):
        raise UsageError("image build-rootfs NAME: give either --packages or --from")
    if args.folder is not None and (args.suite or args.mirror):
        raise UsageError("image build-rootfs: --suite and --mirror go with --packages: a directory has its packages")
    _loaded([_build_named(store, args)])


def _build_named(store: ImageStore, args: argparse.Namespace) -> Image:
    import tempfile
    from pathlib import Path

    from minipod.paths import large_files
    from minipod.runtime.images import debian
    from minipod.runtime.images.errors import store_errors

    with (
        store_errors(f"build image {args.name}"),
        tempfile.TemporaryDirectory(prefix="minipod-build-", dir=large_files()) as work,
    ):
        layout = Path(work, "layout")
        settings = debian.settings(args.change)
        root = Path(args.folder) if args.folder else Path(work, "root")
        if not args.folder:
            packages = [name for name in args.packages.replace(",", " ").split() if name]
            suite, mirror = args.suite or debian.host_suite(), args.mirror or debian.MIRROR
            print(f"installing Debian {suite} from {mirror}", file=sys.stderr, flush=True)
            debian.install(root, packages, suite, mirror, _say if sys.stderr.isatty() else _NowAndThen())
        debian.write_image(layout, args.name, [debian.pack(root, layout)], settings)
        return store.load_layout(layout, args.name)


class _NowAndThen:
    """Shows a line of those that come each `LINE_S`."""

    def __init__(self) -> None:
        from minipod.cli.show.pull_progress import LINE_S

        self._interval_s = LINE_S
        self._next = time.monotonic() + LINE_S

    def __call__(self, line: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._interval_s
            _say(line)


def _save(store: ImageStore, args: argparse.Namespace) -> None:
    from minipod.runtime.images import save
    from minipod.runtime.images.errors import store_errors

    images = [
        save.SavedImage(entry.reference, entry.digest, entry.diff_ids)
        for entry in (store.find_entry(name) for name in args.images)
    ]
    write = save.save_oci if args.format == "oci" else save.save_docker
    blobs = store.path / "blobs" / "sha256"
    path = args.output or "-"
    with store_errors(f"save to {path}"):
        if path.endswith("/") or os.path.isdir(path):
            write(blobs, images, save.FolderOutput(path))
            return
        if path == "-" and sys.stdout.isatty():
            raise UsageError("image save: standard output is a terminal; give -o PATH")
        save.write_archive(path, lambda output: write(blobs, images, output))


def _prune(store: ImageStore, args: argparse.Namespace) -> None:
    from minipod.cli.show.pull_progress import human_size
    from minipod.runtime.images.upkeep import prune

    pruned = prune(store, every=args.all)
    for image in pruned.images:
        print(f"removed {image.reference}")
    print(f"freed {human_size(pruned.freed_bytes)}")


def _df(store: ImageStore, args: argparse.Namespace) -> None:
    from minipod.cli.show.pull_progress import human_size
    from minipod.cli.show.table import table
    from minipod.runtime.images.upkeep import disk_usage

    found = disk_usage(store)
    if args.output == "json":
        print(_json(found))
        return
    rows = [
        ("WHAT", "COUNT", "SIZE"),
        ("images", found.images, human_size(found.blob_bytes + found.layer_bytes)),
        ("  as they came", "", human_size(found.blob_bytes)),
        ("  unpacked", "", human_size(found.layer_bytes)),
        ("unused", found.unused_images, human_size(found.unused_bytes)),
        ("unfinished", "", human_size(found.unfinished_bytes)),
    ]
    print(table(rows), end="")


def _verify(store: ImageStore, args: argparse.Namespace) -> int:
    from minipod.runtime.images.upkeep import verify

    findings = verify(store)
    for line in findings:
        print(line)
    if not findings:
        whole = len(store.list())
        print("1 image is whole" if whole == 1 else f"{whole} images are whole")
    return NEGATIVE if findings else SUCCESS


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:SHORT_ID]


def _split(reference: str) -> tuple[str, str]:
    name, at, _ = reference.partition("@")
    if at:
        return name, "<none>"
    name, _, tag = reference.rpartition(":")
    return name, tag


def _json(value: object) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
