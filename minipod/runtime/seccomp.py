"""Compiled seccomp filters (layer 3): profile -> BPF program, compiled once and kept in `<data-dir>/cache`.

RuntimeDefault is compiled here, a Localhost profile by a process of its own: libseccomp may take hours for comparisons
that fit on one page. Installing the filter is the child's work: `plan.process.identity.InstallSeccompFilter`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path

import msgspec

from minipod.config import read_settings
from minipod.errors import ContainerError
from minipod.kernel.classic_bpf import INSTRUCTION
from minipod.paths import Paths
from minipod.plan.process.seccomp_json import parse
from minipod.plan.process.seccomp_profile import CONFIG_ERROR, Profile, runtime_default
from minipod.runtime.images.digest import sha256_hex
from minipod.runtime.seccomp_compile import CPU_LIMIT_S, FAILURES, compile_profile

_PROGRAMS_MAX = 64  # kept in memory; some KiB each
_COMPILER = 3  # part of the cache's key: raise it when the same profile is to become another program
_PROGRAM = "import sys; sys.path[:0] = sys.argv[1:]; from minipod.runtime.seccomp_compile import main; main()"


def compiled_filter(profile: str, capabilities: frozenset[str], paths: Paths) -> bytes:
    """The BPF program (struct sock_filter …) of `profile`, empty for Unconfined.

    `profile`: RuntimeDefault, Unconfined, or the absolute path of a Localhost profile. `capabilities` are the
    container's, without CAP_. Raises ContainerError for a profile that is missing or wrong.
    """
    if profile == "Unconfined":
        return b""
    machine = os.uname().machine
    if profile == "RuntimeDefault":
        return _of_runtime_default(machine, capabilities, paths.state)
    return _cached(parse(_text(profile, paths.state), profile, machine, capabilities), profile, paths.state)


def _text(path: str, state: str) -> bytes:
    try:
        return read_settings(path)
    except FileNotFoundError as error:
        why = f"{error.strerror}: localhostProfile is a path below {state}/seccomp"
    except OSError as error:
        why = error.strerror or "cannot be read"
    raise ContainerError(f"seccomp profile {path}: {why}", CONFIG_ERROR)


@lru_cache(maxsize=64)
def _of_runtime_default(machine: str, capabilities: frozenset[str], state: str) -> bytes:
    return _cached(runtime_default(machine, capabilities), "RuntimeDefault", state)


def _cached(profile: Profile, name: str, state: str) -> bytes:
    """The program from the caches, in memory and on disk, compiled and put there if need be."""
    key = sha256_hex(msgspec.json.encode((_COMPILER, profile)))
    path = f"{state}/cache/seccomp-{key[:32]}.bpf"
    program = _programs.get(path)
    if program is None:
        program = _cached_on_disk(profile, name, path)
        if len(_programs) >= _PROGRAMS_MAX:
            _programs.clear()
        _programs[path] = program
    return program


_programs: dict[str, bytes] = {}  # by the path on disk


def _cached_on_disk(profile: Profile, name: str, path: str) -> bytes:
    try:
        program = Path(path).read_bytes()
        if program and len(program) % INSTRUCTION.size == 0:
            return program
    except OSError:  # not there yet, or `plan` without root
        pass
    try:
        program = compile_profile(profile) if name == "RuntimeDefault" else _compiled_apart(profile)
    except FAILURES as error:
        raise ContainerError(f"seccomp profile {name}: cannot compile it: {error}", CONFIG_ERROR) from error
    _keep(path, program)
    return program


def _compiled_apart(profile: Profile) -> bytes:
    """As `compile_profile`, with bounds on time and memory. Raises ValueError."""
    places = [place for place in sys.path if place]
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _PROGRAM, *places]
    text = msgspec.json.encode(profile)
    done = subprocess.run(command, input=text, capture_output=True, env={}, cwd="/", check=False)
    if -done.returncode in (signal.SIGXCPU, signal.SIGKILL):
        raise ValueError(f"it takes more than {CPU_LIMIT_S} s: use fewer comparisons")
    if done.returncode != 0:
        raise ValueError(done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or "libseccomp failed")
    return done.stdout


def _keep(path: str, program: bytes) -> None:
    """A cache that cannot be written (a full disk, no root) costs time only."""
    temporary = f"{path}.{os.getpid()}.{threading.get_ident()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        Path(temporary).write_bytes(program)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
