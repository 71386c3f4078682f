"""`minipod debug` (layer 6): an ephemeral container in a running pod, and this terminal at it."""

from __future__ import annotations

import argparse
import secrets
import sys

from minipod.cli.attaching import attach
from minipod.cli.client import Client
from minipod.cli.options import namespace_of, one_pod
from minipod.cli.pods import get_pod
from minipod.cli.values import Object
from minipod.errors import ConflictError, UsageError

TAKES_COMMAND = True
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
#: kubectl's profiles (kubectl/pkg/cmd/debug/profiles.go), as the new container's securityContext
_PROFILES: dict[str, Object | None] = {
    "general": {"capabilities": {"add": ["SYS_PTRACE"]}},
    "baseline": None,
    "restricted": {
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "allowPrivilegeEscalation": False,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "netadmin": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
    "sysadmin": {"privileged": True},
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Add a container with tools to a running pod; it goes with the pod."
    parser.usage = "minipod debug POD --image IMAGE [--target C] [-c NAME] [-i] [-t] [-- COMMAND [ARG…]]"
    parser.add_argument("words", nargs="*", metavar="POD", help="the pod: NAME or pod/NAME")
    parser.add_argument("--image", metavar="IMAGE", help="the image of the new container")
    parser.add_argument("--target", metavar="C", help="see the processes of this container")
    parser.add_argument("-c", "--container", metavar="NAME", help="the new container's name (debugger-…)")
    parser.add_argument("--profile", choices=tuple(_PROFILES), default="general", help="what it may do (general)")
    parser.add_argument("--image-pull-policy", choices=_PULL_POLICIES, help="when to pull the image")
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="a variable of its environment"
    )
    parser.add_argument("--arguments-only", action="store_true", help="what follows -- are arguments, not a command")
    parser.add_argument("-i", "--stdin", action="store_true", help="keep its standard input open, and attach to it")
    parser.add_argument("-t", "--tty", action="store_true", help="give it a terminal")
    parser.add_argument("--attach", choices=("true", "false"), help="wait for it and attach; true with -i")
    parser.add_argument("-q", "--quiet", action="store_true", help="print only what the container prints")


def run(args: argparse.Namespace) -> int:
    if len(args.words) != 1:
        raise UsageError("debug: give one pod: minipod debug POD --image IMAGE")
    if not args.image:
        raise UsageError("debug: you must specify --image")
    client, namespace, pod = Client.of(args, "debug"), namespace_of(args), one_pod(args.words[0])
    container = container_of(args)
    name = str(container["name"])
    attaching = args.attach == "true" or (args.stdin and args.attach != "false")
    if not args.quiet:
        if not args.container:
            print(f"Defaulting debug container name to {name}.", file=sys.stderr)
        if args.target:
            print(f'Targeting container "{args.target}".', file=sys.stderr)
    message: Object = {"verb": "debug", "namespace": namespace, "pod": pod, "container": container, "wait": attaching}
    with client.request(message) as request:
        while request.next() is not None:
            pass
    if not attaching:
        return 0
    state = _state(client, namespace, pod, name)
    ended = state.get("terminated")
    if "running" not in state and (ended is None or ended.get("reason") == "StartError"):
        why = ended or state.get("waiting") or {}
        raise ConflictError(
            f'container "{name}" of pod "{pod}" does not run: {why.get("reason")}: {why.get("message")}'
        )
    return attach(client, namespace, pod, name, args.stdin, quiet=args.quiet, whole=True)


def container_of(args: argparse.Namespace) -> Object:
    """The v1 EphemeralContainer that is wanted."""
    container: Object = {
        "name": args.container or "debugger-" + "".join(secrets.choice(_LETTERS) for _ in range(5)),
        "image": args.image,
        "stdin": args.stdin,
        "stdinOnce": args.stdin and not args.tty,  # otherwise piped input would have no end
        "tty": args.tty,
    }
    if allowed := _PROFILES[args.profile]:
        container["securityContext"] = allowed
    if args.target:
        container["targetContainerName"] = args.target
    if args.image_pull_policy:
        container["imagePullPolicy"] = args.image_pull_policy
    if args.command:
        container["args" if args.arguments_only else "command"] = args.command
    for entry in args.env:
        name, equals, value = entry.partition("=")
        if not equals or not name:
            raise UsageError(f"debug: --env {entry}: must be NAME=VALUE")
        container.setdefault("env", []).append({"name": name, "value": value})
    return container


def _state(client: Client, namespace: str, pod: str, name: str) -> Object:
    statuses = get_pod(client, namespace, pod)["status"].get("ephemeralContainerStatuses") or []
    return next((status.get("state") or {} for status in statuses if status["name"] == name), {})
