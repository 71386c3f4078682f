"""State folders as released versions left them, as text: `tests/data/releases/<version>/`.

`minipod.sql` is the database, `root/` and `state/` are the files of both folders. In all of them stand placeholders
for what differs between hosts (`PLACEHOLDERS`). `python3 -m tests.releases` makes such a folder.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from minipod.paths import Paths

FOLDER = Path(__file__).parents[1] / "data" / "releases"
VERSIONS = tuple(sorted(entry.name for entry in FOLDER.iterdir())) if FOLDER.exists() else ()
BOOT = Path("/proc/sys/kernel/random/boot_id")
DATABASE = "minipod.sql"
#: no host has this name by chance
CONFIGURATION = 'node_name = "node-of-a-release"\n'


def values(paths: Paths, boot: str | None = None) -> dict[str, str]:
    """Placeholder → what stands there on this host with these folders."""
    return {
        "@STATE@": paths.state,
        "@ROOT@": paths.root,
        "@INSTANCE@": paths.instance,
        "@BOOT@": boot or BOOT.read_text(encoding="ascii").strip(),
    }


def frozen(text: str, known: dict[str, str]) -> str:
    for placeholder, value in known.items():
        text = text.replace(value, placeholder)
    return text


def thawed(text: str, known: dict[str, str]) -> str:
    for placeholder, value in known.items():
        text = text.replace(placeholder, value)
    return text


def thaw(version: str, paths: Paths, boot: str | None = None, without: tuple[str, ...] = ()) -> None:
    """Fills both folders with what an agent of that version left when it was killed, all its pods' processes with it.

    `boot`: the boot id in it; this one's by default, so that nothing counts as left by an earlier boot.
    `without`: of `root` and `state/images`, what is left out.
    """
    source, known = FOLDER / version, values(paths, boot)
    parts = {"root": paths.root, "state/images": f"{paths.state}/images"}
    for part, target in parts.items():
        if part in without:
            continue
        for file in sorted((source / part).rglob("*")):
            place = Path(target, file.relative_to(source / part))
            if file.is_file():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(thawed(file.read_text(encoding="utf-8"), known), encoding="utf-8")
                shutil.copymode(file, place)
    database = sqlite3.connect(Path(paths.state, "minipod.db"))
    try:
        database.executescript(thawed((source / DATABASE).read_text(encoding="utf-8"), known))
    finally:
        database.close()
