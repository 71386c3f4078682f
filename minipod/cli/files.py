"""Reading manifests (layer 6): files, folders and standard input as texts. Imports next to nothing."""

from __future__ import annotations

import os
import sys

from minipod.cli.trouble import problem
from minipod.errors import UsageError


def read_files(names: list[str]) -> list[dict[str, str]]:
    """The texts of the manifests; of a folder every file in it. Raises UsageError with the file and the reason."""
    if names.count("-") > 1:
        raise UsageError("standard input can be given only once")
    files = with_folders(names)
    return [{"name": "<stdin>" if name == "-" else name, "text": read_text(name)} for name in files]


def with_folders(names: list[str]) -> list[str]:
    """The files; in the place of a folder its .json, .yaml and .yml files by name, as kubectl reads them."""
    files: list[str] = []
    for name in names:
        if not os.path.isdir(name):
            files.append(name)
            continue
        found = sorted(entry for entry in os.listdir(name) if entry.endswith((".json", ".yaml", ".yml")))
        if not found:
            raise UsageError(f"{name}: no .json, .yaml or .yml file in this folder")
        files += [os.path.join(name, entry) for entry in found]
    return files


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
