"""The options of the verbs that take manifests, and the texts that they mean (layer 6): -f, -R, -k, --validate …"""

from __future__ import annotations

import argparse
import os

from minipod.cli.files import read_files
from minipod.cli.trouble import problem
from minipod.cli.values import Object
from minipod.errors import UsageError

_VALIDATIONS = {"true": "strict", "1": "strict", "false": "ignore", "0": "ignore"}
_DRY_RUNS = {"true": "client", "1": "client", "false": "none", "0": "none"}
DRY_RUN_WORDS = {"none": "", "client": " (dry run)", "server": " (server dry run)"}


def add_manifests(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="manifests, YAML or JSON; - is stdin")
    add_filename(parser, "the same as FILE")


def add_filename(parser: argparse.ArgumentParser, words: str) -> None:
    parser.add_argument("-f", "--filename", action="append", default=[], metavar="FILE", help=words)
    parser.add_argument("-R", "--recursive", action="store_true", help="also what is in the directories of a directory")
    parser.add_argument(
        "-k", "--kustomize", metavar="DIR", help="what the kustomize (or kubectl) of this host makes of a directory"
    )


def add_validate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--validate",
        nargs="?",
        const="strict",
        default="strict",
        type=_validation,
        metavar="HOW",
        help="unknown and repeated fields are errors (strict, true: the default), warnings (warn) or neither "
        "(ignore, false)",
    )


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run",
        nargs="?",
        const="client",
        default="none",
        type=_dry_run,
        metavar="MODE",
        help="change nothing; client: say what would be sent, server: what would be stored",
    )


def _validation(text: str) -> str:
    found = _VALIDATIONS.get(text.lower(), text)
    if found not in ("strict", "warn", "ignore"):
        raise argparse.ArgumentTypeError(f'"{text}": must be one of: strict (or true), warn, ignore (or false)')
    return found


def _dry_run(text: str) -> str:
    found = _DRY_RUNS.get(text.lower(), text)
    if found not in DRY_RUN_WORDS:
        raise argparse.ArgumentTypeError(f'invalid value ({text}): must be "none", "server", or "client"')
    return found


def is_given(args: argparse.Namespace) -> bool:
    """Whether the command line names a manifest."""
    return bool(getattr(args, "files", None) or args.filename or args.kustomize)


def texts_of(args: argparse.Namespace, verb: str) -> list[Object]:
    """The texts of the manifests: `name`, `text`. Raises UsageError."""
    names = [*(getattr(args, "files", None) or []), *args.filename]
    if names and args.kustomize:
        raise UsageError("only one of -f or -k can be specified")
    if args.kustomize:
        return [{"name": f"kustomize build {args.kustomize}", "text": kustomized(args.kustomize, verb)}]
    if not names:
        example = "pod.yaml" if verb == "run" else "-f objects.yaml"
        raise UsageError(f"{verb}: which manifest? use for example: minipod {verb} {example}")
    return list(read_files(names, args.recursive))


def kustomized(directory: str, verb: str) -> str:
    """What kustomize prints for a directory. Raises UsageError: there is none, or its own words."""
    import shutil
    import subprocess

    if not os.path.isdir(directory):
        raise UsageError(f"-k {directory}: not a directory")
    tool = shutil.which("kustomize")
    words = [tool, "build"] if tool else [shutil.which("kubectl"), "kustomize"]
    if words[0] is None:
        raise UsageError(
            f"-k {directory}: there is no kustomize on this host; where there is one: "
            f"kustomize build {directory} | minipod {verb} -f -"
        )
    command = [str(word) for word in (*words, directory)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise UsageError(problem(error, command[0])) from None
    if done.returncode:
        raise UsageError(f"-k {directory}: {' '.join(done.stderr.split()) or f'{command[0]} failed'}")
    return done.stdout
