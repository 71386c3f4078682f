"""What a child makes of itself before exec (layer 2): session, user, capabilities, seccomp, terminal, exec."""

from __future__ import annotations

import binascii
import errno
import fcntl
import os
import resource
import signal
import stat
import struct
import termios
from collections.abc import Callable

from minipod.errors import ContainerError
from minipod.kernel import mount as kmount
from minipod.kernel import process
from minipod.kernel.inherit import set_limit
from minipod.kernel.layers import read_in_root
from minipod.kernel.path import open_in_root
from minipod.plan.operation import ChildContext, ChildOperation
from minipod.plan.process import passwd
from minipod.plan.process.places import open_own, own_file
from minipod.plan.process.security import CAPABILITIES

_ALL_CAPABILITIES = (1 << len(CAPABILITIES)) - 1
PTMX = os.makedev(5, 2)
TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441
_PASSWD_LIMIT = 1 << 20  # bytes; an image's passwd is a few lines


class NewKeyring(ChildOperation, frozen=True):
    """A session keyring of its own."""

    phase = "cgroup"

    def describe(self) -> str:
        return "keyctl JOIN_SESSION_KEYRING"

    def execute(self, ctx: ChildContext) -> None:
        process.join_new_session_keyring()


class NewSession(ChildOperation, frozen=True):
    """A session and a process group of its own, by the process itself; its terminal, if any. `cookie`: `passage`."""

    terminal: bool = False
    cookie: int = 0
    phase = "pid"

    def describe(self) -> str:
        return "setsid" + ("; TIOCSCTTY" if self.terminal else "")

    def execute(self, ctx: ChildContext) -> None:
        process.setsid(self.cookie)
        if self.terminal:
            process.set_controlling_terminal(0, self.cookie)


class SetOomScoreAdj(ChildOperation, frozen=True):
    """What the kernel's OOM killer adds to this process' badness, -1000 to 1000."""

    value: int
    phase = "cgroup"

    def describe(self) -> str:
        return f"oom_score_adj {self.value}"

    def execute(self, ctx: ChildContext) -> None:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)  # open() takes five times as long
        try:
            os.write(fd, str(self.value).encode())
        except PermissionError:
            # Lowering needs CAP_SYS_RESOURCE, which this host's root may lack (restrict_oom_score_adj).
            ctx.facts["oom_score_adj"] = "not permitted"
        finally:
            os.close(fd)


class LimitOpenFiles(ChildOperation, frozen=True):
    """How many files it may have open: fewer than the spawner. Some programs close all of them one by one
    or use select(2), so services of systemd and containerd start with few, and may raise the limit."""

    soft: int
    hard: int
    phase = "cgroup"

    def describe(self) -> str:
        return f"prlimit RLIMIT_NOFILE {self.soft}:{self.hard}"

    def execute(self, ctx: ChildContext) -> None:
        set_limit(resource.RLIMIT_NOFILE, self.soft, self.hard)


class ResolveUser(ChildOperation, frozen=True, kw_only=True):
    """Find uid, gid, groups and home in the image's own passwd and group, before any volume covers them.

    `user` is the image's User (name, number, name:group …) or a number; `gid` None: the user's own group.
    """

    user: str = ""
    gid: int | None = None
    groups: tuple[int, ...] = ()
    merge_image_groups: bool = True  # supplementalGroupsPolicy Merge
    run_as_non_root: bool = False
    phase = "root"

    def describe(self) -> str:
        group = f" group {self.gid}" if self.gid is not None else ""
        root = ", refuse uid 0" if self.run_as_non_root else ""
        return f"look up user {self.user or '0'}{group} in the image's /etc/passwd and /etc/group{root}"

    def execute(self, ctx: ChildContext) -> None:
        found = self.find(lambda path, limit: read_in_root(ctx.fds["root"], path, limit))
        ctx.facts.update(uid=found.uid, gid=found.gid, groups=list(found.groups), home=found.home)

    def find(self, read: Callable[[str, int], bytes]) -> passwd.User:
        """`read`: a file of the image, by its path and the most bytes. Raises ContainerError."""
        return passwd.resolve(
            self.user,
            self.gid,
            self.groups,
            passwd_text=_text(read, "/etc/passwd"),
            group_text=_text(read, "/etc/group"),
            merge_image_groups=self.merge_image_groups,
            run_as_non_root=self.run_as_non_root,
        )


def _text(read: Callable[[str, int], bytes], path: str) -> str:
    """Empty where there is no such file. One that cannot be read must not count as empty: groups restrict, too."""
    try:
        return read(path, _PASSWD_LIMIT).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise ContainerError(f"the image's {path}: {words}", "CreateContainerError") from None


class AssumeUser(ChildOperation, frozen=True, kw_only=True):
    """The user that the container started with, for an exec in it."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"
    phase = "root"  # as `ResolveUser`: a terminal is to be the user's

    def describe(self) -> str:
        return f"user {self.uid} group {self.gid} groups {list(self.groups)}"

    def execute(self, ctx: ChildContext) -> None:
        ctx.facts.update(uid=self.uid, gid=self.gid, groups=list(self.groups), home=self.home)


class OpenTerminal(ChildOperation, frozen=True):
    """A pty from the container's own devpts becomes stdin, stdout and stderr; the master goes to the spawner.

    With `console` the slave is bound at /dev/console, as the container's first process has it.
    """

    rows: int = 0
    columns: int = 0
    console: bool = False
    phase = "entry"

    def describe(self) -> str:
        return "open /dev/pts/ptmx, TIOCGPTPEER" + (", bind at /dev/console" if self.console else "")

    def execute(self, ctx: ChildContext) -> None:
        master = self._open_master(ctx)
        if os.fstat(master).st_rdev != PTMX or kmount.file_system_type(master) != kmount.DEVPTS_SUPER_MAGIC:
            raise OSError(errno.ENOTTY, "/dev/pts/ptmx is not a pty master")
        fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        if self.rows and self.columns:
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", self.rows, self.columns, 0, 0))
        if "uid" in ctx.facts:
            os.fchown(slave, int(str(ctx.facts["uid"])), -1)
        if self.console:
            with own_file(ctx, "/dev/console") as place:
                kmount.bind(slave, place, recursive=False)
        ctx.fds["terminal"] = master
        for fd in (0, 1, 2):
            os.dup2(slave, fd, inheritable=True)
        os.close(slave)

    def _open_master(self, ctx: ChildContext) -> int:
        flags = os.O_RDWR | os.O_NOCTTY
        if self.console:  # of the devpts that was made, even if a volume covers it since
            return open_own(ctx, "/dev/pts/ptmx", flags)
        return open_in_root(ctx.fds["root"], "/dev/pts/ptmx", flags)


class SetNoNewPrivs(ChildOperation, frozen=True):
    """allowPrivilegeEscalation: false."""

    phase = "user"

    def describe(self) -> str:
        return "prctl PR_SET_NO_NEW_PRIVS"

    def execute(self, ctx: ChildContext) -> None:
        process.set_no_new_privs()


class BecomeUser(ChildOperation, frozen=True, kw_only=True):
    """Groups, gid, uid and the bounding set, in the one order that works. Ambient and inheritable sets are empty.

    Effective is CAP_DAC_READ_SEARCH alone, which `ChangeFolder` needs; permitted are also `capabilities`, a
    64-bit mask, and CAP_SYS_ADMIN, which `InstallSeccompFilter` may need. `DropCapabilities` ends that.
    """

    capabilities: int
    phase = "user"

    def describe(self) -> str:
        return (
            f"setgroups, setresgid, setresuid; capset bounding {self.capabilities:#018x}, effective DAC_READ_SEARCH, "
            "inheritable and ambient 0; non-dumpable"
        )

    def execute(self, ctx: ChildContext) -> None:
        uid, gid, groups = ctx.facts["uid"], ctx.facts["gid"], ctx.facts["groups"]
        assert isinstance(uid, int)
        assert isinstance(gid, int)
        assert isinstance(groups, list)
        permitted = process.permitted_capabilities()
        process.drop_bounding_capabilities(self.capabilities, int(str(ctx.facts["last_capability"])))
        process.clear_ambient_capabilities()
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        process.keep_capabilities()
        os.setresuid(uid, uid, uid)
        process.capset(effective=SEARCH, permitted=until_dropped(self.capabilities, permitted), inheritable=0)
        process.set_dumpable(False)  # a change of credentials sets it to fs.suid_dumpable


SEARCH = 1 << CAPABILITIES.index("DAC_READ_SEARCH")
ADMIN = 1 << CAPABILITIES.index("SYS_ADMIN")


def until_dropped(wanted: int, permitted: int) -> int:
    """The permitted set between `BecomeUser` and `DropCapabilities`."""
    return (wanted | SEARCH | ADMIN) & permitted


class InstallSeccompFilter(ChildOperation, frozen=True):
    """A compiled filter, in base64 (struct sock_filter). Without no_new_privs that takes CAP_SYS_ADMIN."""

    profile: str
    program: str
    phase = "limits"

    def describe(self) -> str:
        return f"seccomp SECCOMP_SET_MODE_FILTER {self.profile} ({len(self.program) * 3 // 4 // 8} instructions)"

    def execute(self, ctx: ChildContext) -> None:
        permitted = process.permitted_capabilities()
        process.capset(effective=ADMIN & permitted, permitted=permitted, inheritable=0)
        process.install_seccomp_filter(binascii.a2b_base64(self.program))


class DropCapabilities(ChildOperation, frozen=True):
    """Leaves the container's: `capabilities`, a 64-bit mask, for root; none for another user."""

    capabilities: int
    phase = "limits"

    def describe(self) -> str:
        return f"capset effective and permitted {self.capabilities:#018x} for root, 0 for another user"

    def execute(self, ctx: ChildContext) -> None:
        mask = 0
        if ctx.facts["uid"] == 0:
            mask = root_capabilities(self.capabilities, process.permitted_capabilities())
        process.capset(effective=mask, permitted=mask, inheritable=0)


def root_capabilities(wanted: int, permitted: int) -> int:
    """ALL means all that can be granted (containerd)."""
    return wanted & permitted if wanted == _ALL_CAPABILITIES else wanted


class Exec(ChildOperation, frozen=True, kw_only=True):
    """The container's own program. `env` lacks HOME where it comes from the user's passwd entry."""

    argv: tuple[str, ...]
    env: tuple[str, ...]
    phase = "exec"

    def describe(self) -> str:
        return f"execve {' '.join(_quoted(word) for word in self.argv)}"

    def environment(self, home: str) -> dict[str, str]:
        environment = dict(entry.split("=", 1) for entry in self.env if "=" in entry)
        environment.setdefault("HOME", home)
        return environment

    def execute(self, ctx: ChildContext) -> None:
        environment = self.environment(str(ctx.facts.get("home", "/")))
        path = _find_program(self.argv[0], environment.get("PATH", ""))
        process.close_on_exec_from(3)
        _reset_signals()
        os.umask(0o022)
        try:
            os.execve(path, list(self.argv), environment)
        except OSError as error:
            raise OSError(error.errno, f'exec: "{self.argv[0]}": {_why_not(path, error)}') from None


def _why_not(path: str, error: OSError) -> str:
    if error.errno == errno.ENOENT and os.path.exists(path):
        return "its interpreter is not there (the first line of a script, or a program's dynamic loader)"
    if error.errno == errno.EACCES and os.path.isdir(path):
        return "is a directory"
    if error.errno == errno.EACCES and (closed := _closed_directory(path)):
        return _may_not_search(closed)
    return (error.strerror or str(error)).lower()


def _quoted(word: str) -> str:
    plain = word and all(c.isalnum() or c in "-_./=:,@%+" for c in word)
    return word if plain else "'" + word.replace("'", "'\\''").replace("\n", "\\n") + "'"


def _closed_directory(path: str) -> str:
    """The first directory on the way to the file that this user may not search; empty where there is none."""
    parts = os.path.dirname(path).split("/")
    places = ("/".join(parts[: count + 1]) or "/" for count in range(len(parts)))
    return next((place for place in places if os.path.isdir(place) and not os.access(place, os.X_OK)), "")


def _may_not_search(directory: str) -> str:
    return f"permission denied: user {os.geteuid()} may not search {directory}: chmod it in the image, or set runAsUser"


def _find_program(name: str, search_path: str) -> str:
    """The file to execute, searched as execvp(3) does; the error is what users know from runc."""
    if "/" in name:
        return name
    denied, closed = False, ""
    for folder in search_path.split(":"):
        candidate = f"{folder or '.'}/{name}"
        try:
            if stat.S_ISREG(os.stat(candidate).st_mode):
                if os.access(candidate, os.X_OK):
                    return candidate
                denied = True
        except PermissionError:
            closed = closed or _closed_directory(candidate)
        except OSError:
            continue
    if denied:
        raise PermissionError(errno.EACCES, f'exec: "{name}": permission denied')
    if closed:
        raise PermissionError(errno.EACCES, f'exec: "{name}": {_may_not_search(closed)}')
    raise FileNotFoundError(errno.ENOENT, f'exec: "{name}": executable file not found in $PATH')


#: all that the C library allows to be set (32 and 33 are its own)
_RESETTABLE = tuple(sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))


def _reset_signals() -> None:
    """Signals that the spawner or Python ignores would stay ignored after exec, and a shell could not trap them."""
    for number in _RESETTABLE:
        if signal.getsignal(number) != signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


# `pause` in each architecture's machine code, in a loop: the whole program of a pod's PID 1.
_PAUSE = {
    "x86_64": bytes.fromhex("b8220000000f05ebf7"),  # mov eax,34; syscall; jmp -9
    "aarch64": bytes.fromhex(
        "080980d2"  # mov x8,#72 (pselect6)
        "000080d2"
        "010080d2"
        "020080d2"
        "030080d2"
        "040080d2"
        "050080d2"
        "010000d4"
        "f8ffff17"
    ),  # svc #0; b back
}


def pause_program(machine: str) -> bytes | None:
    """A static ELF that does nothing but wait, about 130 bytes; None for an unknown architecture."""
    code = _PAUSE.get(machine)
    if code is None:
        return None
    base, headers = 0x400000, 64 + 56
    machine_number = {"x86_64": 62, "aarch64": 183}[machine]
    size = headers + len(code)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, machine_number, 1, base + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    program = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return header + program + code


class ExecPause(ChildOperation, frozen=True):
    """PID 1 of a shared PID namespace: a program of a few instructions that waits forever.

    SIGCHLD is ignored before the exec, and stays so: the kernel then reaps every orphan by itself (wait(2)).
    """

    machine: str
    phase = "exec"

    def describe(self) -> str:
        return "ignore SIGCHLD; execve pause (PID 1 of the pod)"

    def execute(self, ctx: ChildContext) -> None:
        program = pause_program(self.machine)
        if program is None:
            raise OSError(errno.ENOEXEC, f"shareProcessNamespace: no pause program for {self.machine}")
        fd = os.memfd_create("pause", os.MFD_CLOEXEC)
        os.write(fd, program)
        reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        os.close(fd)  # a file open for writing can't be executed
        process.close_on_exec_from(3)
        _reset_signals()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.execve(reader, ["pause"], {})
