"""`minipod image login` and `logout` (layer 6): asks for what is missing on a terminal. Knows no registry."""

from __future__ import annotations

import argparse
import os
import sys

from minipod.errors import UsageError

_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


def login(args: argparse.Namespace) -> None:
    """Raises UsageError, LoginRefusedError, ImageError."""
    from minipod.runtime.images.registry import login as registry
    from minipod.runtime.images.registry.hosts import load_registries

    domain = domain_of(args.registry)
    if args.password is not None and args.password_stdin:
        raise UsageError("image login: --password and --password-stdin cannot be used together")
    username, password = _asked(args)
    registry.check(domain, username, password, load_registries(), dict(os.environ))
    file = registry.keep(domain, username, password, dict(os.environ))
    print(f"logged in to {domain} as {username} ({file})")


def logout(args: argparse.Namespace) -> None:
    """Raises NotFoundError, ImageError."""
    from minipod.runtime.images.registry import login as registry

    domain = domain_of(args.registry)
    print(f"logged out of {domain} ({registry.forget(domain, dict(os.environ))})")


def domain_of(text: str) -> str:
    """`host`, `host:5000`, `https://host/` as the host alone; Docker Hub's names are docker.io. Raises UsageError."""
    domain = text.partition("://")[2].partition("/")[0] if "://" in text else text.rstrip("/")
    if not domain or "/" in domain or domain.startswith("-"):
        raise UsageError(f"image login: {text!r} is no registry: use HOST or HOST:PORT")
    return "docker.io" if domain in _DOCKER_HUB else domain


def _asked(args: argparse.Namespace) -> tuple[str, str]:
    if args.password_stdin:
        if not args.username:
            raise UsageError("image login: --password-stdin goes with --username")
        return args.username, sys.stdin.read().rstrip("\r\n")
    if (args.username is None or args.password is None) and not sys.stdin.isatty():
        raise UsageError("image login: no terminal to ask on: give --username and --password-stdin")
    username = args.username if args.username is not None else input("Username: ")
    if args.password is not None:
        return username, args.password
    from getpass import getpass

    return username, getpass("Password: ")
