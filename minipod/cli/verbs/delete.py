"""`minipod delete` (layer 6): asks the agent to end pods or to drop other objects, and waits until they are gone."""

from __future__ import annotations

import argparse
import sys
import time

from minipod.api.kinds import POD, Kind
from minipod.cli import wanted
from minipod.cli.client import Client, RemoteError, Request
from minipod.cli.manifest_options import DRY_RUN_WORDS, add_dry_run, is_given
from minipod.cli.options import duration_s, integer
from minipod.cli.resources import known_kind
from minipod.cli.show.output import warn
from minipod.cli.values import Object
from minipod.cli.wanted import Wanted
from minipod.cli.watching import received
from minipod.errors import ConflictError, MinipodError, NotFoundError, UsageError

CASCADES = ("background", "foreground")

Targets = dict[tuple[Kind, str], list[str]]
"""The names by kind and namespace."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Delete pods and other objects; returns when they are gone."
    parser.add_argument("words", nargs="*", metavar="KIND NAME…", help="pod NAME…, pod/NAME…, cm NAME…")
    wanted.add_files(parser)
    wanted.add_selectors(parser)
    wanted.add_all(parser)
    parser.add_argument(
        "--grace-period", type=integer, default=-1, metavar="N", help="seconds to end in; -1: the pod's own"
    )
    parser.add_argument("--now", action="store_true", help="the same as --grace-period=1")
    parser.add_argument("--force", action="store_true", help="kill at once; still returns when the pod is gone")
    parser.add_argument(
        "--wait", action="store_true", default=True, help="until they are gone (the default); =false returns at once"
    )
    parser.add_argument("--timeout", default="0s", metavar="D", help="wait at most so long; 0 (the default): as needed")
    parser.add_argument(
        "--ignore-not-found",
        action="store_true",
        default=None,
        help="an object that is not there is no error (the default with --all and selectors)",
    )
    parser.add_argument("-i", "--interactive", action="store_true", help="show what would be deleted, and ask")
    parser.add_argument(
        "--cascade", default="background", metavar="HOW", help="background or foreground: what a pod owns goes with it"
    )
    add_dry_run(parser)
    parser.add_argument("-o", "--output", metavar="name", help="name: print pod/NAME")


def run(args: argparse.Namespace) -> int:
    grace_period = check(args)
    words = args.words or ([] if is_given(args) else ["pods"] if args.all or wanted.selector_of(args) else [])
    asked = wanted.wanted(args, words, "delete")
    if args.ignore_not_found is None:
        args.ignore_not_found = any(each.name is None for each in asked)
    targets = targets_of(args, asked)
    if not targets:
        print("No resources found")
        return 0
    if args.interactive and not confirmed(args, targets):
        print("deletion is cancelled")
        return 0
    if args.dry_run == "client":
        for (kind, namespace), names in targets.items():
            for name in names:
                print(text_of(args, kind, namespace, name, grace_period))
        return 0
    return delete(args, targets, grace_period)


def delete(args: argparse.Namespace, targets: Targets, grace_period: int | None) -> int:
    """Raises the last of the errors, after the others are printed."""
    client = Client.of(args, "delete")
    failures: list[MinipodError] = []
    messages: dict[bool, list[Object]] = {True: [], False: []}  # of pods first: what they use is free then
    for (kind, namespace), names in targets.items():
        message = {"verb": "delete", "kind": kind.plural, "namespace": namespace, "names": names}
        options = {"wait": args.wait, "dry_run": args.dry_run == "server"}
        messages[kind is POD].append({**message, "grace_period": grace_period, "force": args.force, **options})
    timeout_s = duration_s(args.timeout)
    deadline = time.monotonic() + timeout_s if timeout_s else None
    # The pods of all namespaces begin to end before the first is waited for.
    for message, request in [(message, client.request_if_pods(message)) for message in messages[True]]:
        finish(request, message, args, failures, deadline)
    for message in messages[False]:
        finish(client.request_if_pods(message), message, args, failures, deadline)
    if failures:
        for error in failures[:-1]:
            print_error(error)
        raise failures[-1]
    return 0


def check(args: argparse.Namespace) -> int | None:
    """The grace period that was asked for; None for the pod's own. Raises UsageError."""
    if args.output not in (None, "name"):
        raise UsageError(f"unexpected -o output mode: {args.output}. We only support '-o name'")
    if args.now and args.grace_period >= 0:
        raise UsageError("--now and --grace-period cannot be specified together")
    if args.force and args.grace_period > 0:
        raise UsageError("--force and --grace-period greater than 0 cannot be specified together")
    if args.cascade == "orphan":
        raise UsageError("--cascade=orphan: the claims of a pod's ephemeral volumes go with the pod; leave it out")
    if args.cascade not in CASCADES:
        raise UsageError(f'invalid cascade value ({args.cascade}). Must be "background" or "foreground"')
    if duration_s(args.timeout) < 0:
        raise UsageError("--timeout must not be negative; 0: as long as it takes")
    if args.force:
        return 0
    if args.now or args.grace_period == 0:
        return 1  # kubectl: without --force a grace period of 0 becomes 1
    return args.grace_period if args.grace_period > 0 else None


def targets_of(args: argparse.Namespace, asked: list[Wanted]) -> Targets:
    """What is named, and what the selectors find."""
    found: Targets = {}
    for each in asked:
        names = [(each.namespace or "default", each.name)] if each.name else []
        if not each.name:
            things, _ = wanted.fetched(args, [each])
            names = [(thing.namespace or "default", thing.name) for thing in things]
        for namespace, name in names:
            found.setdefault((each.kind, namespace), []).append(str(name))
    return found


def confirmed(args: argparse.Namespace, targets: Targets) -> bool:
    """Whether the user says y."""
    names = [f"{kind.singular}/{name}" for (kind, _), names in targets.items() for name in names]
    print(f"You are about to delete the following {len(names)} resource(s):")
    print("\n".join(names))
    print("Do you want to continue? (y/N): ", end="", flush=True)
    return sys.stdin.readline().strip() in ("y", "Y")


def text_of(args: argparse.Namespace, kind: Kind, namespace: str, name: str, grace_period: int | None) -> str:
    """What is printed of an object that is gone (delete.go, PrintObj)."""
    if args.output == "name":
        return f"{kind.singular}/{name}"
    done = "force deleted" if grace_period == 0 else "deleted"
    where = f" from {namespace} namespace" if kind.namespaced else ""
    return f'{kind.singular} "{name}" {done}{where}{DRY_RUN_WORDS[args.dry_run]}'


def finish(
    request: Request | None,
    message: Object,
    args: argparse.Namespace,
    failures: list[MinipodError],
    deadline: float | None,
) -> None:
    """Print what is gone until all is; `request` None: there has never been anything."""
    kind, left = known_kind(message["kind"]), list(message["names"])
    try:
        if request is None:
            raise NotFoundError(f'{message["kind"]} "{message["names"][0]}" not found')
        while (event := received(request, deadline)) is not None:
            if event["event"] == "warning":
                warn(event["message"])
            elif event["event"] == "deleted":
                left.remove(event["name"])
                print(text_of(args, kind, message["namespace"], event["name"], message["grace_period"]), flush=True)
        if request.result is None:
            names = ", ".join(f"{kind.plural}/{name}" for name in left)
            failures.append(RemoteError(f"timed out waiting for the condition on {names}; the deletion continues", 1))
    except (NotFoundError, ConflictError) as error:
        if not (args.ignore_not_found and isinstance(error, NotFoundError)):
            failures.append(error)
    finally:
        if request is not None:
            request.channel.close()


def print_error(error: MinipodError) -> None:
    from minipod.cli.main import report

    report(error)
