"""Builds the Debian package of this tree for the Debian it runs on: docs/decisions/107. `scripts/build-deb --help`.

Needs Debian's python3 with python3-venv, what python-prctl is compiled with (scripts/setup), dpkg-deb, and PyPI.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
from email.utils import formatdate
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))

from share import write_share  # noqa: E402

LIBRARY = "usr/lib/minipod"
UNIT_SUFFIXES = (".service", ".socket", ".path", ".timer", ".target", ".slice")
UNIT_FOLDER = "usr/lib/systemd/system"
#: where the units look for the program before it is a package
LOCAL_PROGRAM, PROGRAM = "/usr/local/bin/minipod", "/usr/bin/minipod"
#: left to the administrator: docs/systemd.md
OPTIONAL = ("minipod.socket",)
#: stopped at removal: the pods while their agent still runs, then what could start an agent again
STOPPED = ("minipod@*.service", "minipod-pods.service", "minipod.socket", "minipod.service")
WRAPPER = """#!/usr/lib/minipod/bin/python3 -I
import sys

from minipod.cli.main import entry

sys.exit(entry())
"""
TOOLS = ("dpkg", "dpkg-deb", "strip")
#: an environment has these for itself
NO_PART = ("bin", "__pycache__")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/build-deb", description="Build minipod's Debian package.")
    parser.add_argument("--output", type=Path, default=CHECKOUT / "build", metavar="FOLDER", help="where it goes")
    args = parser.parse_args()
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        print(f"build-deb: {' '.join(missing)}: not there: apt-get install dpkg binutils", file=sys.stderr)
        return 3
    args.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="minipod-deb-", dir=args.output) as folder:
        print(build(Path(folder), args.output))
    return 0


def build(work: Path, output: Path) -> Path:
    """The finished package."""
    root = work / "root"
    environment(work, root)
    share(root, work / "venv/bin/python3")
    units = install_units(root)
    configuration(root)
    control(root, units)
    name = f"minipod_{deb_version()}_{architecture()}.deb"
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    run("dpkg-deb", "--root-owner-group", "-Zxz", "--build", root, output / name)
    return output / name


def environment(work: Path, root: Path) -> None:
    """What `python3 -m venv` makes, without pip; the packages in the versions that the tests run with."""
    library = root / LIBRARY
    site = library / f"lib/python{python()}/site-packages"
    (library / "bin").mkdir(parents=True)
    (library / "bin/python3").symlink_to(f"../../../bin/python{python()}")
    (library / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    run(sys.executable, "-m", "venv", work / "venv")
    builder = work / "venv/bin/python3"
    pip = [builder, "-I", "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "install"]
    versions = ["--constraint", CHECKOUT / "scripts/constraints.txt"]
    run(*pip, *versions, "--no-compile", *dependencies())
    packages = Path(capture(builder, "-I", "-c", "import sysconfig; print(sysconfig.get_path('platlib'))"))
    tools = re.compile(r"(pip|setuptools|pkg_resources|_distutils_hack|distutils-precedence|wheel)([-.].*)?")
    unwanted = {path.name for path in packages.iterdir() if path.name in NO_PART or tools.fullmatch(path.name)}
    ignored = shutil.ignore_patterns("__pycache__", "*.c", "*.h", "*.pyi", "*.pyx", "*.pxd", "tests")
    shutil.copytree(packages, site, ignore=lambda folder, names: {*ignored(folder, names), *unwanted & {*names}})
    shutil.copytree(CHECKOUT / "minipod", site / "minipod", ignore=shutil.ignore_patterns("__pycache__"))
    for path in site.rglob("*.so*"):
        run("strip", "--strip-unneeded", path)
    program = root / PROGRAM[1:]
    program.parent.mkdir(parents=True)
    program.write_text(WRAPPER)
    program.chmod(0o755)


def share(root: Path, builder: Path) -> None:
    folder = root / "usr/share"
    write_share(folder, str(builder))
    vendored = folder / "zsh/vendor-completions"  # where Debian's zsh looks
    (folder / "zsh/site-functions").rename(vendored)
    (folder / "doc/minipod").mkdir(parents=True)
    (folder / "minipod/examples").rename(folder / "doc/minipod/examples")
    (folder / "minipod").rmdir()
    for page in (folder / "man/man1").iterdir():
        packed(page)
    place = folder / "doc/minipod"
    shutil.copytree(CHECKOUT / "docs", place / "docs", ignore=shutil.ignore_patterns("decisions"))
    shutil.copy(CHECKOUT / "README.md", place)
    shutil.copy(HERE / "copyright", place)
    shutil.copy(CHECKOUT / "CHANGELOG.md", place / "changelog")
    packed(place / "changelog")
    (place / "changelog.Debian").write_text(
        f"minipod ({deb_version()}) {codename()}; urgency=medium\n\n  * Built from the tree.\n\n"
        f" -- minipod maintainers <maintainers@minipod.invalid>  {formatdate(epoch())}\n"
    )
    packed(place / "changelog.Debian")
    overrides = folder / "lintian/overrides"
    overrides.mkdir(parents=True)
    shutil.copy(HERE / "lintian-overrides", overrides / "minipod")


def packed(path: Path) -> None:
    data = gzip.compress(path.read_bytes(), mtime=0)
    path.unlink()
    path.with_name(f"{path.name}.gz").write_bytes(data)


def install_units(root: Path) -> list[str]:
    """The names of those that are enabled."""
    folder = root / UNIT_FOLDER
    folder.mkdir(parents=True)
    enabled = []
    for unit in sorted(HERE.parent.iterdir()):
        if unit.suffix in UNIT_SUFFIXES:
            text = unit.read_text().replace(LOCAL_PROGRAM, PROGRAM)
            (folder / unit.name).write_text(text)
            if "\n[Install]\n" in text and "@" not in unit.name and unit.name not in OPTIONAL:
                enabled.append(unit.name)
    return enabled


def configuration(root: Path) -> None:
    folder = root / "etc/minipod"
    folder.mkdir(parents=True)
    shutil.copy(HERE.parent / "config.toml", folder)


def control(root: Path, units: list[str]) -> None:
    folder = root / "DEBIAN"
    folder.mkdir()
    size_bytes = sum(path.lstat().st_size for path in root.rglob("*") if not path.is_dir())
    major, minor = python().split(".")
    values = {
        "VERSION": deb_version(),
        "ARCHITECTURE": architecture(),
        "SIZE": str(size_bytes // 1024),
        "PYTHON": python(),
        "NEXT_PYTHON": f"{major}.{int(minor) + 1}",
        "UNITS": " ".join(units),
        "STOPPED": " ".join(f"'{unit}'" for unit in STOPPED),
    }
    for name in ("control", "postinst", "prerm", "postrm"):
        source = HERE / f"{name}.in" if name == "control" else HERE / name
        text = re.sub("@([A-Z_]+)@", lambda match: values[match[1]], source.read_text())
        (folder / name).write_text(text)
        (folder / name).chmod(0o644 if name == "control" else 0o755)
    (folder / "conffiles").write_text("/etc/minipod/config.toml\n")


# -- what there is


def python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def dependencies() -> list[str]:
    import tomllib

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    found: list[str] = project["dependencies"] + project["optional-dependencies"]["api"]
    return found


def deb_version() -> str:
    """`0.2.0-1~deb12`: of two Debians' the later one's is newer, so that an upgrade of the host takes it."""
    text = (CHECKOUT / "minipod/__init__.py").read_text()
    match = re.search(r'^__version__ = "(.*)"$', text, re.MULTILINE)
    assert match is not None
    return f"{match[1]}-1~deb{release().get('VERSION_ID', '0')}"


def codename() -> str:
    return release().get("VERSION_CODENAME", "unstable")


def release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text().splitlines()
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def architecture() -> str:
    return capture("dpkg", "--print-architecture")


def epoch() -> int:
    """When the tree was changed last: the same tree gives the same package."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        asked = subprocess.run(["git", "-C", CHECKOUT, "log", "-1", "--format=%ct"], capture_output=True, text=True)
        given = asked.stdout.strip() or "0"
    return int(given)


def run(*command: str | Path) -> None:
    """Its output is shown only where it fails."""
    done = subprocess.run(
        list(map(str, command)), check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"SOURCE_DATE_EPOCH": str(epoch())}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(f"build-deb: {' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}")


def capture(*command: str | Path) -> str:
    return subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
