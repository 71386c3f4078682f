"""The Debian package in an overlay of this host, as a user has it; built once, which takes a minute without a cache."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.leaks import CGROUP

HERE = Path(__file__).parent
NEEDED = ("dpkg", "dpkg-deb", "strip", "unshare")
LATER = "99.0.0"


def run(*command: str | Path, timeout_s: float = 200) -> str:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, timeout=timeout_s, cwd=CHECKOUT
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """old.deb, the tree's, and new.deb, the same with another version."""
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"no Debian package can be built here: {', '.join(missing)} missing")
    folder = tmp_path_factory.mktemp("deb")
    built = Path(run("scripts/build-deb", "--output", folder).splitlines()[-1])
    built.rename(folder / "old.deb")
    tree = folder / "tree"
    run("dpkg-deb", "--raw-extract", folder / "old.deb", tree)
    (init,) = tree.glob("usr/lib/minipod/lib/*/site-packages/minipod/__init__.py")
    init.write_text(re.sub('__version__ = ".*"', f'__version__ = "{LATER}"', init.read_text()))
    control = tree / "DEBIAN/control"
    control.write_text(re.sub("(?m)^Version: .*", f"Version: {LATER}-1", control.read_text()))
    run("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, folder / "new.deb")
    shutil.rmtree(tree)
    yield folder
    shutil.rmtree(folder)


def test_it_holds_what_a_debian_package_has(packages: Path) -> None:
    names = {line.split()[5][1:] for line in run("dpkg-deb", "--contents", packages / "old.deb").splitlines()}
    units = {path.name for path in (CHECKOUT / "packaging").glob("*.service")}
    assert units
    for name in (
        "/usr/bin/minipod",
        "/etc/minipod/config.toml",
        "/usr/share/man/man1/minipod.1.gz",
        "/usr/share/man/man1/minipod-run.1.gz",
        "/usr/share/bash-completion/completions/minipod",
        "/usr/share/zsh/vendor-completions/_minipod",
        "/usr/share/fish/vendor_completions.d/minipod.fish",
        "/usr/share/doc/minipod/copyright",
        "/usr/share/doc/minipod/examples/localhost.yaml",
        *(f"/usr/lib/systemd/system/{unit}" for unit in units),
    ):
        assert name in names
    assert not [name for name in names if "__pycache__" in name]
    assert run("dpkg-deb", "--info", packages / "old.deb", "conffiles") == "/etc/minipod/config.toml\n"
    for script in ("postinst", "prerm", "postrm"):
        text = run("dpkg-deb", "--info", packages / "old.deb", script)
        assert not re.search("@[A-Z]+@", text), f"{script} has a place that was not filled"
    if shutil.which("lintian"):
        findings = run("lintian", "--allow-root", "--fail-on", "error", "--no-tag-display-limit", packages / "old.deb")
        assert "E:" not in findings


def test_it_is_installed_used_upgraded_removed_and_purged_and_nothing_is_left(packages: Path, tmp_path: Path) -> None:
    if found := [path for path in CGROUP.glob("**/minipod") if len(path.relative_to(CGROUP).parts) <= 2]:
        pytest.skip(f"a minipod of this host runs pods: {found[0]}")
    shutil.copy(HERE / "life.sh", packages)
    inside = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    base = tmp_path / "overlay"
    base.mkdir()
    output = run("env", "-u", "PYTHONPATH", *inside, "sh", HERE / "inside", packages, base, "sh", "/deb/life.sh")
    steps = dict(zip(*[iter(re.split("(?m)^== (.*)\n", output)[1:])] * 2, strict=True))
    version = run(sys.executable, "-c", "import minipod; print(minipod.__version__)").strip()
    assert f"Client Version: {version}\n" in steps["install"]
    assert re.search(r"^localhost +2/2 +Running +0 ", steps["install"], re.MULTILINE)
    assert f"Client Version: {LATER}\nAgent Version: {LATER}\n" in steps["upgrade"]
    assert re.search(r"^localhost +2/2 +Running +0 ", steps["upgrade"], re.MULTILINE)
    assert "end the containers of pod default/localhost (running)\n" in steps["remove"]
    assert steps["left"] == ""
    assert steps["after remove"] == "/etc/minipod/config.toml\n/var/lib/minipod/minipod.db\n"
    assert "localhost" in steps["install again"]
    assert (steps["purge"], steps["end"]) == ("", "")
