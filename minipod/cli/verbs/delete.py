"""`minipod delete` (layer 6): asks the agent to end pods or to drop other objects, and waits until they are gone."""

from __future__ import annotations

import argparse

from minipod.api.kinds import POD, Kind, kind_of_word
from minipod.cli.client import Client, Request
from minipod.cli.options import integer, namespace_of
from minipod.cli.resources import known_kind, resources
from minipod.cli.show.output import warn
from minipod.cli.values import Object
from minipod.errors import ConflictError, MinipodError, NotFoundError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Delete pods and other objects; returns when they are gone."
    parser.add_argument("words", nargs="*", metavar="KIND NAME…", help="pod NAME…, pod/NAME…, cm NAME…")
    parser.add_argument("-f", "--filename", action="append", default=[], metavar="FILE", help="what a manifest holds")
    parser.add_argument(
        "--grace-period", type=integer, default=-1, metavar="N", help="seconds to end in; -1: the pod's own"
    )
    parser.add_argument("--now", action="store_true", help="the same as --grace-period=1")
    parser.add_argument("--force", action="store_true", help="kill at once; still returns when the pod is gone")
    parser.add_argument("--all", action="store_true", help="all pods of the namespace")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="with --all: of every namespace")
    parser.add_argument("-l", "--selector", metavar="KEY=VALUE,…", help="the pods with these labels")
    parser.add_argument("--ignore-not-found", action="store_true", help="a pod that is not there is no error")
    parser.add_argument("-o", "--output", metavar="name", help="name: print pod/NAME")


def run(args: argparse.Namespace) -> int:
    grace_period = check(args)
    targets = chosen(args)
    if not targets:
        print("No resources found")
        return 0
    client = Client.of(args, "delete")
    failures: list[MinipodError] = []
    messages: dict[bool, list[Object]] = {True: [], False: []}  # of pods first: what they use is free then
    for (kind, namespace), names in targets.items():
        message = {"verb": "delete", "kind": kind.plural, "namespace": namespace, "names": names}
        messages[kind is POD].append({**message, "grace_period": grace_period, "force": args.force})
    # The pods of all namespaces begin to end before the first is waited for.
    for message, request in [(message, client.request_if_pods(message)) for message in messages[True]]:
        finish(request, message, args, failures)
    for message in messages[False]:
        finish(client.request_if_pods(message), message, args, failures)
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
    if args.all and args.selector:
        raise UsageError("cannot set --all and --selector at the same time")
    if args.force:
        return 0
    if args.now or args.grace_period == 0:
        return 1  # kubectl: without --force a grace period of 0 becomes 1
    return args.grace_period if args.grace_period > 0 else None


def chosen(args: argparse.Namespace) -> dict[tuple[Kind, str], list[str]]:
    """The names by kind and namespace."""
    if args.filename:
        if args.words or args.all or args.selector:
            raise UsageError("-f cannot be combined with names, --all or --selector")
        return objects_of_files(args)
    wanted = resources(args.words or (["pods"] if args.all or args.selector else []), "delete")
    if not (args.all or args.selector):
        if not all(names for _, names in wanted):
            raise UsageError("resource(s) were provided, but no name was specified")
        return {(kind, namespace_of(args)): names for kind, names in wanted}
    from minipod.cli.verbs.get import fetch

    if any(names for _, names in wanted):
        raise UsageError("name cannot be provided when --all or a selector is specified")
    namespace = None if args.all_namespaces else namespace_of(args)
    found: dict[tuple[Kind, str], list[str]] = {}
    for kind, _ in wanted:
        message = {"verb": "get", "kind": kind.plural, "namespace": namespace, "name": None, "output": "object"}
        for item in fetch(args, {**message, "selector": args.selector or ""}):
            meta = item["metadata"]
            found.setdefault((kind, meta.get("namespace", "default")), []).append(meta["name"])
    return found


def objects_of_files(args: argparse.Namespace) -> dict[tuple[Kind, str], list[str]]:
    """The objects of manifests. Of other kinds a warning is printed."""
    from minipod.cli.manifests import documents

    found: dict[tuple[Kind, str], list[str]] = {}
    for place, item in documents(args.filename):
        kind = kind_of_word(str(item.get("kind")))
        if kind is None:
            warn(f"{place}: {item.get('kind')}: minipod keeps no such objects")
            continue
        meta: Object = item.get("metadata") or {}
        if not meta.get("name"):
            raise UsageError(f"{place}: metadata.name: Required value: resource name may not be empty")
        namespace = args.namespace or meta.get("namespace") or "default"
        found.setdefault((kind, namespace), []).append(str(meta["name"]))
    return found


def finish(request: Request | None, message: Object, args: argparse.Namespace, failures: list[MinipodError]) -> None:
    """Print what is gone until all is; `request` None: there has never been anything."""
    done = "force deleted" if message["grace_period"] == 0 else "deleted"
    try:
        if request is None:
            raise NotFoundError(f'{message["kind"]} "{message["names"][0]}" not found')
        while (event := request.next()) is not None:
            if event["event"] == "warning":
                warn(event["message"])
            elif event["event"] == "deleted":
                kind, name = known_kind(message["kind"]).singular, event["name"]
                text = f"{kind}/{name}" if args.output == "name" else f'{kind} "{name}" {done}'
                print(text, flush=True)
    except (NotFoundError, ConflictError) as error:
        if not (args.ignore_not_found and isinstance(error, NotFoundError)):
            failures.append(error)
    finally:
        if request is not None:
            request.channel.close()


def print_error(error: MinipodError) -> None:
    from minipod.cli.main import report

    report(error)
