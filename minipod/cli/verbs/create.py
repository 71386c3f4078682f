"""`minipod create` (layer 6): objects from manifests, or a ConfigMap or Secret from files and words, as kubectl's."""

from __future__ import annotations

import argparse
import json
import os

from minipod.cli.applying import Results, send, show_here
from minipod.cli.manifest_options import add_dry_run, add_filename, add_validate, is_given, texts_of
from minipod.cli.show import formats
from minipod.cli.trouble import problem
from minipod.cli.values import Any, Object
from minipod.errors import UsageError

SECRET_KINDS = ("generic", "docker-registry", "tls")
DOCKER_SERVER = "https://index.docker.io/v1/"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Create objects: from manifests (-f), or a configmap or secret from files and literals."
    parser.usage = (
        "minipod create -f FILE… | create configmap NAME [options] | create namespace NAME\n"
        "       minipod create secret generic|docker-registry|tls NAME [options]"
    )
    parser.add_argument("words", nargs="*", metavar="configmap NAME | secret KIND NAME | namespace NAME", help="what")
    add_filename(parser, "manifests; - is stdin")
    parser.add_argument("-l", "--selector", metavar="KEY=VALUE,…", help="with -f: only the objects with these labels")
    parser.add_argument(
        "--from-file", action="append", default=[], metavar="[KEY=]PATH", help="a file, or each file of a directory"
    )
    parser.add_argument("--from-literal", action="append", default=[], metavar="KEY=VALUE", help="a text")
    parser.add_argument("--from-env-file", action="append", default=[], metavar="PATH", help="lines of KEY=VALUE")
    parser.add_argument("--type", default="", metavar="TYPE", help="of a generic secret (Opaque)")
    parser.add_argument("--docker-server", default=DOCKER_SERVER, metavar="URL", help="the registry")
    parser.add_argument("--docker-username", default="", metavar="NAME", help="the user there")
    parser.add_argument("--docker-password", default="", metavar="TEXT", help="the password or token")
    parser.add_argument("--docker-email", default="", metavar="ADDRESS", help="the user's address")
    parser.add_argument("--cert", default="", metavar="PATH", help="of a tls secret: the certificate, PEM")
    parser.add_argument("--key", default="", metavar="PATH", help="of a tls secret: its key, PEM")
    formats.configure(parser)
    add_dry_run(parser)
    add_validate(parser)
    parser.add_argument("--save-config", action="store_true", help="apply continues from what is written here")


def refuse(words: list[str]) -> None:
    """Raises UsageError for what kubectl makes and minipod does not, whatever options follow: `create deployment …`."""
    kind = next((word for word in words if not (word.startswith("--") and "=" in word)), "")
    if kind in _ELSEWHERE:  # the first word: not the value of an option
        raise UsageError(f"create {kind}: {_ELSEWHERE[kind]}")


def run(args: argparse.Namespace) -> int:
    results = Results(args)
    if is_given(args):
        if args.words:
            raise UsageError("-f cannot be combined with an object to be made")
        check_options(args, "")
        files = texts_of(args, "create")
    else:
        if args.selector or args.recursive:
            raise UsageError(f"{'-l' if args.selector else '-R'} goes with -f")
        made = object_of(args)
        if args.namespace and made["kind"] != "Namespace":
            made["metadata"]["namespace"] = args.namespace
        name = f"{made['kind'].lower()}/{made['metadata']['name']}"
        if args.dry_run == "client":
            results.show(
                {"event": "applied", **made["metadata"], "kind": made["kind"], "result": "created", "object": made}
            )
            return 0
        files = [{"name": name, "text": json.dumps(made), "made": True}]
    if args.dry_run == "client":
        show_here(args, files, results, "created", args.selector or "")
    else:
        send(args, files, "create", results, selector=args.selector or "", save_config=args.save_config)
    return 0


#: options -> what they go with: of an object to be made, each does something or is an error
_DATA = ("from_file", "from_literal", "from_env_file")
_DOCKER = ("docker_server", "docker_username", "docker_password", "docker_email")
_OPTIONS: dict[str, tuple[str, ...]] = {
    "configmap": _DATA,
    "secret generic": (*_DATA, "type"),
    "secret docker-registry": ("from_file", *_DOCKER),
    "secret tls": ("cert", "key"),
    "namespace": (),
    "": (),
}


def check_options(args: argparse.Namespace, what: str) -> None:
    """Raises UsageError for options that say nothing about `what` (empty: manifests)."""
    for name in dict.fromkeys(option for options in _OPTIONS.values() for option in options):
        is_set = getattr(args, name) not in ("", []) and not (
            name == "docker_server" and args.docker_server == DOCKER_SERVER
        )
        if is_set and name not in _OPTIONS[what]:
            owners = ", ".join(f"create {each}" for each, options in _OPTIONS.items() if name in options)
            raise UsageError(f"--{name.replace('_', '-')} goes with {owners}")


_OF_MANIFESTS = "minipod makes configmap, secret and namespace of words; all other kinds of manifests: create -f FILE"
_RUNS_PODS = "minipod runs Pods, nothing that makes Pods: minipod run NAME --image=IMAGE"
_NO_SERVICES = (
    "minipod has no Services: the host reaches every pod at its address (get pods -o wide), others by hostPort"
)
_NO_ACCESS = "minipod has no users and no roles: root on this host may do everything"
#: kubectl's other subcommands -> what to do here
_ELSEWHERE = {
    **dict.fromkeys(("deployment", "deploy", "job", "cronjob", "cj"), _RUNS_PODS),
    **dict.fromkeys(("service", "svc", "ingress", "ing"), _NO_SERVICES),
    **dict.fromkeys(
        ("role", "rolebinding", "clusterrole", "clusterrolebinding", "serviceaccount", "sa", "token"), _NO_ACCESS
    ),
    **dict.fromkeys(("quota", "resourcequota"), "minipod has no quotas: limits are those of each pod"),
    **dict.fromkeys(("poddisruptionbudget", "pdb"), "minipod evicts no pods, so there is nothing to budget"),
    **dict.fromkeys(("priorityclass", "pc"), "minipod preempts no pods, so there are no priorities"),
    **dict.fromkeys(("pod", "pods", "po"), "minipod run NAME --image=IMAGE, or create -f FILE"),
}


def object_of(args: argparse.Namespace) -> Object:
    """The object that the words and options describe. Raises UsageError."""
    words = list(args.words)
    if not words:
        raise UsageError("create: what? use for example: minipod create configmap NAME --from-literal=key=value")
    kind = words.pop(0)
    if kind in ("configmap", "cm"):
        check_options(args, "configmap")
        return _config_map(_one_name(words, "configmap"), data_of(args))
    if kind in ("namespace", "ns"):
        check_options(args, "namespace")
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _one_name(words, "namespace")}}
    if kind != "secret":
        raise UsageError(f"create {kind}: {_OF_MANIFESTS}")
    if not words or words[0] not in SECRET_KINDS:
        raise UsageError(f"create secret: which kind? one of {', '.join(SECRET_KINDS)}")
    sort = words.pop(0)
    check_options(args, f"secret {sort}")
    name = _one_name(words, f"secret {sort}")
    if sort == "generic":
        return _secret(name, data_of(args), args.type)
    if sort == "tls":
        return _secret(name, _tls(args), "kubernetes.io/tls")
    args.from_file = [source if "=" in source else f".dockerconfigjson={source}" for source in args.from_file]
    data = data_of(args) if args.from_file else {".dockerconfigjson": _docker(args)}
    return _secret(name, data, "kubernetes.io/dockerconfigjson")


def _one_name(words: list[str], what: str) -> str:
    if len(words) != 1:
        raise UsageError(f"exactly one NAME is required, got {len(words)}: minipod create {what} NAME")
    return words[0]


def _config_map(name: str, data: dict[str, bytes]) -> Object:
    texts: dict[str, str] = {}
    binary: dict[str, str] = {}
    for key, value in data.items():
        try:
            texts[key] = value.decode()
        except UnicodeDecodeError:
            binary[key] = _base64(value)
    made: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    if texts:
        made["data"] = texts
    if binary:
        made["binaryData"] = binary
    return made


def _secret(name: str, data: dict[str, bytes], sort: str) -> Object:
    made: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
    if data:
        made["data"] = {key: _base64(value) for key, value in data.items()}
    if sort:
        made["type"] = sort
    return made


def _base64(data: bytes) -> str:
    import binascii

    return binascii.b2a_base64(data, newline=False).decode()


def _tls(args: argparse.Namespace) -> dict[str, bytes]:
    if not args.key or not args.cert:
        raise UsageError("key and cert must be specified")
    data = {"tls.crt": _read(args.cert), "tls.key": _read(args.key)}
    for key, mark in (("tls.crt", b"-----BEGIN CERTIFICATE-----"), ("tls.key", b"PRIVATE KEY-----")):
        if mark not in data[key]:
            what = "certificate" if key == "tls.crt" else "key"
            raise UsageError(f"tls: failed to find any PEM data in {what} input")
    return data


def _docker(args: argparse.Namespace) -> bytes:
    missing = [name for name in ("username", "password") if not getattr(args, f"docker_{name}")]
    if missing:
        raise UsageError(f"either --from-file or --docker-{missing[0]} must be specified")
    entry: dict[str, Any] = {"username": args.docker_username, "password": args.docker_password}
    if args.docker_email:
        entry["email"] = args.docker_email
    entry["auth"] = _base64(f"{args.docker_username}:{args.docker_password}".encode())
    return json.dumps({"auths": {args.docker_server: entry}}, separators=(",", ":")).encode()


def data_of(args: argparse.Namespace) -> dict[str, bytes]:
    """Keys and values of --from-file, --from-literal and --from-env-file. Raises UsageError."""
    if args.from_env_file and (args.from_file or args.from_literal):
        raise UsageError("from-env-file cannot be combined with from-file or from-literal")
    data: dict[str, bytes] = {}
    for source in args.from_file:
        for key, value in _from_file(source):
            _add(data, key, value)
    for source in args.from_literal:
        key, equals, text = source.partition("=")
        if not equals or not key:
            raise UsageError(f"invalid literal source {_name_only(source)}, expected key=value")
        _add(data, key, text.encode())
    for path in args.from_env_file:
        for key, value in _from_env_file(path):
            _add(data, key, value)
    return data


def _name_only(source: str) -> str:
    """A literal may be a password: only what stands before the equals sign is repeated."""
    return source.partition("=")[0] + "=…" if "=" in source else "without ="


def _add(data: dict[str, bytes], key: str, value: bytes) -> None:
    import re

    if not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key) or key in (".", "..") or key.startswith(".."):
        raise UsageError(f"{key!r} is not valid as a key: use letters, digits, '-', '_' and '.'")
    if key in data:
        raise UsageError(f'cannot add key "{key}", another key by that name already exists')
    data[key] = value


def _from_file(source: str) -> list[tuple[str, bytes]]:
    key, equals, path = source.partition("=")
    if not equals:
        key, path = "", source
    elif not key or not path or "=" in path:
        raise UsageError(f"key names or file paths cannot contain '=' and neither may be missing: {source}")
    if os.path.isdir(path):
        if key:
            raise UsageError(f'cannot give a key name for a directory path: "{source}"')
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        return [(entry.name, _read(entry.path)) for entry in entries if entry.is_file(follow_symlinks=False)]
    return [(key or os.path.basename(path), _read(path))]


def _from_env_file(path: str) -> list[tuple[str, bytes]]:
    try:
        lines = _read(path).decode().removeprefix("\ufeff").split("\n")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text") from None
    found = []
    for number, whole in enumerate(lines, 1):
        line = whole.rstrip("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not key or any(char.isspace() for char in key):
            raise UsageError(f"{path}: line {number}: must be KEY=VALUE")
        if not equals:  # kubectl takes the value that this process has, or none
            value = os.environ.get(key, "")
        found.append((key, value.encode()))
    return found


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as source:
            return source.read()
    except OSError as error:
        raise UsageError(problem(error, path)) from None
