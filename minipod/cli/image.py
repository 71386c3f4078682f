"""`minipod image` (layer 6): lists, loads, inspects and removes images. Works on the store, without the agent."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from minipod.cli.options import paths_of
from minipod.errors import UsageError

if TYPE_CHECKING:
    from minipod.plan.configs import Image
    from minipod.runtime.images import ImageStore

SHORT_ID = 12
UNITS = ("B", "kB", "MB", "GB", "TB")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "List, load, inspect and remove images."
    verbs = parser.add_subparsers(dest="image_verb", metavar="COMMAND", required=True)
    ls = verbs.add_parser("ls", help="list the images of the store")
    ls.add_argument("-o", "--output", choices=("table", "json", "name"), default="table", help="table, json or name")
    load = verbs.add_parser("load", help="load an image from an OCI image layout, or the built-in busybox")
    load.add_argument("path", nargs="?", metavar="DIRECTORY", help="a folder with oci-layout and index.json")
    load.add_argument("--name", metavar="NAME", help="the image's name; default: the one the layout gives")
    load.add_argument("--default", action="store_true", help="build busybox from this host's busybox-static")
    rm = verbs.add_parser("rm", help="remove images: by name, or by id with all names")
    rm.add_argument("images", nargs="+", metavar="IMAGE")
    inspect = verbs.add_parser("inspect", help="show what the store knows of images, as JSON")
    inspect.add_argument("images", nargs="+", metavar="IMAGE")


def run(args: argparse.Namespace) -> int:
    from minipod.runtime.images import ImageStore

    store = ImageStore(paths_of(args))
    verb = {"ls": _ls, "load": _load, "rm": _rm, "inspect": _inspect}[args.image_verb]
    verb(store, args)
    return 0


def _ls(store: ImageStore, args: argparse.Namespace) -> None:
    from minipod.cli.table import table

    images = store.list()
    if args.output == "json":
        print(_json(images))
    elif args.output == "name":
        print("".join(f"{image.reference}\n" for image in images), end="")
    else:
        rows = [(*_split(image.reference), _short(image.id), human_size(image.size_bytes)) for image in images]
        print(table([("IMAGE", "TAG", "IMAGE ID", "SIZE"), *rows]), end="")


def _load(store: ImageStore, args: argparse.Namespace) -> None:
    if args.default == bool(args.path):
        raise UsageError("image load: give either a folder or --default")
    image = store.ensure_default(rebuild=True) if args.default else store.load_layout(args.path, args.name)
    print(f"loaded {image.reference} ({_short(image.id)})")


def _rm(store: ImageStore, args: argparse.Namespace) -> None:
    for name in args.images:
        for image in store.remove(name):
            print(f"removed {image.reference}")


def _inspect(store: ImageStore, args: argparse.Namespace) -> None:
    print(_json([store.find(name) for name in args.images]))


def human_size(size_bytes: int) -> str:
    """Decimal units with three significant figures, as docker and crictl print them: 2.23MB."""
    value, unit = float(size_bytes), 0
    while value >= 1000 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g}{UNITS[unit]}"


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:SHORT_ID]


def _split(reference: str) -> tuple[str, str]:
    name, at, _ = reference.partition("@")
    if at:
        return name, "<none>"
    name, _, tag = reference.rpartition(":")
    return name, tag


def _json(images: list[Image]) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(images), indent=2).decode()
