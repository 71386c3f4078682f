"""What is packaged beside the program: man pages, the configuration file."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib

import msgspec

from minipod.cli.commands import VERBS
from minipod.cli.man import pages
from minipod.config import Config
from tests.conftest import CHECKOUT


def test_there_is_a_man_page_for_every_command_with_all_of_its_options() -> None:
    found = pages()
    assert found.keys() == {"minipod.1", *(f"minipod-{verb}.1" for verb in VERBS)}
    assert r"\fB\-\-grace\-period\fR \fIN\fR" in found["minipod-delete.1"]
    assert ".SS image pull IMAGE" in found["minipod-image.1"].replace("minipod image", "image")
    for verb in VERBS:
        assert rf"\fBminipod\-{verb.replace('-', chr(92) + '-')}\fR(1)" in found["minipod.1"]


def test_groff_has_nothing_to_say_about_the_pages() -> None:
    if shutil.which("groff") is None:
        return
    text = "\n".join(pages().values())
    assert not re.search(r"^'", text, re.MULTILINE), "groff takes the line for a request"
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-K", "utf-8", "-ww", "-z"], input=text, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def test_the_packaged_configuration_names_every_key_with_its_default() -> None:
    text = (CHECKOUT / "packaging" / "config.toml").read_text()
    assert tomllib.loads(text) == {}
    everything = re.sub(r"(?m)^#(?=[a-z0-9_]+ = )", "", text)
    assert tomllib.loads(everything).keys() == set(Config.__struct_fields__)
    assert msgspec.toml.decode(everything, type=Config) == Config()
