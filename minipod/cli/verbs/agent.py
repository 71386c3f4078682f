"""`minipod agent` (layer 6): becomes the node agent, in the foreground (for systemd), shows, stops or restarts the one
that runs, or stops and starts its pods."""

from __future__ import annotations

import argparse
import os
import sys
import time

from minipod.cli import units
from minipod.cli.client import Client
from minipod.cli.options import paths_of
from minipod.cli.values import Object
from minipod.errors import NEGATIVE, HostError, UsageError

_ACTIONS = ("status", "stop", "restart", "stop-pods", "start-pods")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run the node agent in the foreground; otherwise it starts and exits by itself. status shows the one that runs "
        "(exit status 1: none does), stop ends it and restart replaces it, by systemd where it is a unit: all pods "
        "keep running, without probes and restarts until there is an agent again. stop-pods ends the containers of all "
        "pods, each with its grace period, and returns when none runs; the pods stay. They run again after start-pods "
        "and after the next boot of the host."
    )
    parser.add_argument("action", nargs="?", choices=_ACTIONS, help="what to do instead")
    parser.add_argument("--grace-period", type=int, metavar="S", help="stop-pods: no container gets more seconds")


def run(args: argparse.Namespace) -> int:
    if args.grace_period is not None and (args.action != "stop-pods" or args.grace_period < 0):
        raise UsageError("--grace-period is for stop-pods, in seconds from 0")
    client = Client.of(args, "agent")
    if args.action == "status":
        return _status(client)
    if args.action == "stop":
        return _stop(client)
    if args.action == "restart":
        return _restart(client)
    if args.action == "stop-pods":
        return _stop_pods(client, args.grace_period)
    if args.action == "start-pods":
        client.call({"verb": "resume"})
        return 0
    return _become_agent(args)


def _status(client: Client) -> int:
    agent = client.agent_status()
    if agent is None:
        print(f"no agent runs at {client.paths.agent_socket}: the next command starts one")
        return NEGATIVE
    from minipod.cli.show.table import table

    print(table(_rows(agent, client.paths.agent_socket, time.time())), end="")
    return 0


def _rows(agent: Object, socket: str, now_s: float) -> list[tuple[str, str]]:
    """What `agent status` shows; an older agent does not say all of it."""
    from minipod.api.timestamps import human_duration, seconds_of

    rows = [("process", str(agent.get("pid"))), ("version", str(agent.get("version")))]
    since = str(agent.get("since") or "")
    if began_s := seconds_of(since):
        rows.append(("since", f"{since} ({human_duration(now_s - began_s)})"))
    unit, started = units.unit_of(agent), agent.get("started")
    how = {"command": "by a command, in the background", "foreground": "in the foreground", "service": "as a service"}
    rows.append(("started", f"by systemd: {unit}" if unit else how.get(str(started), "unknown")))
    rows.append(("socket", socket))
    static = f"; static pods: {agent['static_pods']}" if agent.get("static_pods") else ""
    rows.append(("pods", f"{agent.get('pods', 0)}{static}"))
    rows += [("problem", str(problem)) for problem in agent.get("static_pod_problems") or ()]
    rows.append(("waits for", _waits_for(agent)))
    return rows


def _waits_for(agent: Object) -> str:
    if agent.get("halted"):
        return "minipod agent start-pods, or the next boot: the pods are stopped"
    if agent.get("started") != "command":
        return "commands; it runs until it is stopped"
    after = f"{float(agent.get('idle_exit_s') or 0):g} s"
    return f"the end of its pods: it exits {after} later" if agent.get("pods") else f"commands: it exits after {after}"


def _stop(client: Client) -> int:
    agent = client.agent_status()
    if agent is None:
        print("no agent runs")
        return 0
    _need_root("stop")
    unit = units.unit_of(agent)
    if unit:
        units.systemctl("stop", unit)
        _print_stopped(agent, f"systemctl start {unit}")
    elif client.end().get("restarts"):
        print(f"agent {agent['pid']} exits; its service manager starts another one: stop it there")
    else:
        from minipod.cli.start import wait_gone

        wait_gone(int(agent["pid"]))
        _print_stopped(agent, "the next command")
    return 0


def _print_stopped(agent: Object, next_one: str) -> None:
    pods = int(agent.get("pods") or 0)
    keep = f"{pods} pod keeps" if pods == 1 else f"{pods} pods keep"
    rest = f"; {keep} running, without probes and restarts until {next_one} brings the next agent" if pods else ""
    print(f"agent {agent['pid']} stopped{rest}")


def _restart(client: Client) -> int:
    from minipod.cli.start import check_start, start_agent, wait_gone, wait_restarted

    _need_root("restart")
    agent = client.agent_status()
    if agent is None:
        start_agent(client.paths, client.config)
    elif unit := units.unit_of(agent):
        units.systemctl("restart", unit)
    elif agent.get("started") == "foreground":
        raise UsageError(f"agent {agent['pid']} runs in the foreground: end it (minipod agent stop), start it there")
    else:
        check_start(client.paths, client.config)
        if client.end().get("restarts"):
            wait_restarted(client.paths, int(agent["pid"]))
        else:
            wait_gone(int(agent["pid"]))
            start_agent(client.paths, client.config)
    found = client.agent_status()
    if found is None:
        raise HostError(f"the agent has exited and no other one has started: see {client.paths.root}/agent.log")
    print(f"agent {found['pid']} serves {client.paths.root}, {found['pods']} pods")
    return 0


def _need_root(action: str) -> None:
    if os.geteuid() != 0:
        raise HostError(f"minipod agent {action} needs root: sudo minipod agent {action}")


def _stop_pods(client: Client, grace_period: int | None) -> int:
    request = client.request_if_pods({"verb": "halt", "grace_period": grace_period})
    if request is None:
        return 0
    with request:
        while request.next() is not None:
            pass
        for pod in (request.result or {}).get("stopped", ()):
            print(f"pod/{pod} stopped")
    return 0


def _become_agent(args: argparse.Namespace) -> int:
    from minipod.cli.start import agent_command, agent_environment
    from minipod.kernel.sd_notify import VARIABLES

    if os.geteuid() != 0:
        raise HostError("minipod agent needs root: sudo minipod agent")
    command = agent_command(paths_of(args), args.config)
    service = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    sys.stdout.flush()
    os.execve(command[0], command, agent_environment() | service)
