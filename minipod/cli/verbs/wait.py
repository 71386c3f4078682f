"""`minipod wait` (layer 6): waits for a condition of objects, driven by the agent's watch."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from minipod.cli import wanted as selection
from minipod.cli.client import Client, RemoteError
from minipod.cli.fetching import fetch
from minipod.cli.manifest_options import is_given
from minipod.cli.options import duration_s
from minipod.cli.results import Results
from minipod.cli.show import formats, jsonpath
from minipod.cli.values import Object
from minipod.cli.wanted import Found, Wanted
from minipod.cli.watching import LISTED, Watching
from minipod.errors import MinipodError, NotFoundError, UsageError

Check = Callable[[Object | None], bool]
"""Whether the wait is over, for the object as it is now (None: there is none)."""

WEEK_S = 7 * 86400.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Wait until objects are as wanted; exit status 1 when the time is up."
    parser.add_argument("words", nargs="*", metavar="KIND/NAME…", help="pod/NAME…, pod NAME… or another kind")
    parser.add_argument(
        "--for",
        dest="wanted",
        action="append",
        metavar="WHAT",
        help="condition=Ready[=False], delete, create or jsonpath='{.status.phase}'[=Running]; each of several",
    )
    parser.add_argument("--timeout", default="30s", metavar="D", help="how long (30s); 0: look once, negative: a week")
    selection.add_files(parser)
    selection.add_selectors(parser)
    selection.add_all(parser)
    formats.configure(parser)


def run(args: argparse.Namespace) -> int:
    if not args.wanted:
        raise UsageError("--for: which condition? use for example --for=condition=Ready")
    checks = [checker(wanted) for wanted in args.wanted]
    if not args.words and not is_given(args):
        raise UsageError("wait: which objects? use for example: minipod wait --for=condition=Ready pod/NAME")
    asked = selection.wanted(args, args.words, "wait")
    timeout_s = duration_s(args.timeout)
    waiting = Waiting(args, time.monotonic() + (WEEK_S if timeout_s < 0 else timeout_s), once=timeout_s == 0)
    words = [wanted.lower() for wanted in args.wanted]
    failures: list[MinipodError] = []
    for each in waiting.named(asked, for_create="create" in words, for_delete="delete" in words):
        try:
            for check, missing_is_fine in checks:
                waiting.wait(each, check, missing_is_fine)
        except (RemoteError, NotFoundError) as error:
            failures.append(error)
    if failures:
        raise RemoteError("; ".join(map(str, failures)), 1)
    return 0


class Waiting:
    """`deadline`: of time.monotonic, for all together. `once`: look and do not wait."""

    def __init__(self, args: argparse.Namespace, deadline: float, once: bool) -> None:
        self._args = args
        self._client = Client.of(args, "wait")
        self._deadline = deadline
        self._once = once
        self._results = Results(args)

    def named(self, asked: list[Wanted], for_create: bool, for_delete: bool) -> list[Wanted]:
        """Each object by its name. Raises NotFoundError where selectors leave none, UsageError."""
        found: list[Wanted] = []
        for each in asked:
            found += [each] if each.name else self._selected(each, for_create)
        if not found and not for_delete:
            raise NotFoundError("no matching resources found")
        return found

    def _selected(self, each: Wanted, for_create: bool) -> list[Wanted]:
        """Those that the selectors leave; with --for=create the first that comes is waited for."""
        message = selection.message_of(self._args, each)
        found = [Found(each.kind, thing) for thing in fetch(self._args, message)]
        if not found and for_create and not self._once:
            with Watching(self._client, message) as watch:
                while (event := watch.next(self._deadline)) is not None:
                    if event["type"] in ("ADDED", "MODIFIED"):
                        found = [Found(each.kind, event["object"])]
                        break
                else:
                    raise RemoteError("timed out waiting for the condition", 1)
        return [Wanted(thing.kind, thing.namespace, thing.name) for thing in found]

    def wait(self, each: Wanted, check: Check, missing_is_fine: bool) -> None:
        """Returns when `check` holds. Raises NotFoundError, RemoteError when the time is up."""
        where = f"{each.kind.plural}/{each.name}"
        missing = f'{each.kind.plural} "{each.name}" not found'
        message = {**selection.message_of(self._args, each), "selector": "", "field_selector": ""}
        with Watching(self._client, message) as watch:
            first = thing = first_look(watch)
            if check(thing):
                self._met(each, thing)
                return
            if thing is None and not missing_is_fine:
                raise NotFoundError(missing)
            if self._once:
                raise RemoteError(f"condition not met for {where}", 1)
            while True:
                event = watch.next(self._deadline)
                if event is None:
                    raise RemoteError(f"timed out waiting for the condition on {where}", 1)
                uid = first["metadata"]["uid"] if first else None
                gone = event["type"] == "DELETED" or (uid is not None and event["object"]["metadata"]["uid"] != uid)
                if check(None if gone else event["object"]):
                    self._met(each, event["object"])
                    return
                if gone and not missing_is_fine:
                    raise NotFoundError(missing)

    def _met(self, each: Wanted, thing: Object | None) -> None:
        """As kubectl, nothing is printed of what had gone before."""
        if thing is not None:
            self._results.show(each.kind, thing, "condition met")


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


def first_look(watch: Watching) -> Object | None:
    """The object as it is at the beginning; None where there is none."""
    pod: Object | None = None
    while (event := watch.next()) is not None and event["type"] != LISTED:
        pod = event["object"]
    return pod
