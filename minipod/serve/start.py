"""The agent's preconditions (layer 7): root user, directories, an early start of the spawner. Imports little."""

from __future__ import annotations

import errno
import os
import socket
import stat

from minipod import __version__
from minipod.agent.confinement import require_capabilities
from minipod.errors import HostError
from minipod.kernel.remove import remove_tree
from minipod.paths import DATA_DIR_OPTIONS, RUN_DIR_OPTIONS, Paths

#: directories in the root and state directories -> whether only the root user may read them
_PRIVATE = {
    "spawners": True,
    "exits": True,
    "staged": True,
    "leases": True,
    "sandboxes": False,
    "containers": False,
    "cache": True,
}
_OTHERS_WRITE, _OTHERS = 0o022, 0o077


def check_rights(paths: Paths) -> None:
    """Raises HostError without root rights, UsageError for a path that is too long."""
    paths.check_length()
    if os.geteuid() != 0:
        raise HostError("the agent needs root: it makes namespaces, mounts and cgroups: use sudo")
    require_capabilities()


def check_host(paths: Paths) -> list[str]:
    """Creates the directories and repairs existing ones. Returns a line per repair. Raises HostError."""
    repaired = []
    for option, folder in ((RUN_DIR_OPTIONS[0], paths.root), (DATA_DIR_OPTIONS[0], paths.state)):
        try:
            os.makedirs(folder, mode=0o711, exist_ok=True)
            repaired += repair(folder)
        except OSError as error:
            raise HostError(f"{folder}: cannot be made: {_words(error)}: choose another {option}") from error
        repaired += _check_writable(option, folder)
    return repaired


def repair(folder: str) -> list[str]:
    """Restores owner and modes of the directories, whatever umask or chmod made of them: only root may write into them
    and read the private ones. Removes compiled filters that another user could have written; they are compiled anew.
    Returns a line per repair. Raises HostError for a directory that is shared by all users, as /tmp.
    """
    if os.stat(folder).st_mode & stat.S_ISVTX:
        raise HostError(f"{folder}: is shared by all users (sticky): choose a directory in it")
    done = []
    for place in (folder, *(f"{folder}/{name}" for name in _PRIVATE)):
        try:
            found = os.lstat(place)
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(found.st_mode):
            continue
        name = os.path.basename(place) if place != folder else ""
        private = _PRIVATE.get(name, False)
        mode = stat.S_IMODE(found.st_mode)
        wanted = (mode | (0o700 if private else 0o711)) & ~(_OTHERS if private else _OTHERS_WRITE)
        if found.st_uid != 0:
            os.chown(place, 0, 0, follow_symlinks=False)
            done.append(f"{place}: belonged to user {found.st_uid}: given to root")
        if mode != wanted:
            os.chmod(place, wanted)
            done.append(f"{place}: mode was {mode:04o}: set to {wanted:04o}")
        if name == "cache" and (found.st_uid != 0 or mode & _OTHERS_WRITE):
            remove_tree(place)
    return done


def _check_writable(option: str, folder: str) -> list[str]:
    """Writes a file: nothing else detects a full disk and a read-only mount. Raises HostError.

    With a full disk an agent starts, because pods may run that need it: a line for its log says so.
    """
    probe = f"{folder}/.probe-{os.getpid()}"
    try:
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, b"\0" * 512)
        finally:
            os.close(fd)
            os.unlink(probe)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return [f"{folder}: {_words(error)}: pods go on, but hardly any change can be stored until some is free"]
        raise HostError(f"{folder}: cannot be written: {_words(error)}: choose another {option}") from error
    return []


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def begin_spawner(paths: Paths) -> None:
    """Starts the spawner unless one listens; it starts while this process imports. `Runtime.open` connects to it."""
    path = spawner_socket(paths)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(path)
        except OSError:
            from minipod.runtime.spawner.start import start_spawner

            try:
                start_spawner(path, f"{paths.root}/exits")
            except OSError as error:
                from minipod.kernel.error_text import text_of

                raise HostError(f"the spawner cannot be started: {text_of(error, 'spawn')}") from error


def spawner_socket(paths: Paths) -> str:
    """One spawner per version: a newer agent starts its own."""
    return f"{paths.root}/spawners/{__version__}.sock"
