"""A directory's limit on disk (layer 2) by project quota, where the file system has it: an emptyDir with sizeLimit.

Which project a directory has is kept by the file system, in the directory; which projects are free it knows as well. So
nothing about it is stored here, nothing has to be agreed on with other instances, and nothing is lost by a crash.
"""

from __future__ import annotations

import os

from minipod.kernel import quota
from minipod.plan.operation import HostOperation

FIRST_PROJECT = 0x6D70_0000  # far above what people and other programs (a kubelet: 1048577 on) choose
LAST_PROJECT = FIRST_PROJECT + 0xFFFF
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LimitFolder(HostOperation, frozen=True):
    """Limit what a new, empty directory may hold; without project quota it is unchanged, and its usage is measured."""

    path: str
    limit_bytes: int

    def describe(self) -> str:
        return f"quotactl {self.path}: at most {self.limit_bytes} bytes, where the file system limits projects"

    def execute(self) -> None:
        folder_fd = os.open(self.path, _FOLDER)
        try:
            if quota.enforces_projects(folder_fd):
                project = quota.project_of(folder_fd)
                if not _is_ours(project):
                    project = _take_project(folder_fd)
                quota.limit_project(folder_fd, project, self.limit_bytes)
        finally:
            os.close(folder_fd)

    def undo(self) -> None:
        """The project is free for others again as soon as the directory is removed."""
        try:
            folder_fd = os.open(self.path, _FOLDER)
        except FileNotFoundError:
            return
        try:
            if quota.enforces_projects(folder_fd) and _is_ours(project := quota.project_of(folder_fd)):
                quota.limit_project(folder_fd, project, 0)
        finally:
            os.close(folder_fd)


def _is_ours(project: int) -> bool:
    return FIRST_PROJECT <= project <= LAST_PROJECT


def _take_project(folder_fd: int) -> int:
    """A project that has this directory and nothing else. Of two that take the same at once, at least one sees it."""
    for project in range(FIRST_PROJECT, LAST_PROJECT + 1):
        if quota.project_inodes(folder_fd, project):
            continue
        quota.set_project(folder_fd, project)
        if quota.project_inodes(folder_fd, project) == 1:
            return project
    raise OSError("project quota: every project is taken")
