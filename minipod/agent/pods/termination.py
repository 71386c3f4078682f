"""Reads a container's termination message from its file or its log (layer 5).

Rules: the kubelet's, kuberuntime_container.go getTerminationMessage.
"""

from __future__ import annotations

import os

from minipod.agent.pods import logtail
from minipod.agent.specs import container_spec
from minipod.api.types import Pod
from minipod.errors import NotFoundError
from minipod.kernel.regular import open_regular, opened_folder
from minipod.runtime.status import ContainerStatus

MAX_MESSAGE_BYTES = 4096
MAX_LOG_BYTES = 2048
MAX_LOG_LINES = 80


def message_in_file(pod: Pod, status: ContainerStatus) -> str | None:
    """The end of its message file, which is in memory; None where the log has to be read (`message_of`)."""
    text = _file_text(status.config.termination_message_host_path)
    if not text and status.exit_code != 0 and _falls_back(pod, status.config.name):
        return None
    return _joined(text, status)


async def message_of(pod: Pod, status: ContainerStatus) -> str:
    """The end of its message file; without one, for a failed container with that policy, the end of its log.

    A log whose file system does not answer is left out.
    """
    message = message_in_file(pod, status)
    if message is not None:
        return message
    return _joined(await logtail.read(logtail.tail_text, status.log_path, MAX_LOG_LINES, MAX_LOG_BYTES) or "", status)


def _joined(text: str, status: ContainerStatus) -> str:
    if status.message and text:
        return f"{text}: {status.message}"
    return text or status.message


def _falls_back(pod: Pod, name: str) -> bool:
    try:
        return container_spec(pod, name).termination_message_policy == "FallbackToLogsOnError"
    except NotFoundError:
        return False


def _file_text(path: str) -> str:
    """The file's last MAX_MESSAGE_BYTES (pkg/util/tail ReadAtMost); `""` where there is none."""
    folder, name = os.path.split(path)
    try:
        with (
            opened_folder(folder, 0) as folder_fd,
            open(open_regular(name, os.O_RDONLY, folder_fd, path), "rb") as file,
        ):
            file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_MESSAGE_BYTES))
            return file.read(MAX_MESSAGE_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
