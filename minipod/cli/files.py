"""Reading manifests (layer 6): files, directories and standard input as texts. Imports next to nothing."""

from __future__ import annotations

import os
import sys

from minipod.cli.trouble import problem
from minipod.errors import UsageError


def read_files(names: list[str], recursive: bool = False) -> list[dict[str, str]]:
    """The texts of the manifests; of a directory every file in it. Raises UsageError with the file and the reason.

    `recursive`: those in the directory's directories too.
    """
    if names.count("-") > 1:
        raise UsageError("standard input can be given only once")
    files = with_folders(names, recursive)
    return [{"name": "<stdin>" if name == "-" else name, "text": read_text(name)} for name in files]


def with_folders(names: list[str], recursive: bool = False) -> list[str]:
    """The files; in the place of a directory its .json, .yaml and .yml files by name, as kubectl reads them.

    A URL is refused: minipod fetches no manifests.
    """
    files: list[str] = []
    for name in names:
        if name.startswith(("http://", "https://")) and not os.path.exists(name):
            raise UsageError(f"{name}: minipod fetches no manifests: curl -fsSL {name} | minipod … -f -")
        if not os.path.isdir(name):
            files += _matching(name)
            continue
        found = _manifests_in(name, recursive)
        if not found:
            hint = "" if recursive else "; -R looks into its directories too"
            raise UsageError(f"{name}: no .json, .yaml or .yml file in this directory{hint}")
        files += found
    return files


def _matching(name: str) -> list[str]:
    """The name, or the files that it means as a quoted pattern (cli-runtime, builder.go: expandIfFilePattern)."""
    if name == "-" or not set("*?[").intersection(name) or os.path.exists(name):
        return [name]
    import glob

    found = sorted(glob.glob(name))
    if not found:
        raise UsageError(f"{name}: no file matches this pattern")
    return found


def _manifests_in(folder: str, recursive: bool) -> list[str]:
    """In the order of filepath.Walk: by name, a directory where its name stands."""
    found: list[str] = []
    for entry in sorted(os.listdir(folder)):
        path = os.path.join(folder, entry)
        if recursive and os.path.isdir(path) and not os.path.islink(path):
            found += _manifests_in(path, recursive)
        elif entry.endswith((".json", ".yaml", ".yml")) and not os.path.isdir(path):
            found.append(path)
    return found


def read_text(name: str) -> str:
    try:
        if name == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(name, "rb") as source:
                data = source.read()
        return data.decode()
    except OSError as error:
        raise UsageError(problem(error, name)) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}") from None
