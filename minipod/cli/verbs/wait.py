"""`minipod wait` (layer 6): waits for a condition of pods, driven by the agent's watch."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from minipod.cli.client import Client, RemoteError
from minipod.cli.options import duration_s, namespace_of, pod_names
from minipod.cli.show import jsonpath
from minipod.cli.values import Object
from minipod.cli.watching import LISTED, Watching
from minipod.errors import NotFoundError, UsageError

Check = Callable[[Object | None], bool]
"""Whether the wait is over, for the pod as it is now (None: there is none)."""

WEEK_S = 7 * 86400.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Wait until pods are as wanted; exit status 1 when the time is up."
    parser.add_argument("words", nargs="*", metavar="pod/NAME…", help="pod/NAME… or pod NAME…")
    parser.add_argument(
        "--for",
        dest="wanted",
        action="append",
        metavar="WHAT",
        help="condition=Ready[=False], delete, create or jsonpath='{.status.phase}'[=Running]; each of several",
    )
    parser.add_argument("--timeout", default="30s", metavar="D", help="how long (30s); 0: look once, negative: a week")
    parser.add_argument("--all", action="store_true", help="all pods of the namespace")
    parser.add_argument("-l", "--selector", metavar="KEY=VALUE,…", help="the pods with these labels")


def run(args: argparse.Namespace) -> int:
    if not args.wanted:
        raise UsageError("--for: which condition? use for example --for=condition=Ready")
    checks = [checker(wanted) for wanted in args.wanted]
    missing_is_fine = all(fine for _, fine in checks)
    timeout_s = duration_s(args.timeout)
    deadline = time.monotonic() + (WEEK_S if timeout_s < 0 else timeout_s)
    client = Client.of(args, "wait")
    names = wanted_names(args)
    failures: list[Exception] = []
    for name in names:
        try:
            for (check, _), wanted in zip(checks, args.wanted, strict=True):
                wait_for(client, namespace_of(args), name, check, missing_is_fine, deadline, timeout_s == 0)
                done = "deleted" if wanted.lower() == "delete" else "condition met"
                print(f"pod/{name} {done}", flush=True)
        except RemoteError as error:
            failures.append(error)
    if failures:
        raise RemoteError("; ".join(map(str, failures)), 1)
    return 0


def wanted_names(args: argparse.Namespace) -> list[str]:
    if not (args.all or args.selector):
        names = pod_names(args.words, "wait")
        if not names:
            raise UsageError("arguments in resource/name form must be given: use for example pod/NAME")
        return names
    from minipod.cli.verbs.get import fetch

    if pod_names(args.words or ["pods"], "wait"):
        raise UsageError("name cannot be provided when --all or a selector is specified")
    message = {"verb": "get", "kind": "pods", "namespace": namespace_of(args), "name": None, "output": "object"}
    names = [pod["metadata"]["name"] for pod in fetch(args, {**message, "selector": args.selector or ""})]
    if not names:
        raise NotFoundError("no matching resources found")
    return names


def checker(wanted: str) -> tuple[Check, bool]:
    """What to wait for, and whether a pod that is not there is no error. Raises UsageError."""
    if wanted.lower() == "delete":
        return (lambda pod: pod is None), True
    if wanted.lower() == "create":
        return (lambda pod: pod is not None), True
    kind, _, rest = wanted.partition("=")
    if kind == "condition" and rest:
        name, _, value = rest.partition("=")
        return condition_check(name, value or "true"), False
    if kind == "jsonpath" and rest:
        return jsonpath_check(rest), False
    raise UsageError(f'unrecognized condition: "{wanted}"')


def condition_check(name: str, value: str) -> Check:
    """One that speaks of an older generation of the spec does not count."""

    def check(pod: Object | None) -> bool:
        status, generation = (pod or {}).get("status") or {}, (pod or {}).get("metadata", {}).get("generation", 0)
        for entry in status.get("conditions") or []:
            if str(entry.get("type", "")).lower() == name.lower():
                observed = entry.get("observedGeneration", status.get("observedGeneration", generation))
                return bool(observed >= generation and str(entry.get("status", "")).lower() == value.lower())
        return False

    return check


def jsonpath_check(text: str) -> Check:
    """`'{.path}'=value`, or `'{.path}'` for any value; a `==` inside a filter does not split (kubectl wait)."""
    expression, value = split_expression(text)
    body = jsonpath.relaxed(expression)[1:-1]

    def check(pod: Object | None) -> bool:
        values = jsonpath.find(body, pod)
        if len(values) > 1:
            raise UsageError("given jsonpath expression matches more than one value")
        if not values:
            return False
        if value is None:
            return True
        if isinstance(values[0], (dict, list)):
            raise UsageError("jsonpath leads to a nested object or list which is not supported")
        return jsonpath.text_of(values[0]) == value

    return check


def split_expression(text: str) -> tuple[str, str | None]:
    parts = text.replace("==", "\0").split("=")
    parts = [part.replace("\0", "==") for part in parts]
    if len(parts) > 2 or not parts[0].strip("'\""):
        raise UsageError(
            "jsonpath wait format must be --for=jsonpath='{.status.readyReplicas}'=3 or "
            "--for=jsonpath='{.status.readyReplicas}'"
        )
    expression = parts[0].strip("'\"")
    if len(parts) == 1:
        return expression, None
    value = parts[1].strip("'\"")
    if not value:
        raise UsageError(
            "jsonpath wait has to have a value after equal sign, like --for=jsonpath='{.status.phase}'=Running"
        )
    return expression, value


def wait_for(
    client: Client, namespace: str, name: str, check: Check, missing_is_fine: bool, deadline: float, once: bool
) -> None:
    """Return when `check` holds. Raises NotFoundError, RemoteError when the time is up."""
    message = {"verb": "get", "kind": "pods", "namespace": namespace, "name": name, "output": "object"}
    with Watching(client, message) as watch:
        pod = first_look(watch)
        if check(pod):
            return
        if pod is None and not missing_is_fine:
            raise NotFoundError(f'pods "{name}" not found')
        if once:
            raise RemoteError(f"condition not met for pods/{name}", 1)
        uid = pod["metadata"]["uid"] if pod else None
        while True:
            event = watch.next(deadline)
            if event is None:
                raise RemoteError(f"timed out waiting for the condition on pods/{name}", 1)
            gone = event["type"] == "DELETED" or (uid is not None and event["object"]["metadata"]["uid"] != uid)
            if check(None if gone else event["object"]):
                return
            if gone and not missing_is_fine:
                raise NotFoundError(f'pods "{name}" not found')


def first_look(watch: Watching) -> Object | None:
    """The pod as it is at the beginning; None where there is none."""
    pod: Object | None = None
    while (event := watch.next()) is not None and event["type"] != LISTED:
        pod = event["object"]
    return pod
