"""`python -m minipod.serve.api` (layer 7): the process of the Kubernetes API, which `minipod serve` becomes."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import Sequence

from minipod.cli.client import Client
from minipod.errors import FAILURE, HostError, MinipodError, UsageError
from minipod.kernel.error_text import text_of
from minipod.kernel.sd_notify import ServiceManager
from minipod.paths import Paths
from minipod.rest.certificates import Certificates
from minipod.rest.identity import User, tokens_of
from minipod.rest.server import ApiServer
from minipod.runtime.offload import off_loop

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("minipod serve")
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--config")
    parser.add_argument("--listen", default="127.0.0.1:6443")
    parser.add_argument("--tls-san", action="append", default=[])
    parser.add_argument("--token-file")
    parser.add_argument("--only-start-agent", action="store_true")
    args = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    try:
        if args.only_start_agent:
            Client(Paths(args.run_dir, args.data_dir), args.config, verb="serve").connect().close()
            return 0
        return asyncio.run(_serve(args))
    except MinipodError as error:
        print(f"minipod serve: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"minipod serve: {args.listen}: {text_of(error)}", file=sys.stderr)
        return FAILURE


async def _serve(args: argparse.Namespace) -> int:
    host, port = address_of(args.listen)
    paths = Paths(args.run_dir, args.data_dir)
    certificates = Certificates(f"{paths.state}/api", [*LOCAL_NAMES, *names_of(host), *args.tls_san])
    await off_loop(certificates.ensure)
    await off_loop(start_agent, args)
    server = ApiServer(paths, certificates, (host, port), _tokens(args.token_file))
    port = await server.start()
    stop, start = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = [loop.create_task(server.stay_present(start)), loop.create_task(_keep_agent(args, start))]
    manager = ServiceManager.of_this_process()
    manager.notify("READY=1")
    print(f"serving the Kubernetes API on https://{_shown(host)}:{port}", flush=True)
    await stop.wait()
    manager.notify("STOPPING=1")
    for task in tasks:
        task.cancel()
    await server.stop()
    return 0


def start_agent(args: argparse.Namespace) -> None:
    """By a process that ends at once, as a command does: the agent is not this process' child, which has to reap it.

    Raises HostError where none answers and none can be started.
    """
    command = [sys.executable, "-P", "-m", "minipod.serve.api", "--only-start-agent"]
    command += ["--run-dir", args.run_dir, "--data-dir", args.data_dir]
    command += ["--config", args.config] if args.config else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError(done.stderr.strip().removeprefix("minipod serve: ") or "the agent cannot be started")


async def _keep_agent(args: argparse.Namespace, wanted: asyncio.Event) -> None:
    while True:
        await wanted.wait()
        wanted.clear()
        try:
            await off_loop(start_agent, args)
        except MinipodError as error:
            logging.getLogger("minipod.rest").error("%s", error)


def address_of(text: str) -> tuple[str, int]:
    """`127.0.0.1:6443`, `[::1]:6443`. Raises UsageError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--listen {text}: an address and a port are needed, such as 127.0.0.1:6443")
    return host.removeprefix("[").removesuffix("]"), int(port)


def names_of(host: str) -> list[str]:
    return [] if host in ("0.0.0.0", "::") else [host]


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _tokens(path: str | None) -> dict[str, User]:
    if path is None:
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            return tokens_of(file.read())
    except (OSError, ValueError) as error:
        raise HostError(f"--token-file {path}: {error}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
