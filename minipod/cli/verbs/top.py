"""`minipod top` (layer 6): processor time and memory that pods or the host take now, in kubectl's columns."""

from __future__ import annotations

import argparse
import time

from minipod.cli.client import Client
from minipod.cli.options import namespace_of
from minipod.cli.show.table import table
from minipod.cli.values import Object
from minipod.errors import UsageError

INTERVAL_S = 0.5  # between the two looks at the counters of processor time
_PODS, _NODES = ("pod", "pods", "po"), ("node", "nodes", "no")
_SORTS = ("cpu", "memory")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "minipod top pod [NAME] [options] | top node"
    parser.description = (
        f"Show the processor time and memory (working set) of pods, or of the host, over {INTERVAL_S:g} s."
    )
    parser.add_argument("words", nargs="*", metavar="pod [NAME] | node", help="what to look at")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="the pods of all namespaces")
    parser.add_argument("-l", "--selector", metavar="KEY=VALUE,…", help="only the pods with these labels")
    parser.add_argument("--containers", action="store_true", help="each container on a line of its own")
    parser.add_argument("--sort-by", choices=_SORTS, metavar="WHAT", help="cpu or memory, the most first")
    parser.add_argument("--sum", action="store_true", help="the sum of all as the last line")
    parser.add_argument("--no-headers", action="store_true", help="leave out the table's first line")


def run(args: argparse.Namespace) -> int:
    kind, *names = args.words or ["pod"]
    if "/" in kind:
        kind, _, name = kind.partition("/")
        names = [name, *names]
    if kind in _NODES:
        return run_node(args)
    if kind not in _PODS or len(names) > 1:
        raise UsageError(
            f"top: {' '.join(args.words)}: minipod top pod [NAME], minipod top node; processes: minipod inspect POD"
        )
    if names and (args.selector or args.all_namespaces):
        raise UsageError("top: a name, or --selector and --all-namespaces, not both")
    found = measured(args, names[0] if names else "")
    if not found:
        print(f"No resources found{'' if args.all_namespaces else f' in {namespace_of(args)} namespace.'}")
        return 0
    print(table(lines(found, args)), end="")
    return 0


def measured(args: argparse.Namespace, name: str) -> list[Object]:
    """The pods with `cpu_cores` and `memory_bytes` of each container. Raises NotFoundError."""
    client = Client.of(args, "top")
    message: Object = {
        "verb": "usage",
        "namespace": None if args.all_namespaces else namespace_of(args),
        "name": name,
        "selector": args.selector or "",
    }
    before = _counters(client, message)
    if not before:
        return []
    time.sleep(INTERVAL_S)
    return rates(before, _counters(client, message))


def _counters(client: Client, message: Object) -> list[Object]:
    request = client.request_if_pods(message)
    if request is None:
        return []
    with request:
        request.next()
        pods: list[Object] = (request.result or {})["pods"]
        return pods


def rates(before: list[Object], after: list[Object]) -> list[Object]:
    """What two looks at the counters mean; a container that was not there at the first one is left out."""
    earlier = {container["id"]: container for pod in before for container in pod["containers"]}
    found = []
    for pod in after:
        containers = []
        for container in pod["containers"]:
            first = earlier.get(container["id"])
            if first is None or container["read_at_ns"] <= first["read_at_ns"]:
                continue
            took_ns = container["cpu_usage_ns"] - first["cpu_usage_ns"]
            cores = max(0, took_ns) / (container["read_at_ns"] - first["read_at_ns"])
            memory = container["memory_working_set_bytes"]
            containers.append({"name": container["name"], "cpu_cores": cores, "memory_bytes": memory})
        if containers:
            found.append({**pod, "containers": containers})
    return found


def lines(pods: list[Object], args: argparse.Namespace) -> list[list[str]]:
    """The table: namespace, pod, container, as far as they are asked for; cpu and memory as kubectl writes them."""
    entries: list[tuple[list[str], float, int]] = []
    for pod in pods:
        place = [pod["namespace"]] if args.all_namespaces else []
        parts = [(container["name"], [container]) for container in pod["containers"]]
        for name, containers in parts if args.containers else [("", pod["containers"])]:
            cpu = sum(container["cpu_cores"] for container in containers)
            memory = sum(container["memory_bytes"] for container in containers)
            entries.append(([*place, pod["name"], *([name] if args.containers else [])], cpu, memory))
    entries.sort(key=lambda entry: entry[0])
    if args.sort_by:
        entries.sort(key=lambda entry: entry[1 + _SORTS.index(args.sort_by)], reverse=True)
    titles = [*(["NAMESPACE"] if args.all_namespaces else []), *(["POD"] if args.containers else []), "NAME"]
    rows = [] if args.no_headers else [[*titles, "CPU(cores)", "MEMORY(bytes)"]]
    rows += [[*names, *_figures(cpu, memory)] for names, cpu, memory in entries]
    if args.sum:
        total = _figures(sum(entry[1] for entry in entries), sum(entry[2] for entry in entries))
        rows.append([*[""] * len(titles), *total])
    return rows


def _figures(cpu_cores: float, memory_bytes: int) -> list[str]:
    return [f"{round(cpu_cores * 1000)}m", f"{memory_bytes >> 20}Mi"]


def run_node(args: argparse.Namespace) -> int:
    """The host, in the columns of `kubectl top node`."""
    if len(args.words) > 1 or args.selector or args.containers or args.all_namespaces or args.sort_by or args.sum:
        raise UsageError("top node: there is one node, this host; only --no-headers goes with it")
    import os

    from minipod.cli.figures import figures_of_host

    host = figures_of_host(INTERVAL_S)
    cpu, memory = host["cpu_share"], host["memory_bytes"]
    cells = [os.uname().nodename, f"{round(cpu * host['cpus'] * 1000)}m", f"{round(cpu * 100)}%"]
    cells += [f"{memory >> 20}Mi", f"{round(memory * 100 / host['memory_total_bytes'])}%"]
    titles = ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"]
    print(table([cells] if args.no_headers else [titles, cells]), end="")
    return 0
