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
folders = sorted({path.parent for path in SHARE.rglob("*") if path.is_file()})
setup(
    data_files=[
        (f"share/{folder.relative_to(SHARE)}", sorted(str(f.relative_to(CHECKOUT)) for f in folder.iterdir() if f.is_file()))
        for folder in folders
    ]
)
