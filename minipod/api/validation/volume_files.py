"""Rules for the files that volumes write: keys to paths, downward API files, their modes (layer 1, pure)."""

from __future__ import annotations

from minipod.api.types import DownwardAPIVolumeFile, KeyToPath
from minipod.api.validation.check import Check, Path
from minipod.api.validation.env import VOLUME_FIELDS, field_selector, resource_selector
from minipod.api.validation.formats import file_path


def file_mode(check: Check, mode: int | None, *path: object) -> None:
    if mode is not None and not 0 <= mode <= 0o777:
        check.invalid(*path, value=mode, why="must be a file mode from 0 to 0777 (octal), which is 511")


def items(check: Check, entries: tuple[KeyToPath, ...], path: Path) -> None:
    for index, entry in enumerate(entries):
        at = (path, index)
        check.required(entry.key, at, "key")
        check.required(entry.path, at, "path")
        check.format(entry.path, file_path, at, "path")
        file_mode(check, entry.mode, at, "mode")


def downward_file(check: Check, file: DownwardAPIVolumeFile, path: Path) -> None:
    """A file of the downward API; the server names the volume's path, not the file's."""
    check.required(file.path, path, "path")
    check.format(file.path, file_path, path, "path")
    if file.field_ref is not None:
        field_selector(check, file.field_ref, VOLUME_FIELDS, (path, "fieldRef"))
        if file.resource_field_ref is not None:
            check.invalid(path, value=file, why="must have only one of fieldRef and resourceFieldRef")
    elif file.resource_field_ref is not None:
        resource_selector(check, file.resource_field_ref, (path, "resourceFieldRef"), container_required=True)
    else:
        check.missing(path, why="give fieldRef or resourceFieldRef")
    file_mode(check, file.mode, path, "mode")
