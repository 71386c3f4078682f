"""`minipod set` (layer 6): image, env or resources of pods, as `kubectl set`; `cli.pod_fields` makes the changes."""

from __future__ import annotations

import argparse

from minipod.cli import pod_fields, wanted
from minipod.cli.client import Client
from minipod.cli.fetching import fetch
from minipod.cli.manifest_options import add_dry_run
from minipod.cli.options import namespace_of
from minipod.cli.results import Results, add_local, check_local
from minipod.cli.show import formats
from minipod.cli.values import Object
from minipod.cli.verbs.label import in_manifests
from minipod.cli.wanted import Found
from minipod.errors import ConflictError, ManifestError, UsageError

DONE = {"image": "image updated", "env": "env updated", "resources": "resource requirements updated"}
#: options of one of them alone
_ONLY = {
    "env": ("env", "from_", "keys", "prefix", "list", "overwrite"),
    "resources": ("limits", "requests"),
}
_NAMES = {"from_": "--from", "env": "-e"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Change the image, the environment or the resources of the containers of pods: what Kubernetes lets a pod "
        "change; an image restarts its container, resources are resized in place."
    )
    parser.usage = (
        "minipod set image KIND/NAME CONTAINER=IMAGE… | set env KIND/NAME KEY=VALUE… KEY-…\n"
        "       minipod set resources KIND/NAME [--limits …] [--requests …]"
    )
    parser.add_argument("words", nargs="*", metavar="image|env|resources KIND NAME… …", help="what, of which, to what")
    parser.add_argument(
        "-c", "--containers", metavar="PATTERN", help="env, resources: these containers; * (the default) is all"
    )
    parser.add_argument("-e", "--env", action="append", metavar="KEY=VALUE", help="env: one more variable")
    parser.add_argument("--from", dest="from_", metavar="KIND/NAME", help="env: the keys of a configmap or secret")
    parser.add_argument("--keys", metavar="KEY,…", help="env: with --from these keys alone")
    parser.add_argument("--prefix", metavar="TEXT", help="env: with --from before each name")
    parser.add_argument("--list", action="store_true", default=None, help="env: print the variables, change nothing")
    parser.add_argument(
        "--overwrite", action="store_true", default=None, help="env: change what has a value (the default); or =false"
    )
    parser.add_argument("--limits", metavar="NAME=QUANTITY,…", help="resources: cpu=1,memory=512Mi")
    parser.add_argument("--requests", metavar="NAME=QUANTITY,…", help="resources: cpu=100m,memory=64Mi")
    wanted.add_files(parser)
    parser.add_argument("-l", "--selector", metavar="KEY=VALUE,…", help="the pods with these labels")
    wanted.add_all(parser)
    add_local(parser)
    add_dry_run(parser)
    formats.configure(parser)


def run(args: argparse.Namespace) -> int:
    what, *words = args.words or [""]
    if what not in DONE:
        raise UsageError(f"set: {what or 'what'}? minipod set has image, env and resources; see minipod set --help")
    check(args, what)
    words, pairs = (words, []) if what == "resources" else split(words)
    check_local(args, words)
    results = Results(args)
    for each in in_manifests(args, "set") if args.local else wanted.chosen(args, words, "set"):
        if each.kind.name != "Pod":
            raise UsageError(f"{each.kind.singular}/{each.name}: the object is not a pod: set changes pods")
        if what == "env" and args.list:
            print("\n".join(pod_fields.env_lines(each.object, args.containers or "*")))
            continue
        after = changed(args, what, each, pairs)
        if after != each.object:
            results.show(each.kind, sent(args, what, each, after), DONE[what])
    return 0


def check(args: argparse.Namespace, what: str) -> None:
    """Raises UsageError for an option of another of the three."""
    for owner, options in _ONLY.items():
        for option in options:
            if owner != what and getattr(args, option) not in (None, []):
                raise UsageError(f"set {what}: {_NAMES.get(option, f'--{option}')} goes with set {owner}")
    if what == "image" and args.containers:
        raise UsageError("set image: -c goes with set env and set resources: write CONTAINER=IMAGE")
    if (args.keys or args.prefix) and not args.from_:
        raise UsageError("set env: --keys and --prefix go with --from")


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """(names of objects, pairs): what has `=` or ends with `-` is a pair."""
    first = next((at for at, word in enumerate(words) if "=" in word or word.endswith("-")), len(words))
    for word in words[first:]:
        if not ("=" in word or word.endswith("-")):
            raise UsageError(f"all resources must be specified before changes: {word}")
    return words[:first], words[first:]


def changed(args: argparse.Namespace, what: str, each: Found, pairs: list[str]) -> Object:
    """The pod as it shall be."""
    if what == "image":
        images = dict(word.partition("=")[::2] for word in pairs)
        if not images:
            raise UsageError("at least one image update is required: CONTAINER=IMAGE")
        if "*" in images and len(images) > 1:
            raise UsageError("all containers are already specified by *, but saw more than one pair")
        if empty := [name for name, image in images.items() if not name or not image]:
            raise UsageError(f"invalid image format {empty[0]}: CONTAINER=IMAGE")
        return pod_fields.with_images(each.object, images)
    pattern = args.containers or "*"
    if what == "resources":
        if not (args.limits or args.requests):
            raise UsageError("you must specify an update to requests or limits (in the form of --requests/--limits)")
        limits = pod_fields.quantities(args.limits or "", "--limits")
        requests = pod_fields.quantities(args.requests or "", "--requests")
        return pod_fields.with_resources(each.object, pattern, limits, requests)
    variables = [pod_fields.variable(word) for word in [*pairs, *(args.env or [])] if "=" in word]
    removed = [word[:-1] for word in pairs if "=" not in word]
    variables += from_object(args) if args.from_ else []
    if not variables and not removed:
        raise UsageError("at least one environment variable must be provided")
    try:
        return pod_fields.with_env(each.object, pattern, variables, removed, overwrite=args.overwrite is not False)
    except ConflictError as error:
        raise ConflictError(f"pod/{each.name} {error}") from None


def from_object(args: argparse.Namespace) -> list[Object]:
    """The variables of --from. Raises NotFoundError, UsageError."""
    kind, name = wanted.one_of_kind(args.from_)
    if kind.name not in ("ConfigMap", "Secret"):
        raise UsageError(f"--from={args.from_}: only configmaps and secrets are supported")
    message: Object = {"verb": "get", "kind": kind.plural, "namespace": namespace_of(args), "name": name}
    (thing,) = fetch(args, {**message, "output": "object"})
    keys = [key for key in (args.keys or "").split(",") if key]
    return pod_fields.variables_from({**thing, "kind": kind.name}, keys, args.prefix or "")


def sent(args: argparse.Namespace, what: str, each: Found, after: Object) -> Object:
    """The pod as the agent has it then. Resources are changed by the subresource that may change them."""
    if args.local or args.dry_run == "client":
        return after
    from minipod.api.merge.difference import difference

    message: Object = {
        "verb": "patch",
        "target": each.target(),
        "patch": difference("Pod", each.object, after),
        "type": "strategic",
        "subresource": "resize" if what == "resources" else "",
        "dry_run": args.dry_run == "server",
    }
    try:
        _, answer = Client.of(args, "set").call(message)
    except ManifestError as error:
        remedy = "the same with --dry-run=client -o yaml | minipod replace --force -f -"
        raise ManifestError(f"{error}; to end the pod and start the changed one: {remedy}", error.errors) from None
    thing: Object = answer["object"]
    return thing
