"""The configuration file (layer 0). Reads one file, makes nothing. Places and names are in `paths`."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

CONFIG_FILE = "/etc/minipod/config.toml"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`/etc/minipod/config.toml`, every key optional."""

    node_name: str = ""  # empty: the host's name
    ipv4_subnet: str = ""  # empty: the first of the built-in candidates that no route of the host overlaps
    ipv6_subnet: str = ""
    seccomp_default: bool = True  # RuntimeDefault where a pod says nothing (a kubelet's seccompDefault)
    pod_pids_limit: int = -1  # a kubelet's podPidsLimit; -1: no limit
    log_max_size: int = 10 * 1024 * 1024  # bytes before a container's log is rotated
    log_max_files: int = 5
    idle_exit_s: float = 30.0  # an agent that started by itself leaves after so long without a pod
    max_container_restart_period_s: float = 300.0  # the ceiling of CrashLoopBackOff, 1 to 300
    cluster_domain: str = "cluster.local"
    cluster_dns: tuple[str, ...] = ()


def load_config(path: str | None = None) -> Config:
    """The configuration from `path`, `MINIPOD_CONFIG` or `/etc/minipod/config.toml`; defaults where none exists.

    Raises msgspec.ValidationError or tomllib.TOMLDecodeError for a file that is wrong.
    """
    chosen = path or os.environ.get("MINIPOD_CONFIG") or CONFIG_FILE
    try:
        data = Path(chosen).read_bytes()
    except FileNotFoundError:
        if chosen != CONFIG_FILE:
            raise
        return Config()
    return msgspec.toml.decode(data, type=Config)
