"""Adds to the wheel what pyproject.toml cannot name: man pages and completions, made from the program, and examples."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import setup

CHECKOUT = Path(__file__).resolve().parent
sys.path.insert(0, str(CHECKOUT / "packaging"))

from share import write_share  # noqa: E402

SHARE = CHECKOUT / "build" / "share"
write_share(SHARE)
files: dict[str, list[str]] = {}
for path in sorted(SHARE.rglob("*")):
    if path.is_file():
        files.setdefault(f"share/{path.parent.relative_to(SHARE)}", []).append(str(path.relative_to(CHECKOUT)))
setup(data_files=list(files.items()))
