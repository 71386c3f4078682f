"""What git runs before a commit: tools that are there, and nothing from the network."""

from __future__ import annotations

import shlex
import subprocess
import sys

import yaml

from tests.conftest import CHECKOUT

CONFIG = CHECKOUT / ".pre-commit-config.yaml"


def test_hooks_are_local_and_call_what_the_environment_has() -> None:
    repositories = yaml.safe_load(CONFIG.read_text())["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    for hook in hooks:
        python, module_option, module, *words = shlex.split(hook["entry"])
        assert (python, module_option) == (".venv/bin/python3", "-m")
        subprocess.run([sys.executable, "-m", module, "--version"], check=True, capture_output=True)
        assert [word for word in words if word.startswith("tests/") and not (CHECKOUT / word).exists()] == []
