"""`minipod apply` (layer 6): sends manifests to the agent, which creates what is not there and changes what differs."""

from __future__ import annotations

import argparse

from minipod.cli.applying import Results, send
from minipod.cli.manifest_options import add_dry_run, add_manifests, add_validate, texts_of
from minipod.cli.options import duration_s, integer
from minipod.cli.show import formats
from minipod.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Create or change the objects of the manifests: pods, configmaps, secrets, claims, volumes, namespaces. "
        "Pods are left with the agent. What cannot be changed in a pod that exists takes --force: the pod is ended and "
        "started again."
    )
    add_manifests(parser)
    parser.add_argument("-l", "--selector", metavar="KEY=VALUE,…", help="only the objects with these labels")
    formats.configure(parser)
    add_dry_run(parser)
    add_validate(parser)
    add_force(parser, "delete and create again what cannot be changed")
    parser.add_argument(
        "--prune",
        action="store_true",
        help="delete what was applied to these namespaces and is in no manifest: with -l or --all",
    )
    parser.add_argument("--all", action="store_true", help="with --prune: whatever its labels")
    parser.add_argument(
        "--prune-allowlist",
        action="append",
        default=[],
        metavar="GROUP/VERSION/KIND",
        help="prune only this kind: core/v1/ConfigMap; kinds outside of namespaces are only pruned by name",
    )
    parser.add_argument("--wait", action="store_true", help="return when what is pruned is gone")
    parser.add_argument("--overwrite", action="store_true", default=True, help="the manifest wins; =false is refused")
    for name in ("--server-side", "--force-conflicts"):
        parser.add_argument(name, action="store_true", help="refused: minipod keeps no owners of fields")


def add_force(parser: argparse.ArgumentParser, words: str) -> None:
    """--force and what belongs to it; `force_of` makes fields of the request of them."""
    parser.add_argument("--force", action="store_true", help=words)
    parser.add_argument(
        "--grace-period", type=integer, default=-1, metavar="N", help="seconds for a pod to end; -1: the pod's own"
    )
    parser.add_argument(
        "--cascade",
        nargs="?",
        const="background",
        default="background",
        choices=("background", "foreground", "orphan"),
        metavar="HOW",
        help="what becomes of the objects that a deleted one owns; here none owns others",
    )
    parser.add_argument("--timeout", default="0s", metavar="D", help="how long to wait until a deleted object is gone")


def force_of(args: argparse.Namespace, *, deletes: str = "--force") -> dict[str, object]:
    """Fields of the request. `deletes`: the options that delete something. Raises UsageError."""
    timeout_s = duration_s(args.timeout)
    if timeout_s < 0:
        raise UsageError("--timeout must not be negative")
    is_deleting = args.force or getattr(args, "prune", False)
    for name, is_given in (("--grace-period", args.grace_period >= 0), ("--timeout", timeout_s > 0)):
        if is_given and not is_deleting:
            raise UsageError(f"{name} must have {deletes} specified")
    grace_period = None if args.grace_period < 0 else max(args.grace_period, 1)  # kubectl makes 1 of 0
    return {"force": args.force, "grace_period": grace_period, "timeout_s": timeout_s or None}


def run(args: argparse.Namespace) -> int:
    check(args)
    prune = {"selector": args.selector or "", "kinds": args.prune_allowlist} if args.prune else None
    more = force_of(args, deletes="--force or --prune")
    results = Results(args, as_list=True)
    files = texts_of(args, "apply")
    send(args, files, "apply", results, selector=args.selector or "", prune=prune, wait=args.wait, **more)
    return 0


def check(args: argparse.Namespace) -> None:
    """Raises UsageError for options that do not go together, as kubectl has it (apply.go, Validate)."""
    if args.server_side:
        raise UsageError(
            "--server-side: minipod keeps no owners of fields; without it apply merges what differs from the last apply"
        )
    if args.force_conflicts:
        raise UsageError("--force-conflicts only works with --server-side")
    if not args.overwrite:
        raise UsageError(
            "--overwrite=false: apply always gives its manifest to the object; minipod get -o yaml shows it"
        )
    if args.force and args.dry_run != "none":
        raise UsageError(f"--dry-run={args.dry_run} cannot be used with --force")
    if args.all and args.selector:
        raise UsageError("cannot set --all and --selector at the same time")
    if args.prune and args.force:
        raise UsageError("--force cannot be used with --prune")
    if args.prune and not (args.all or args.selector):
        raise UsageError("--prune: of what? --all, or the labels of these objects: -l KEY=VALUE")
    for option, is_given in (("--all", args.all), ("--prune-allowlist", args.prune_allowlist)):
        if is_given and not args.prune:
            raise UsageError(f"{option} goes with --prune")
    if args.wait and not (args.prune or args.force):
        raise UsageError(
            "--wait: apply deletes nothing here; for pods to be ready: minipod wait --for=condition=Ready …"
        )
