"""`minipod uninstall` (layer 6): takes everything that minipod has made from the host; the program itself stays.

The agent ends pods and removes what it made, as in `delete` and `gc`; what is left then is files.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys
import time
from collections.abc import Iterable

from minipod.cli.client import Client
from minipod.cli.show.output import warn
from minipod.cli.values import Object
from minipod.errors import ConflictError, HostError, UsageError
from minipod.kernel.mount import mounts_below
from minipod.kernel.remove import remove_tree
from minipod.paths import Paths

_EXIT_S = 20.0  # of the agent and its spawners, once no container is left
_LOOK_S = 0.05
REMOVE = "remove"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Remove what minipod has made on this host: containers, mounts, network namespaces, bridges, nftables tables, "
        "cgroups, agent, spawner and the run directory. Objects, images, volumes and logs stay, and pods run again "
        "after minipod agent start-pods or the next boot; --purge removes these too. It says what it removes and asks "
        "first, and refuses while containers run. What others made, the configuration in /etc/minipod and the program "
        "itself stay."
    )
    parser.add_argument("--purge", action="store_true", help="also objects, images, volumes with their data, and logs")
    parser.add_argument("--force", action="store_true", help="end running containers, each with its grace period")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")


def run(args: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        raise HostError("minipod uninstall needs root: sudo minipod uninstall")
    client = Client.of(args, "uninstall")
    refuse_service(client)
    pods = stored_pods(client)
    lines = plan(client.paths, pods, args.purge)
    if not any(line.startswith(REMOVE) for line in lines):
        print("nothing of minipod is here")
        return 0
    print("\n".join(lines))
    if args.dry_run:
        return 0
    running = [name_of(pod) for pod in pods if is_running(pod)]
    if running and not args.force:
        raise ConflictError(f"{', '.join(running)}: still running: delete them first, or end them with --force")
    confirm(args.yes)
    if pods:
        client.call({"verb": "halt", "sandboxes": True})  # first: static pods are not started again
        if args.purge:
            delete(client, pods)
    end_agent(client)
    remove_files(client.paths, args.purge)
    return 0


def plan(paths: Paths, pods: Iterable[Object], purge: bool) -> list[str]:
    """What it says before it begins. Pure except for a look at which directories there are."""
    what = "delete" if purge else "end the containers of"
    lines = [f"{what} pod {name_of(pod)}{' (running)' if is_running(pod) else ''}" for pod in pods]
    lines += [f"{REMOVE} {path}" for path in directories(paths, purge) if os.path.isdir(path)]
    kept = [] if purge else [path for path in (paths.state, paths.pod_logs) if os.path.isdir(path)]
    return lines + [f"keep   {path}" for path in (*kept, "/etc/minipod") if os.path.isdir(path)]


def directories(paths: Paths, purge: bool) -> list[str]:
    return [paths.root, paths.state] if purge else [paths.root]


def name_of(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def is_running(pod: Object) -> bool:
    """Whether any container of it runs, or is about to."""
    status = pod.get("status") or {}
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    states = [container.get("state") or {} for kind in kinds for container in status.get(kind) or ()]
    return status.get("phase") == "Pending" or any("running" in state for state in states)


def refuse_service(client: Client) -> None:
    """A service manager would start the agent again. Raises ConflictError."""
    channel = client.try_connect()
    if channel is None:
        return
    channel.close()
    if client.call({"verb": "status"})[1].get("started", "") == "service":
        raise ConflictError("the agent is a service: systemctl disable --now minipod-pods minipod, then once more")


def stored_pods(client: Client) -> list[Object]:
    """An empty list where there has never been any; an agent is started where there may be some."""
    message = {"verb": "get", "kind": "pods", "namespace": None, "name": None, "output": "object", "selector": ""}
    request = client.request_if_pods(message)
    if request is None:
        return []
    with request:
        found = []
        while (event := request.next()) is not None:
            if "object" in event:
                found.append(event["object"])
        return found


def confirm(yes: bool) -> None:
    """Raises UsageError where the answer is no, or no terminal is there to give one."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nothing was removed: say so with --yes")
    print("Remove this? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was removed")


def delete(client: Client, pods: Iterable[Object]) -> None:
    """All at once: every pod has its grace period from now on."""
    namespaces: dict[str, list[str]] = {}
    for pod in pods:
        namespaces.setdefault(pod["metadata"]["namespace"], []).append(pod["metadata"]["name"])
    requests = [
        client.request({"verb": "delete", "kind": "pods", "namespace": namespace, "names": names})
        for namespace, names in namespaces.items()
    ]
    for request in requests:
        with request:
            while (event := request.next()) is not None:
                if event["event"] == "warning":
                    warn(event["message"])


def end_agent(client: Client) -> None:
    """What earlier agents left is removed by the last one. Raises HostError for a process that does not end."""
    paths = client.paths
    if client.try_connect() is None and not os.path.isdir(f"{paths.root}/sandboxes"):
        return
    client.call({"verb": "gc", "dry_run": False})
    pid = int(client.call({"verb": "status"})[1]["pid"])
    pidfd = os.pidfd_open(pid)
    client.call({"verb": "shutdown"})
    ended, _, _ = select.select([pidfd], [], [], _EXIT_S)
    os.close(pidfd)
    if not ended:
        raise HostError(f"the agent (process {pid}) does not exit; see {paths.root}/agent.log")
    deadline = time.monotonic() + _EXIT_S
    while serving := [path for path in spawner_sockets(paths) if listens(path)]:
        if time.monotonic() > deadline:
            raise HostError(f"the spawner of {serving[0]} does not exit: containers are left: minipod gc")
        time.sleep(_LOOK_S)


def spawner_sockets(paths: Paths) -> list[str]:
    try:
        return [f"{paths.root}/spawners/{name}" for name in sorted(os.listdir(f"{paths.root}/spawners"))]
    except FileNotFoundError:
        return []


def listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        return sock.connect_ex(path) == 0


def remove_files(paths: Paths, purge: bool) -> None:
    """Raises HostError for what is mounted in there: it is not minipod's."""
    places = directories(paths, purge)
    mounted = [place for path in places for place in mounts_below(path) if place != path]
    if mounted:
        raise HostError(f"{mounted[0]}: is still mounted: umount {mounted[0]}, then once more")
    for path in places:
        if os.path.ismount(path):
            empty(path)
        else:
            remove_tree(path)
    if purge and not paths.pod_logs.startswith(f"{paths.state}/"):
        try:
            os.rmdir(paths.pod_logs)  # pods' own have gone with them; a kubelet's may be in there
        except OSError:
            pass


def empty(path: str) -> None:
    """A file system of its own that an administrator has put there stays."""
    for name in os.listdir(path):
        remove_tree(f"{path}/{name}")
