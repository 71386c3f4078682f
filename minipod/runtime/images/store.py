"""The image store (layer 3): names → unpacked layers. Verifies and unpacks images.

The files: `directory.py`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from minipod.api.references import (
    DEFAULT_DOMAIN,
    InvalidReference,
    Reference,
    is_image_id,
    is_short,
    parse_reference,
)
from minipod.errors import ConflictError, ImageError, NotFoundError
from minipod.failpoint import reached
from minipod.paths import Paths
from minipod.plan.configs import Image
from minipod.runtime.images.directory import StoreDirectory
from minipod.runtime.images.errors import store_errors
from minipod.runtime.images.index import (
    DEFAULT_REFERENCE,
    Entry,
    Index,
    entry_of,
    hex_of,
    matches,
    with_entry,
)
from minipod.runtime.images.manifests import Descriptor, FoundImage

if TYPE_CHECKING:
    from minipod.runtime.images import ingest
    from minipod.runtime.images.ingest import Progress, Source
    from minipod.runtime.images.registry.credentials import AuthFile
    from minipod.runtime.images.registry.pull import Pulled

DIRECTORY_PREFIX = "dir:"
MIN_SHORT_ID = 4
VANISHED_TRIES = 3


class ImageStore(StoreDirectory):
    """All methods block; the agent calls the slow ones (`load_layout`, `remove`) from a thread.

    `directories`: where `dir:/path` may lead, from the configuration; a face that is not root's own command line has
    a store without any.
    """

    def __init__(self, paths: Paths, directories: Sequence[str] = ()) -> None:
        super().__init__(paths)
        self._directories = directories

    # ---- looking up

    def resolve(self, reference: str) -> Image | None:
        """The image for what a manifest says, or None where the store has none.

        `reference`: a name with tag or digest, an image's id, or `dir:/path` for a root directory.
        Raises ImageError, reason InvalidImageName, for what is no reference, or a directory that is not to be one.
        """
        if reference.startswith(DIRECTORY_PREFIX):
            return _directory_image(reference, self._directories)
        entries = self.read_index().images
        if is_image_id(reference):
            wanted_id = f"sha256:{reference.removeprefix('sha256:')}"
            for entry in entries:
                if wanted_id in (entry.id, entry.digest, entry.target):
                    return self.image(entry)
            if reference.startswith("sha256:"):
                return None
        for wanted in complete(reference):
            for entry in entries:
                if matches(entry, wanted):
                    return self.image(entry)
        return None

    def present(self, reference: str, pull_policy: str = "IfNotPresent") -> Image | None:
        """What needs no registry under this policy; None where `fetch` is needed. Reads only. Raises ImageError.

        The kubelet's rules (images/image_manager.go EnsureImageExists), but for an image that was never pulled: under
        Always too it is used as it is (decisions/062).
        """
        image = self.resolve(reference)
        if image is None and pull_policy == "Never" and not self.is_default(reference):
            raise ImageError(
                f'Container image "{reference}" is not present with pull policy of Never', "ErrImageNeverPull"
            )
        if pull_policy == "Always" and not reference.startswith(DIRECTORY_PREFIX) and not is_image_id(reference):
            return None if any(map(self.pulled_digest, complete(reference))) else image
        return image

    def is_default(self, reference: str) -> bool:
        """Whether it is the image that minipod builds itself where it is missing."""
        if reference.startswith(DIRECTORY_PREFIX) or is_image_id(reference):
            return False
        return str(complete(reference)[0]) == DEFAULT_REFERENCE

    def fetch(
        self,
        reference: str,
        secrets: Sequence[tuple[str, AuthFile]] = (),
        report: Progress = lambda progress: None,
        *,
        stop: threading.Event | None = None,
    ) -> Pulled:
        """Pulls what has changed. Raises ImageError: ErrImagePull in the registry's words; Stopped."""
        from minipod.runtime.images.registry.pull import RefusedError, pull

        if is_image_id(reference):
            raise ImageError(f'failed to pull image "{reference}": no image has this id; registries know names only')
        errors = []
        for wanted in complete(reference):
            try:
                return pull(self, wanted, secrets=secrets, report=report, stop=stop)
            except RefusedError as error:  # by this registry; the next may have it
                errors.append(error)
        raise ImageError("; ".join(map(str, errors))) from errors[-1]

    def require(
        self, reference: str, pull_policy: str = "IfNotPresent", secrets: Sequence[tuple[str, AuthFile]] = ()
    ) -> Image:
        """The image: from the store, built, or pulled. Blocks. Raises ImageError with the waiting reason."""
        image = self.present(reference, pull_policy)
        if image is not None:
            return image
        if self.is_default(reference) and self.resolve(reference) is None:
            return self.ensure_default()
        return self.fetch(reference, secrets).image

    def pulled_digest(self, reference: Reference) -> str:
        """The digest that a registry had for the name when it was pulled; empty for what was never pulled."""
        for entry in self.read_index().images:
            if entry.pulled and matches(entry, reference):
                return reference.digest or entry.target or entry.digest
        return ""

    def find(self, text: str) -> Image:
        """As `resolve`, for the command line: also the beginning of an id. Raises NotFoundError."""
        return self.image(self.find_entry(text))

    # ---- changing

    def collect(self, high_percent: int, low_percent: int) -> Sequence[str]:
        """`upkeep.collect` for the agent; the names of what has gone. Raises ImageError, OSError."""
        from minipod.runtime.images.upkeep import collect

        return [image.reference for image in collect(self, high_percent, low_percent).images]

    def load(self, path: str | Path, reference: str | None = None) -> list[Image]:
        """Loads a directory or an archive: an OCI layout, what `docker save` wrote, what skopeo's `dir:` is.

        `reference`: the name to give, or which of several is meant; else the names that stand in it. Raises ImageError.
        """
        from minipod.runtime.images.layout import DockerArchive, Layout, SkopeoFolder, has, open_files

        wanted = complete(reference)[0] if reference else None
        with open_files(Path(path)) as files:
            if has(files, "index.json"):
                layout = Layout(files)
                found_all = layout.find_all(wanted)
                return [self.add(found, wanted or _name_in_layout(found, layout.where), layout) for found in found_all]
            if has(files, "version"):
                folder = SkopeoFolder(files)
                found = folder.find()
                return [self.add(found, wanted or _name_in_layout(found, folder.where), folder)]
            archive = DockerArchive(files)
            images = []
            for found, names in archive.find_all(wanted):
                references = [wanted] if wanted else [_parse(name) for name in names]
                if not references:
                    raise ImageError(f"{files.where} does not name the image: --name NAME")
                images += [self.add(found, name, archive) for name in references]
            return images

    def load_layout(self, path: str | Path, reference: str | None = None) -> Image:
        """As `load`, for what holds one image."""
        return self.load(path, reference)[0]

    def add(
        self,
        found: FoundImage,
        name: Reference,
        source: Source,
        report: Progress = lambda progress: None,
        stop: threading.Event | None = None,
        *,
        pulled: bool = False,
    ) -> Image:
        """Fetches and unpacks layers that are missing, then gives the image its name. Raises ImageError, Stopped."""
        from minipod.runtime.images import (
            ingest,  # late, as elsewhere here: a mere look-up has to be quick
        )

        verb = "pull" if pulled else "load"
        ingest_folder = self.path / "ingest"
        stop = stop or threading.Event()
        for _ in range(VANISHED_TRIES):
            with self.locked():
                pass  # makes the directories, sweeps
            with (
                store_errors(f"{verb} image {name}"),
                ingest.layers_of(found, ingest_folder, self._has, source, report, stop, keep=pulled) as layers,
                self.locked(),
            ):
                if self._keep(found, layers):
                    reached("image.layers-kept")
                    entry = entry_of(name, found, pulled)
                    self.write_index(with_entry(self.read_index(), entry))
                    reached("image.named")
                    return self.image(entry)
        raise ImageError(f"cannot {verb} image {name}: its layers are removed as fast as they come; try again")

    def ensure_default(self, rebuild: bool = False) -> Image:
        """The default image, built from this host's busybox where the store lacks it. Raises ImageError."""
        image = self.resolve(DEFAULT_REFERENCE)
        if image is not None and not rebuild:
            return image
        import tempfile

        from minipod.runtime.images import busybox

        with tempfile.TemporaryDirectory(prefix="minipod-busybox-") as folder, store_errors("build image busybox"):
            try:
                busybox.build(Path(folder))
            except busybox.BuildError as error:
                raise ImageError(f'failed to pull image "busybox": it cannot be built: {error}') from error
            return self.load_layout(folder)

    def remove(self, text: str) -> tuple[Image, ...]:
        """Takes away a name, or an image with all its names by its id, and what only it needed. Returns what is gone.

        Raises NotFoundError; ConflictError while a container uses it.
        """
        with self.locked(), store_errors(f"remove image {text}"):
            gone = self._find_entries(text)
            if not gone:
                raise NotFoundError(f"image {text!r} not found; minipod image ls shows what there is")
            if len({entry.id for entry in gone}) > 1:
                raise ConflictError(f"image {text!r}: several images begin so; give more digits of the id")
            rest = tuple(entry for entry in self.read_index().images if entry not in gone)
            if all(entry.id != gone[0].id for entry in rest):
                self.refuse_if_used(gone[0])
            self.write_index(Index(images=rest))
            self.sweep()
        return tuple(map(self.image, gone))

    def tag(self, text: str, name: str) -> Image:
        """Gives an image one more name. Raises NotFoundError, ImageError."""
        wanted = complete(name)[0]
        if wanted.digest:
            raise ImageError(f"{name!r}: a name with a digest cannot be given", "InvalidImageName")
        with self.locked(), store_errors(f"tag image {text}"):
            entry = self.find_entry(text)
            renamed = msgspec.structs.replace(entry, reference=str(wanted), name=wanted.name, pulled=False)
            self.write_index(with_entry(self.read_index(), renamed))
        return self.image(renamed)

    def find_entry(self, text: str) -> Entry:
        """Raises NotFoundError."""
        found = self._find_entries(text)
        if not found:
            raise NotFoundError(f"image {text!r} not found; minipod image ls shows what there is")
        return found[0]

    def list(self) -> list[Image]:
        """Every image, ordered by name; nameless ones have the reference `<repository>@<digest>`."""
        return sorted(map(self.image, self.read_index().images), key=lambda image: (image.reference, image.id))

    # ---- inside

    def _find_entries(self, text: str) -> tuple[Entry, ...]:
        entries = self.read_index().images
        digits = text.removeprefix("sha256:")
        if len(digits) >= MIN_SHORT_ID and set(digits) <= set("0123456789abcdef"):
            by_id = tuple(e for e in entries if hex_of(e.id).startswith(digits) or hex_of(e.digest) == digits)
            if by_id:
                return by_id
        if is_image_id(text):
            return ()
        return tuple(entry for wanted in complete(text) for entry in entries if matches(entry, wanted))[:1]

    def _has(self, descriptor: Descriptor, diff_id: str) -> bool:
        return self.layer_path(diff_id).exists() and self.blob_path(descriptor.digest).exists()

    def _keep(self, found: FoundImage, layers: Sequence[ingest.Layer]) -> bool:
        """Moves finished layers and small blobs to their places; False where one has gone since it was seen."""
        for layer in layers:
            for made, place in (
                (layer.blob, self.blob_path(layer.descriptor.digest)),
                (layer.tree, self.layer_path(layer.diff_id)),
            ):
                if not place.exists():
                    with suppress(FileNotFoundError):
                        os.rename(made, place)
                reached("image.part-kept")
            layer.discard()
        if not all(self._has(*pair) for pair in zip(found.layers, found.diff_ids, strict=True)):
            return False
        for digest, data in found.small.items():
            self.write(self.blob_path(digest), data)
        return True


def _directory_image(reference: str, directories: Sequence[str]) -> Image:
    """The directory itself, without links: nothing that is swapped on the way to it later counts."""
    path = reference.removeprefix(DIRECTORY_PREFIX)
    if not path.startswith("/") or "\0" in path:
        raise ImageError(
            f'image "{reference}": the root directory must be an absolute path: dir:/path', "InvalidImageName"
        )
    place = os.path.realpath(path)
    if not any(f"{place}/".startswith(f"{os.path.realpath(directory)}/") for directory in directories):
        raise ImageError(
            f'image "{reference}": {place} is in no directory that image_directories in config.toml names',
            "InvalidImageName",
        )
    if not os.path.isdir(place):
        raise ImageError(
            f'failed to pull image "{reference}": {place} is no directory; unpack a root file system there'
        )
    return Image(id=f"{DIRECTORY_PREFIX}{place}", reference=f"{DIRECTORY_PREFIX}{place}", layers=(place,))


def complete(reference: str) -> list[Reference]:
    """What the name may stand for, the likeliest first: a short one is completed as registries.toml says.

    Raises ImageError, reason InvalidImageName.
    """
    if not is_short(reference):
        return [_parse(reference)]
    from minipod.runtime.images.registry.hosts import load_registries

    return [_parse(reference, domain) for domain in load_registries().short_names]


def _parse(reference: str, default_domain: str = DEFAULT_DOMAIN) -> Reference:
    try:
        return parse_reference(reference, default_domain)
    except InvalidReference as error:
        raise ImageError(
            f'Failed to apply default image tag "{reference}": couldn\'t parse image name "{reference}": {error}',
            "InvalidImageName",
        ) from error


def _name_in_layout(found: FoundImage, where: str) -> Reference:
    from minipod.runtime.images.layout import is_full_name

    name = found.name
    if not is_full_name(name):
        raise ImageError(f"{where} names no repository; name the image: --name NAME")
    return _parse(name)
