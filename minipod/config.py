"""The configuration file (layer 0). Reads one file, makes nothing. Places and names are in `paths`."""

from __future__ import annotations

import errno
import os
import re
import stat
from ipaddress import ip_address, ip_network

import msgspec

from minipod.errors import UsageError

CONFIG_FILE = "/etc/minipod/config.toml"
STATIC_POD_PATH = "/etc/minipod/pods"  # of the default root alone: two agents cannot share one
_MAX_BYTES = 1 << 20


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`/etc/minipod/config.toml`, every key optional."""

    node_name: str = ""  # empty: the host's name
    ipv4_subnet: str = ""  # empty: the first of the built-in candidates that no route of the host overlaps
    ipv6_subnet: str = ""
    seccomp_default: bool = True  # RuntimeDefault where a pod says nothing (a kubelet's seccompDefault)
    node_labels: dict[str, str] = {}  # besides the node's own: for nodeSelector and nodeAffinity
    node_taints: tuple[str, ...] = ()  # KEY[=VALUE]:EFFECT, as kubectl taint takes them
    max_pods: int = 4000  # a kubelet's maxPods; the addresses of the default subnets are for some more
    pod_pids_limit: int = -1  # a kubelet's podPidsLimit; -1: no limit
    log_max_size: int = 10 * 1024 * 1024  # bytes before a container's log is rotated
    log_max_files: int = 5
    idle_exit_s: float = 30.0  # an agent that started by itself exits after this long without a pod
    max_container_restart_period_s: float = 300.0  # the ceiling of CrashLoopBackOff, 1 to 300
    image_gc_high_threshold_percent: int = 85  # of the disk: above it unused images go; 100: never
    image_gc_low_threshold_percent: int = 80  # until it is reached
    image_directories: tuple[str, ...] = ()  # in which `image: dir:/path` may find root file systems; none: nowhere
    cluster_domain: str = "cluster.local"
    cluster_dns: tuple[str, ...] = ()
    names: bool = True  # pods find each other by name, where cluster_dns names no other DNS
    static_pod_path: str = STATIC_POD_PATH  # a kubelet's staticPodPath; empty: none

    @property
    def answers_names(self) -> bool:
        """Whether this node answers the DNS questions of pods with dnsPolicy ClusterFirst."""
        return self.names and not self.cluster_dns and bool(self.cluster_domain)


_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}", re.ASCII)
_VALUE = re.compile(rf"(?:{_NAME})?", re.ASCII)
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def split_taint(text: str) -> tuple[str, str, str]:
    """Key, value and effect of `KEY[=VALUE]:EFFECT`. Raises ValueError."""
    pair, _, effect = text.rpartition(":")
    key, _, value = pair.partition("=")
    if effect not in _EFFECTS or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
        raise ValueError(f"node_taints: {text!r} must be KEY=VALUE:EFFECT with the effect {', '.join(_EFFECTS)}")
    return key, value, effect


def read_settings(path: str) -> bytes:
    """A file of settings: never waited for, as a FIFO would be, and never more than 1 MiB. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError as error:  # NUL
        raise OSError(errno.EINVAL, str(error), path) from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "is no regular file", path)
        if found.st_size > _MAX_BYTES:
            raise OSError(errno.EFBIG, f"is larger than {_MAX_BYTES >> 20} MiB", path)
        return os.read(fd, _MAX_BYTES)
    finally:
        os.close(fd)


def load_config(path: str | None = None) -> Config:
    """The configuration from `path`, `MINIPOD_CONFIG` or `/etc/minipod/config.toml`; defaults where none exists.

    Raises UsageError with the file, the key and what is wrong.
    """
    chosen = path or os.environ.get("MINIPOD_CONFIG") or CONFIG_FILE
    try:
        data = read_settings(chosen)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and chosen == CONFIG_FILE:
            return Config()
        raise UsageError(f"{chosen}: cannot read the configuration: {(error.strerror or str(error)).lower()}") from None
    try:
        config = msgspec.toml.decode(data, type=Config)
        _check(config)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # TOML's own errors are ValueErrors
        message = str(error)
        raise UsageError(f"{chosen}: {message[:1].lower()}{message[1:]}") from None
    return config


def _check(config: Config) -> None:
    """What the types do not say. Raises ValueError."""
    _check_subnet("ipv4_subnet", config.ipv4_subnet, 4, 29)
    _check_subnet("ipv6_subnet", config.ipv6_subnet, 6, 112)
    for directory in config.image_directories:
        if not directory.startswith("/") or os.path.normpath(directory) in ("/", "//"):
            raise ValueError(f"image_directories: {directory!r} must be an absolute path, and not the whole host")
    if config.static_pod_path and not config.static_pod_path.startswith("/"):
        raise ValueError(f"static_pod_path: {config.static_pod_path!r} must be an absolute path, or empty for none")
    for server in config.cluster_dns:
        try:
            ip_address(server)
        except ValueError:
            raise ValueError(f"cluster_dns: {server!r} is no address") from None
    for label, value in config.node_labels.items():
        if not _KEY.fullmatch(label) or not _VALUE.fullmatch(value):
            raise ValueError(f"node_labels: {label!r} = {value!r} is no label")
    for taint in config.node_taints:
        split_taint(taint)
    for key, least, most in (
        ("pod_pids_limit", -1, 2**22),
        ("max_pods", 1, 10**6),
        ("log_max_size", 4096, 2**40),
        ("log_max_files", 2, 1000),
        ("idle_exit_s", 0, 10**9),
        ("max_container_restart_period_s", 1, 300),
        ("image_gc_high_threshold_percent", 1, 100),
        ("image_gc_low_threshold_percent", 0, 99),
    ):
        value = getattr(config, key)
        if not least <= value <= most or (key == "pod_pids_limit" and value == 0):
            raise ValueError(f"{key}: {value}: must be from {least} to {most}" + (", not 0" if least < 0 else ""))


def _check_subnet(key: str, text: str, version: int, smallest: int) -> None:
    if not text:
        return
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    if network.version != version or network.prefixlen > smallest:
        raise ValueError(f"{key}: {text}: must be an IPv{version} network of at least /{smallest}")
