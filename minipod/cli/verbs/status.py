"""`minipod status` (layer 6): the agent, its spawner and its pods as processes: memory, processor time, descriptors."""

from __future__ import annotations

import argparse
import os

from minipod.cli.client import Client
from minipod.cli.options import paths_of
from minipod.cli.values import Object
from minipod.errors import HostError, UsageError

_COLUMNS = ("NAME", "PID", "PROCESSES", "MEMORY", "CPU", "THREADS", "DESCRIPTORS")
_MIB = 1 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show what the agent, the spawner and the processes of each pod take: memory as the proportional set size "
        "(PSS: pages that several processes share are divided among them), processor time since each process began."
    )
    parser.add_argument("-o", "--output", metavar="FORMAT", help="yaml or json: also what the agent says of itself")


def run(args: argparse.Namespace) -> int:
    if args.output not in (None, "json", "yaml"):
        raise UsageError("--output must be 'yaml' or 'json'")
    client = Client.of(args, "status")
    channel = client.try_connect()
    if channel is None:
        print("no agent runs")
        return 0
    channel.close()
    if os.geteuid() != 0:
        raise HostError("minipod status needs root: it reads other users' processes: sudo minipod status")
    found = collected(client, f"{paths_of(args).root}/exits")
    if args.output:
        from minipod.cli.show.formats import printer

        print(printer(args.output)(found, False), end="")
        return 0
    from minipod.cli.show.table import table

    agent = found["agent"]
    print(f"agent {agent['version']} on {agent['node']}: {agent['pods']} pods, run directory {agent['root']}")
    print(table([_COLUMNS, *rows(found)]), end="")
    return 0


def collected(client: Client, exits: str) -> Object:
    """{agent, spawners, pods}, each with its figures."""
    from minipod.cli import figures

    _, agent = client.call({"verb": "status"})
    agent.pop("ok", None)
    events, _ = client.call({"verb": "get", "kind": "pods", "namespace": None, "output": "object"})
    spawners = figures.spawners(exits)
    pids = figures.pods(spawners)
    return {
        "agent": {**agent, **figures.figures_of([agent["pid"]])},
        "spawners": [{"pid": pid, **figures.figures_of([pid])} for pid in spawners],
        "pods": [
            {**_named(event["object"]), **figures.figures_of(pids.get(event["object"]["metadata"]["uid"], ()))}
            for event in events
            if "object" in event
        ],
    }


def _named(pod: Object) -> Object:
    return {name: pod["metadata"][name] for name in ("namespace", "name", "uid")}


def rows(found: Object) -> list[list[str]]:
    """The table's lines: agent, spawners, pods by name."""
    lines = [["agent", str(found["agent"]["pid"]), *_cells(found["agent"])]]
    lines += [["spawner", str(spawner["pid"]), *_cells(spawner)] for spawner in found["spawners"]]
    pods = sorted(found["pods"], key=lambda pod: (pod["namespace"], pod["name"]))
    return lines + [[f"pod {pod['namespace']}/{pod['name']}", "", *_cells(pod)] for pod in pods]


def _cells(figures: Object) -> list[str]:
    memory = f"{figures['memory_bytes'] / _MIB:.1f}Mi"
    cpu = f"{figures['cpu_s']:.2f}s"
    return [str(figures["processes"]), memory, cpu, str(figures["threads"]), str(figures["descriptors"])]
