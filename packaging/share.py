"""What is installed beside the program, in one directory as below /usr/share: `python packaging/share.py FOLDER`.

Man pages, completions and examples: of the wheel (setup.py) and of the Debian package (packaging/debian/build.py).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
COMPLETIONS = {
    "bash": "bash-completion/completions/minipod",
    "zsh": "zsh/site-functions/_minipod",
    "fish": "fish/vendor_completions.d/minipod.fish",
}
EXAMPLES = "minipod/examples"


def write_share(folder: Path, python: str = sys.executable) -> None:
    """`python` has minipod's dependencies: the pages and scripts are made from its parsers."""
    shutil.rmtree(folder, ignore_errors=True)
    _minipod(python, "minipod.cli.man", str(folder / "man/man1"))
    for shell, name in COMPLETIONS.items():
        place = folder / name
        place.parent.mkdir(parents=True)
        place.write_text(_minipod(python, "minipod", "completion", shell), encoding="utf-8")
    shutil.copytree(CHECKOUT / "examples", folder / EXAMPLES)


def _minipod(python: str, module: str, *arguments: str) -> str:
    command = [python, "-m", module, *arguments]
    return subprocess.run(command, cwd=CHECKOUT, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    write_share(Path(sys.argv[1]))
