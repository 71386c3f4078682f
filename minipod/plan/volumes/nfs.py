"""NFS volumes (layer 2): an export of a server, mounted by the kernel's own client, without mount.nfs.

Rules: nfs(5) for the options, pkg/volume/nfs/nfs.go. The newest version that both sides know is taken, as by
mount.nfs: 4.2, 4.1, 4.0, then 3, which works without locks (there is no rpc.statd here).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence

from minipod.errors import VolumeError
from minipod.kernel import mount as kmount
from minipod.plan.operation import HostOperation
from minipod.plan.volumes.mounted import make_place, unmount

_VERSIONS = ("4.2", "4.1", "4.0", "3")
#: errors of a server without that version, or without any: the next version is tried
_NEXT = (errno.EPROTONOSUPPORT, errno.EINVAL, errno.ENOENT, errno.ECONNREFUSED, errno.EOPNOTSUPP, errno.ENODEV)
#: options of mount(8) that are flags of the mount itself, not the client's
_FLAGS = {
    "ro": kmount.MS_RDONLY,
    "nosuid": kmount.MS_NOSUID,
    "nodev": kmount.MS_NODEV,
    "noexec": kmount.MS_NOEXEC,
    "noatime": kmount.MS_NOATIME,
    "nodiratime": kmount.MS_NODIRATIME,
    "relatime": kmount.MS_RELATIME,
    "strictatime": kmount.MS_STRICTATIME,
    "sync": kmount.MS_SYNCHRONOUS,
}
#: options that state what holds anyway, or are for mount.nfs
_WITHOUT_EFFECT = frozenset({"rw", "defaults", "auto", "suid", "dev", "exec", "atime", "async", "_netdev", "fg"})


class MountNfs(HostOperation, frozen=True):
    """An export of an NFS server at the volume's place. `options`: as mount(8) takes them. Raises VolumeError."""

    volume: str
    server: str
    export: str
    path: str
    readonly: bool = False
    options: tuple[str, ...] = ()

    def describe(self) -> str:
        options = ",".join(["ro" if self.readonly else "rw", *self.options])
        return f"mount nfs {self.server}:{self.export} {self.path} {options}"

    def execute(self) -> None:
        if os.path.ismount(self.path):
            return
        make_place(self.path, directory=True)
        address = self._address()
        flags, options = split_options(self.options)
        failure: OSError | None = None
        for fstype, words in ways(address, _own_address(address), options):
            try:
                kmount.mount(
                    f"{self.server}:{self.export}",
                    self.path,
                    fstype,
                    flags | (kmount.MS_RDONLY if self.readonly else 0),
                    ",".join(words),
                )
                return
            except OSError as error:
                # the first error other than "not this version" is reported
                if failure is None or failure.errno in (errno.EPROTONOSUPPORT, errno.EINVAL, errno.ENODEV):
                    failure = error
                if error.errno not in _NEXT:
                    break
        assert failure is not None
        if failure.errno == errno.ENODEV:
            raise self._failed("this kernel has no NFS client: modprobe nfs, or mount it on the host and use hostPath")
        why = os.strerror(failure.errno or 0)
        raise self._failed(f"mount of {self.server}:{self.export}: {why}") from failure

    def _address(self) -> str:
        try:
            return str(socket.getaddrinfo(self.server, 2049, type=socket.SOCK_STREAM)[0][4][0])
        except OSError as error:
            raise self._failed(f"server {self.server}: {error.strerror}") from error

    def _failed(self, why: str) -> VolumeError:
        return VolumeError(f'MountVolume.SetUp failed for volume "{self.volume}" : {why}')

    def undo(self) -> None:
        unmount(self.path)


def split_options(options: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    """(flags of the mount, options for the client)."""
    flags, rest = 0, []
    for option in (word.strip() for text in options for word in text.split(",")):
        if option in _FLAGS:
            flags |= _FLAGS[option]
        elif option and option not in _WITHOUT_EFFECT:
            rest.append(option)
    return flags, tuple(rest)


def ways(address: str, own: str, options: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """(file system type, options) of each version to try; of the one alone that the options ask for."""
    asked = [value for name, _, value in (option.partition("=") for option in options) if name in ("vers", "nfsvers")]
    others = [option for option in options if option.partition("=")[0] not in ("vers", "nfsvers")]
    for version in (asked[-1],) if asked else _VERSIONS:
        if version.startswith("4"):
            yield "nfs4", [f"vers={version}", f"addr={address}", f"clientaddr={own}", *others]
        else:
            lock = [] if "lock" in others or "nolock" in others else ["nolock"]
            yield "nfs", [f"vers={version}", f"addr={address}", f"mountaddr={address}", *lock, *others]


def _own_address(server: str) -> str:
    """The address of this host that the server would see; nothing is sent."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((server, 2049))
        except OSError:
            return "0.0.0.0"
        return str(probe.getsockname()[0])
