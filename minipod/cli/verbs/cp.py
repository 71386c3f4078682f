"""`minipod cp` (layer 6): files and directories to and from a running container, in kubectl's syntax.

The agent hands over the container's root directory; everything below it is found by openat2 from there. The image needs
no tar, and no program of it is run.
"""

from __future__ import annotations

import argparse
import os
import stat

from minipod.cli.client import Client
from minipod.cli.copying import Copier
from minipod.cli.options import namespace_of
from minipod.cli.pods import default_container, get_pod
from minipod.cli.show.output import warn
from minipod.cli.trouble import problem
from minipod.cli.values import Object
from minipod.errors import AgentError, HostError, MinipodError, NotFoundError, UsageError
from minipod.kernel.path import open_in_root

FORMAT = "filespec must match the canonical format: [[namespace/]pod:]file/path"


class Spec:
    """One side: a path here, or a path in a pod."""

    __slots__ = ("namespace", "path", "pod")

    def __init__(self, path: str, pod: str = "", namespace: str = "") -> None:
        self.path = path
        self.pod = pod
        self.namespace = namespace

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Raises UsageError."""
        if not text:
            raise UsageError("filepath can not be empty")
        where, colon, path = text.partition(":")
        if not colon or where.startswith((".", "/")):
            return cls(text)
        if not where or not path:
            raise UsageError(FORMAT)
        namespace, slash, pod = where.rpartition("/")
        if (slash and not namespace) or "/" in namespace or not pod:
            raise UsageError(FORMAT)
        return cls(path, pod, namespace)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Copy files and directories to and from containers: minipod cp SRC DEST, one of them POD:PATH."
    parser.add_argument("words", nargs="*", metavar="[[NAMESPACE/]POD:]PATH", help="source, then destination")
    parser.add_argument("-c", "--container", metavar="C", help="the container; default: the annotated or first one")
    parser.add_argument("--no-preserve", action="store_true", help="keep neither owner nor permissions nor times")


def run(args: argparse.Namespace) -> int:
    if len(args.words) != 2:
        raise UsageError("source and destination are required")
    source, target = map(Spec.parse, args.words)
    if source.pod and target.pod:
        raise UsageError("one of src or dest must be a local file specification")
    if not source.pod and not target.pod:
        raise UsageError("one of src or dest must be a remote file specification")
    remote = source if source.pod else target
    root_fd, process = container_root(args, remote)
    try:
        path = remote.path if remote.path.startswith("/") else f"{process['cwd']}/{remote.path}"
        if source.pod:
            download(args, root_fd, path, target.path)
        else:
            upload(args, source.path, root_fd, path, (int(process["uid"]), int(process["gid"])))
    finally:
        os.close(root_fd)
    return 0


def container_root(args: argparse.Namespace, spec: Spec) -> tuple[int, Object]:
    """A descriptor of the container's root, its working directory and user. Raises NotFoundError, ConflictError."""
    client = Client.of(args, "cp")
    namespace = spec.namespace or namespace_of(args)
    container = args.container or default_container(get_pod(client, namespace, spec.pod))
    message = {"verb": "root", "namespace": namespace, "pod": spec.pod, "container": container}
    with client.request(message) as request:
        event = request.next()
        if event is None:
            raise AgentError("the agent gave no root directory; see agent.log")
        return os.dup(request.take_fd()), event


def download(args: argparse.Namespace, root_fd: int, path: str, target: str) -> None:
    """Into `target` where that is a directory and the source a file; what a directory holds goes into `target`."""
    try:
        source_fd = open_in_root(root_fd, path)
    except OSError as error:
        plain = OSError(error.errno, os.strerror(error.errno or 0))  # without the call and its relative path
        raise _problem(plain, f"{path} in the container") from None
    copier = Copier(warn, links=False, owner=(os.geteuid(), os.getegid()), preserve=not args.no_preserve)
    try:
        is_folder = stat.S_ISDIR(os.fstat(source_fd).st_mode)
        target = target.rstrip("/") or "/"
        if is_folder:
            os.makedirs(target, exist_ok=True)
            with _Folder(target) as folder_fd:
                copier.copy_contents(source_fd, folder_fd, path.rstrip("/"))
            return
        name = os.path.basename(path.rstrip("/"))
        if not os.path.isdir(target):
            parent, name = os.path.split(os.path.abspath(target))
            target = parent
        os.makedirs(target, exist_ok=True)
        with _Folder(target) as folder_fd:
            copier.copy(source_fd, folder_fd, name, path)
    except OSError as error:
        raise _problem(error, target) from None
    finally:
        os.close(source_fd)


def upload(args: argparse.Namespace, source: str, root_fd: int, path: str, user: tuple[int, int]) -> None:
    """Into the container's directory `path` where there is one, under the source's name; else as `path`."""
    try:
        source_fd = os.open(source, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFoundError(f"{source} doesn't exist in local filesystem") from None
    owner = user if user[0] or args.no_preserve else None  # as tar: root keeps the owner, others own what they make
    copier = Copier(warn, links=True, owner=owner, preserve=not args.no_preserve)
    try:
        folder_fd, name = _place(root_fd, path, os.path.basename(os.path.abspath(source)))
        try:
            copier.copy(source_fd, folder_fd, name, source.rstrip("/") or "/")
        finally:
            os.close(folder_fd)
    except OSError as error:
        raise _problem(error, f"{path} in the container") from None
    finally:
        os.close(source_fd)


def _place(root_fd: int, path: str, name: str) -> tuple[int, str]:
    """The directory in the container to write to, and the name there; links are followed inside its root alone."""
    clean = "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK
    try:
        return open_in_root(root_fd, clean, flags), name
    except (FileNotFoundError, NotADirectoryError):
        parent, _, last = clean.rpartition("/")
        if path.endswith("/") or last == "..":
            raise
        return open_in_root(root_fd, parent or "/", flags), last


class _Folder:
    """A directory of this side, by its path: whatever links lead to it are the user's own."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> int:
        self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._fd

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)


def _problem(error: OSError, place: str) -> MinipodError:
    """A path that is not there or that another file obstructs is not found; all else is the host's failure."""
    kind = NotFoundError if isinstance(error, (FileNotFoundError, NotADirectoryError, FileExistsError)) else HostError
    return kind(problem(error, place))
