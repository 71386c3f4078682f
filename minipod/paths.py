"""Places and names (layer 0): everything that derives from `--run-dir` and `--data-dir`. Makes nothing.

The CLI imports this on every call, so it imports almost nothing itself.
"""

from __future__ import annotations

import os
import zlib

from minipod.errors import UsageError

SOCKET_PATH_MAX = 107  # bytes, without the NUL
_VERSION_AND_PID = "000.00.00-4194304"
NAME_MAX = 255  # bytes of a file's name
DEFAULT_ROOT = "/run/minipod"
DEFAULT_STATE = "/var/lib/minipod"
#: The options and variables that move them. The first name of each is shown; the others are the old ones, which podman
#: and containerd use the other way round.
RUN_DIR_OPTIONS = ("--run-dir", "--root")
DATA_DIR_OPTIONS = ("--data-dir", "--state")
RUN_DIR_VARIABLES = ("MINIPOD_RUN_DIR", "MINIPOD_ROOT")
DATA_DIR_VARIABLES = ("MINIPOD_DATA_DIR", "MINIPOD_STATE")
LOG_FOLDERS = (
    3  # above a log file, no links: pods, the pod's, its container's; a pod may have a hostPath to any of them
)


def large_files() -> str:
    """Where temporary files go that may be as large as an image: /tmp may be in memory, or allow no devices."""
    return os.environ.get("TMPDIR") or "/var/tmp"


def _from_env(names: tuple[str, ...], default: str) -> str:
    return next((value for name in names if (value := os.environ.get(name))), default)


class Paths:
    """`root` dies with the boot, `state` survives it; both absolute."""

    __slots__ = ("root", "state")

    def __init__(self, root: str = DEFAULT_ROOT, state: str = DEFAULT_STATE) -> None:
        self.root = os.path.abspath(root)
        self.state = os.path.abspath(state)

    @classmethod
    def from_env(cls, root: str | None = None, state: str | None = None) -> Paths:
        """From the command line's values, else the environment's, else the defaults."""
        return cls(
            root or _from_env(RUN_DIR_VARIABLES, DEFAULT_ROOT), state or _from_env(DATA_DIR_VARIABLES, DEFAULT_STATE)
        )

    @property
    def is_default(self) -> bool:
        return self.root == DEFAULT_ROOT

    @property
    def instance(self) -> str:
        """The name on everything this instance makes on the host; at most eight characters."""
        return "minipod" if self.is_default else f"mp{zlib.crc32(self.root.encode()) & 0xFFFFFF:06x}"

    def bridge(self, number: int) -> str:
        return f"{self.instance}{number}"

    @property
    def cgroup_root(self) -> str:
        return f"/{self.instance}"

    @property
    def agent_socket(self) -> str:
        return f"{self.root}/agent.sock"

    @property
    def names(self) -> str:
        """The directory of the process that answers the pods' DNS questions."""
        return f"{self.root}/names"

    def check_length(self) -> None:
        """Raises UsageError where the sockets below the root would not fit into sockaddr_un (unix(7))."""
        longest = f"{self.root}/spawners/{_VERSION_AND_PID}.sock"
        if len(longest.encode()) > SOCKET_PATH_MAX:
            most = SOCKET_PATH_MAX - len(longest.encode()) + len(self.root.encode())
            raise UsageError(f"--run-dir {self.root}: is too long for unix sockets: at most {most} bytes")

    @property
    def pod_logs(self) -> str:
        return "/var/log/pods" if self.state == DEFAULT_STATE else f"{self.state}/log/pods"

    def pod_log_directory(self, namespace: str, pod: str, uid: str) -> str:
        """The kubelet's BuildPodLogsDirectory; a name that would not fit into a file's name is cut, the uid stays."""
        name = f"{namespace}_{pod}"[: NAME_MAX - 1 - len(uid)]
        return f"{self.pod_logs}/{name}_{uid}"

    def netns_name(self, namespace: str, pod: str) -> str:
        """The file name under /run/netns: the pod's own name wherever that is unambiguous."""
        name = pod if namespace == "default" else f"{namespace}_{pod}"
        if not self.is_default:
            name = f"{self.instance}-{name}"
        if len(name) <= NAME_MAX:
            return name
        return f"{name[: NAME_MAX - 9]}-{zlib.crc32(name.encode()):08x}"
