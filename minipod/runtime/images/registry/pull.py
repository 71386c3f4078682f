"""Pulls an image into the store (layer 3): asks mirrors and registry in turn, resumes, checks. Keeps nothing itself."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, TypeVar

import msgspec

from minipod.api.references import Reference
from minipod.errors import ImageError
from minipod.plan.configs import Image
from minipod.runtime.images.errors import Stopped
from minipod.runtime.images.manifests import Descriptor, FoundImage, check_data, read_image
from minipod.runtime.images.registry.client import Repository
from minipod.runtime.images.registry.credentials import AuthFile, credentials_for
from minipod.runtime.images.registry.hosts import Registries, endpoints, load_registries
from minipod.runtime.images.registry.http import Http, RegistryError, Response

if TYPE_CHECKING:
    from minipod.runtime.images.ingest import Progress, Source

T = TypeVar("T")

CHUNK = 1 << 18
RANGE_NOT_SATISFIABLE = 416
NO_PROGRESS_BYTES = 1 << 16  # an attempt that brings less than this counts as failed


class RefusedError(ImageError):
    """The registry does not have the image, or not for us."""


class Store(Protocol):
    """images.ImageStore, as far as pulling needs it."""

    def pulled_digest(self, reference: Reference) -> str: ...

    def resolve(self, reference: str) -> Image | None: ...

    def add(
        self,
        found: FoundImage,
        name: Reference,
        source: Source,
        report: Progress = ...,
        stop: threading.Event | None = None,
        *,
        pulled: bool = False,
    ) -> Image: ...


class Pulled(msgspec.Struct, frozen=True):
    """What a pull came to. `changed`: the store did not have it before."""

    image: Image
    changed: bool
    seconds: float


def pull(
    store: Store,
    reference: Reference,
    *,
    secrets: Sequence[tuple[str, AuthFile]] = (),
    report: Progress = lambda progress: None,
    stop: threading.Event | None = None,
    registries: Registries | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Pulled:
    """Blocks until the image is in the store, unpacked. Raises ImageError in the registry's words, Stopped.

    `secrets`: imagePullSecrets, each with the words that name it in errors.
    """
    began = time.monotonic()
    if reference.digest and not reference.digest.startswith("sha256:"):
        raise ImageError(f'failed to pull image "{reference.familiar}": minipod knows sha256 digests only')
    stop = stop or threading.Event()
    http = Http(registries or load_registries(), stop, environment)
    try:
        origin = Origin(http, reference, secrets)
        have = store.pulled_digest(reference)
        if have and (have == reference.digest or have == origin.digest()):
            image = store.resolve(str(reference))
            if image is not None:
                return Pulled(image, False, time.monotonic() - began)
        found = origin.image()
        image = store.resolve(str(reference))
        if image is not None and have == found.target.digest:  # a registry that does not say so when asked
            return Pulled(image, False, time.monotonic() - began)
        image = store.add(found, reference, origin, report, stop, pulled=True)
        return Pulled(image, True, time.monotonic() - began)
    except RegistryError as error:
        kind = RefusedError if error.status in (401, 403, 404) else ImageError
        raise kind(f'failed to pull image "{reference.familiar}": {error}') from error
    finally:
        http.close()


class Origin:
    """Everything about one image at those who serve it: mirrors in their order, the registry last."""

    def __init__(self, http: Http, reference: Reference, secrets: Sequence[tuple[str, AuthFile]]) -> None:
        self._http = http
        self._reference = reference
        self._repositories = [
            Repository(http, at, reference.path, credentials_for(reference, at.registry, secrets, http.environment))
            for at in endpoints(http.registries, reference)
        ]

    def digest(self) -> str:
        """What the tag stands for; empty where no registry says so: then the request for the image gives the reason."""
        try:
            return self._first(lambda at: at.manifest_digest(self._reference.tag))
        except RegistryError as error:
            if not error.status:
                raise
            return ""

    def image(self) -> FoundImage:
        target, data = self._first(lambda at: at.manifest(self._reference.digest or self._reference.tag))
        known = {target.digest: data}

        def read(descriptor: Descriptor) -> bytes:
            if descriptor.digest in known:
                return check_data(where, descriptor, known[descriptor.digest])
            if descriptor.media_type.endswith(
                ("manifest.v1+json", "manifest.v2+json", "index.v1+json", "list.v2+json")
            ):
                return check_data(where, descriptor, self._first(lambda at: at.manifest(descriptor.digest))[1])
            return self._first(lambda at: _small_blob(at, descriptor))

        where = self._repositories[0].where
        return read_image(target, read, where)

    def fetch(self, descriptor: Descriptor, part: Path, report: Callable[[int], None]) -> None:
        """A layer into the file `part`, continued where it ends. Raises RegistryError, ImageError, OSError, Stopped."""
        self._first(lambda at: Download(self._http, at, descriptor, part, report).run(), retries=False)

    def _first(self, ask: Callable[[Repository], T], *, retries: bool = True) -> T:
        """The answer of the first repository that has one, which is asked first from then on; else all their errors."""
        errors: list[RegistryError] = []
        asked = self._repositories
        for repository in asked:
            try:
                answer = self._http.attempts(partial(ask, repository)) if retries else ask(repository)
            except RegistryError as error:
                errors.append(error)
                continue
            if errors:
                self._repositories = [repository, *(other for other in asked if other is not repository)]
            return answer
        if len(errors) == 1:
            raise errors[0]
        last = errors[-1]
        raise RegistryError("; ".join(map(str, errors)), status=last.status, retry=last.retry) from last


def _small_blob(repository: Repository, descriptor: Descriptor) -> bytes:
    with repository.blob(descriptor.digest) as response:
        return check_data(repository.where, descriptor, response.read(descriptor.size))


class Download:
    """One blob from one repository into a file. What has come stays in the file for the next attempt."""

    def __init__(
        self, http: Http, repository: Repository, descriptor: Descriptor, part: Path, report: Callable[[int], None]
    ) -> None:
        self._http = http
        self._repository = repository
        self._descriptor = descriptor
        self._part = part
        self._report = report
        self._hash = hashlib.sha256()
        self._size = 0

    def run(self) -> None:
        with open(self._part, "a+b", buffering=0) as file:
            self._take_up(file)
            failures = 0
            restarted = False
            while True:
                before = self._size
                try:
                    self._receive(file)
                    self._check(file)
                    return
                except RegistryError as error:
                    if self._size - before >= NO_PROGRESS_BYTES:
                        failures = 0
                    if not error.retry or failures + 1 >= self._http.registries.attempts:
                        raise
                    self._http.wait(failures, error)
                    failures += 1
                except _DamagedError as error:
                    if restarted:  # twice is no accident
                        raise RegistryError(str(error)) from None
                    restarted = True

    def _take_up(self, file: IO[bytes]) -> None:
        """Reads what an earlier attempt left."""
        file.seek(0)
        while chunk := file.read(CHUNK):
            self._hash.update(chunk)
            self._size += len(chunk)
        if self._size > self._descriptor.size:
            self._restart(file)

    def _restart(self, file: IO[bytes]) -> None:
        file.truncate(0)
        self._hash, self._size = hashlib.sha256(), 0

    def _receive(self, file: IO[bytes]) -> None:
        wanted = self._descriptor.size
        if self._size == wanted and wanted:
            return
        with self._ask(file) as response:
            if self._size and not _continues(response.status, response.headers.get("Content-Range", ""), self._size):
                self._restart(file)
                if response.status == 206:
                    raise RegistryError(
                        f"{self._repository.where}: answers with another range than asked for", retry=True
                    )
            while data := response.read1(CHUNK):
                if self._http.stop.is_set():
                    raise Stopped
                self._size += len(data)
                if self._size > wanted:
                    self._restart(file)
                    raise RegistryError(
                        f"{self._repository.where}: blob {self._descriptor.digest} has more than {wanted} bytes"
                    )
                self._hash.update(data)
                write_all(file, data)
                self._report(self._size)
        if self._size < wanted:
            raise RegistryError(
                f"{self._repository.where}: blob {self._descriptor.digest} ended after {self._size} of {wanted} bytes",
                retry=True,
            )

    def _ask(self, file: IO[bytes]) -> Response:
        try:
            return self._repository.blob(self._descriptor.digest, self._size)
        except RegistryError as error:
            if error.status != RANGE_NOT_SATISFIABLE or not self._size:
                raise
            self._restart(file)
            raise RegistryError(str(error), status=error.status, retry=True) from error

    def _check(self, file: IO[bytes]) -> None:
        found = self._hash.hexdigest()
        if found != self._descriptor.hex:
            self._restart(file)
            raise _DamagedError(
                f"{self._repository.where}: blob {self._descriptor.digest} is damaged: it has sha256:{found}"
            )


class _DamagedError(Exception):
    """All bytes came, and they are the wrong ones."""


def _continues(status: int, content_range: str, offset: int) -> bool:
    return status == 206 and content_range.startswith(f"bytes {offset}-")


def write_all(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
