"""The configuration file and the places: what is wrong is named before anything starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minipod.config import CONFIG_FILE, Config, load_config
from minipod.errors import UsageError
from minipod.paths import NAME_MAX, SOCKET_PATH_MAX, Paths


def load(folder: Path, text: str) -> Config:
    path = folder / "config.toml"
    path.write_text(text)
    return load_config(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense = 1", "unknown field `nonsense`"),
        ("ipv4_subnet =", "invalid value"),
        ('log_max_size = "10Mi"', "expected `int`, got `str` - at `$.log_max_size`"),
        ("log_max_size = 0", "log_max_size: 0: must be from 4096"),
        ("log_max_files = 1", "log_max_files: 1: must be from 2"),
        ("pod_pids_limit = 0", "pod_pids_limit: 0: must be from -1 to 4194304, not 0"),
        ("idle_exit_s = -4", "idle_exit_s: -4.0"),
        ("max_container_restart_period_s = 301", "must be from 1 to 300"),
        *(
            (f'image_directories = ["/srv", "{path}"]', f"image_directories: '{path}' must be an absolute path")
            for path in ("", "roots", "/", "//", "/srv/..")
        ),
        ('cluster_dns = ["dns.local"]', "cluster_dns: 'dns.local' is no address"),
        *(
            (f'ipv4_subnet = "{subnet}"', "ipv4_subnet: ")
            for subnet in ("10.1.0.0", "10.1.0.1/24", "10.1.0.0/30", "10.0.0.0/33", "fd00::/64", "nonsense")
        ),
        ('ipv6_subnet = "10.1.0.0/24"', "ipv6_subnet: 10.1.0.0/24: must be an IPv6 network of at least /112"),
    ],
)
def test_a_wrong_value_is_reported_with_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    assert str(caught.value).lower().startswith(f"{tmp_path}/config.toml: ".lower())
    assert message.lower() in str(caught.value).lower()


def test_a_right_file_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, 'ipv4_subnet = "10.9.0.0/24"\nipv6_subnet = "fd00:9::/64"\npod_pids_limit = -1\n')
    assert config == Config(ipv4_subnet="10.9.0.0/24", ipv6_subnet="fd00:9::/64")


def test_a_file_that_was_asked_for_has_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"nothing\.toml: cannot read the configuration: no such file"):
        load_config(f"{tmp_path}/nothing.toml")
    with pytest.raises(UsageError, match="is no regular file"):
        load_config(str(tmp_path))
    monkeypatch.setattr("minipod.config.CONFIG_FILE", f"{tmp_path}/nothing.toml")
    monkeypatch.delenv("MINIPOD_CONFIG", raising=False)
    assert load_config() == Config()
    assert CONFIG_FILE == "/etc/minipod/config.toml"


def test_a_root_that_is_too_long_for_its_sockets_is_reported_with_the_length_that_is_not() -> None:
    with pytest.raises(UsageError, match=r"too long for unix sockets: at most [0-9]+ bytes") as caught:
        Paths("/" + "r" * 100).check_length()
    most = int(str(caught.value).split()[-2])
    Paths("/" + "r" * (most - 1)).check_length()
    with pytest.raises(UsageError):
        Paths("/" + "r" * most).check_length()
    assert len(f"{Paths('/' + 'r' * (most - 1)).agent_socket}") < SOCKET_PATH_MAX


def test_names_of_any_length_fit_into_file_names_and_stay_different() -> None:
    paths, uid, long = Paths("/r"), "00000000-0000-4000-8000-000000000000", "n" * 253
    for folder in (paths.pod_log_directory("default", long, uid), paths.pod_log_directory("k" * 63, long, uid)):
        name = folder.rpartition("/")[2]
        assert len(name) <= NAME_MAX
        assert name.rpartition("_")[2] == uid
    names = {paths.netns_name("default", long), paths.netns_name("k" * 63, long), paths.netns_name("k" * 62, long)}
    assert len(names) == 3
    assert max(map(len, names)) <= NAME_MAX
    assert Paths().netns_name("default", long) == long
    assert Paths().pod_log_directory("shop", "web", "U") == "/var/log/pods/shop_web_U"


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "large", "nested", "nul"])
def test_what_is_no_configuration_file_is_an_error_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "config.toml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 1 << 40)
    elif kind == "nested":
        path.write_text("a = " + "[" * 100_000)
    with pytest.raises(UsageError, match=r"config\.toml"):
        load_config(f"{path}\0" if kind == "nul" else str(path))
