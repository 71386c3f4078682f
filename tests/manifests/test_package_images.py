"""nginx, redis, PostgreSQL and Python from Debian's packages: built, pushed, pulled by their pods, and used.

Each example says in its second line how its image is built. Here one root folder is made for all of them, as that is
what takes time; each image has the settings of its example. `MINIPOD_TEST_DEBIAN` names a folder that is there already.
"""

from __future__ import annotations

import argparse
import os
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from minipod.cli.verbs import image
from minipod.runtime.images import debian
from minipod.runtime.images.store import ImageStore
from tests import real_registry
from tests.conftest import CHECKOUT
from tests.node_fixtures import Node
from tests.real_registry import RealRegistry

NAMES = ("nginx", "redis", "postgres", "python")
IN_EXAMPLES = "localhost:5000"


def example(name: str) -> Path:
    return CHECKOUT / "examples" / f"{name}.yaml"


def build_command(name: str) -> argparse.Namespace:
    """What the example's second line says, read as the program reads it."""
    line = example(name).read_text().splitlines()[1].removeprefix("#")
    words = shlex.split(line)
    assert words[:3] == ["sudo", "scripts/minipod", "image"]
    parser = argparse.ArgumentParser()
    image.configure(parser)
    return parser.parse_args(words[3:])


def install(root: str | Path) -> None:
    """A Debian with the packages of all examples, where it is not there."""
    if not Path(root).exists():
        packages = [package for name in NAMES for package in build_command(name).packages.split(",")]
        debian.install(Path(root), packages, debian.host_suite(), debian.MIRROR)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry with a password that holds the images of all examples."""
    base = tmp_path_factory.mktemp("packages")
    with real_registry.running(base / "registry", "htpasswd") as server:
        root = Path(os.environ.get("MINIPOD_TEST_DEBIAN", base / "root"))
        install(root)
        layer = debian.pack(root, base / "layout")
        for name in NAMES:
            args = build_command(name)
            debian.write_image(base / "layout", args.name, [layer], debian.settings(args.change))
            server.push(f"oci:{base}/layout:{args.name}", args.name.partition("/")[2])
        yield server


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by the tests, as most is in one layer."""
    return tmp_path_factory.mktemp("store") / "images"


@pytest.fixture
def pods(node: Node, registry: RealRegistry, store: Path) -> Node:
    os.unlink(f"{node.paths.state}/images")
    store.mkdir(exist_ok=True)
    os.symlink(store, f"{node.paths.state}/images")
    node.env["REGISTRY_AUTH_FILE"] = str(registry.auth_file)
    return node


def manifest(registry: RealRegistry, name: str, tmp_path: Path) -> Path:
    path = tmp_path / f"{name}.yaml"
    path.write_text(example(name).read_text().replace(IN_EXAMPLES, registry.host))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_the_command_of_an_example_builds_the_image_that_it_uses(name: str) -> None:
    pods = [one for one in yaml.safe_load_all(example(name).read_text()) if one["kind"] == "Pod"]
    assert {container["image"] for pod in pods for container in pod["spec"]["containers"]} == {build_command(name).name}


def test_python_runs_a_program_as_the_user_of_its_image(pods: Node, registry: RealRegistry, tmp_path: Path) -> None:
    output = pods("run", manifest(registry, "python", tmp_path)).stdout
    assert "Python 3." in output
    assert "in the pod python, user 65534" in output
    image = ImageStore(pods.paths).resolve(f"{registry.host}/python:debian")
    assert image is not None
    assert image.digest == registry.digest("python:debian")


def test_nginx_is_ready_when_it_answers(pods: Node, registry: RealRegistry, tmp_path: Path) -> None:
    pods("run", "-d", "--until", "ready", manifest(registry, "nginx", tmp_path))
    assert b"Welcome to nginx" in ask(address(pods, "nginx"), 80, b"GET / HTTP/1.0\r\n\r\n")
    pods("delete", "pod", "nginx")


def test_redis_keeps_numbers_on_its_volume(pods: Node, registry: RealRegistry, tmp_path: Path) -> None:
    pods("run", "-d", "--until", "ready", manifest(registry, "redis", tmp_path))
    assert ask(address(pods, "redis"), 6379, b"INCR visits\r\nQUIT\r\n").startswith(b":1\r\n")
    assert pods("exec", "redis", "--", "redis-cli", "incr", "visits").stdout == "2\n"
    assert pods("exec", "redis", "--", "redis-cli", "save").stdout == "OK\n"
    assert pods("exec", "redis", "--", "ls", "/data").stdout == "dump.rdb\n"
    assert pods("exec", "redis", "--", "id", "-un").stdout == "redis\n"
    pods("delete", "pod", "redis")


def test_postgresql_finds_its_tables_again(pods: Node, registry: RealRegistry, tmp_path: Path) -> None:
    path = manifest(registry, "postgres", tmp_path)

    def sql(text: str) -> str:
        return pods("exec", "postgres", "--", "psql", "-h", "/tmp", "-Atc", text).stdout

    pods("run", "-d", "--until", "ready", path)
    sql("create table t (n int); insert into t values (42)")
    pods("delete", "pod", "postgres")
    pods("run", "-d", "--until", "ready", path)
    assert sql("select n from t") == "42\n"
    with_password = f"PGPASSWORD='change me' psql -h {address(pods, 'postgres')} -Atc 'select current_user'"
    assert pods("exec", "postgres", "--", "sh", "-c", with_password).stdout == "postgres\n"
    pods("delete", "pod", "postgres")
    pods("delete", "pvc", "postgres-data")


def address(node: Node, name: str) -> str:
    status = node.pod(name)["status"]
    assert isinstance(status, dict)
    return str(status["podIP"])


def ask(host: str, port: int, words: bytes) -> bytes:
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.sendall(words)
        with connection.makefile("rb") as stream:
            return stream.read()
