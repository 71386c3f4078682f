"""A container's termination message (layer 5): read from what it left on the host. What of it counts is decided here
by the kubelet's rules (kuberuntime_container.go getTerminationMessage); who hears of it is not.
"""

from __future__ import annotations

import os

from minipod.agent.pods import logtail
from minipod.agent.specs import container_spec
from minipod.api.types import Pod
from minipod.errors import NotFoundError
from minipod.kernel.path import read_regular
from minipod.runtime.status import ContainerStatus

MAX_MESSAGE_BYTES = 4096
MAX_LOG_BYTES = 2048
MAX_LOG_LINES = 80


def message_of(pod: Pod, status: ContainerStatus) -> str:
    """The file's beginning; of a failed container without one the log's end, where its policy says so."""
    own = status.message
    text = _file_text(status.config.termination_message_host_path)
    if not text and status.exit_code != 0 and _falls_back(pod, status.config.name):
        text = logtail.tail_text(status.log_path, MAX_LOG_LINES, MAX_LOG_BYTES)
    if own and text:
        return f"{text}: {own}"
    return text or own


def _falls_back(pod: Pod, name: str) -> bool:
    try:
        return container_spec(pod, name).termination_message_policy == "FallbackToLogsOnError"
    except NotFoundError:
        return False


def _file_text(path: str) -> str:
    """Empty where there is none. The container wrote the file: only a regular one is read, and not much of it."""
    if not path:
        return ""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    return read_regular(fd, MAX_MESSAGE_BYTES)
