"""The command line's front (layer 6): finds the verb, imports only its module, turns errors into one line.

Each verb is a module of `minipod.cli.verbs` with `configure(parser)` and `run(args) -> int`. Nothing here parses
manifests, talks to the agent or imports more than the verb asked for.
"""

from __future__ import annotations

import io
import os
import sys

from minipod.cli.commands import COMPLETE, VERBS, WITH_SUB_VERBS, find_verb
from minipod.cli.patience import patience
from minipod.cli.show.output import escaping_streams, flush, warnings
from minipod.errors import FAILURE, INTERRUPTED, NEGATIVE, NO_READER, SUCCESS, WRONG, MinipodError
from minipod.terminal import indented


def usage() -> str:
    """The text of `minipod --help`, without a parser."""
    lines = [
        "minipod runs Kubernetes Pods on one Linux host, without Kubernetes.",
        "",
        "Usage: minipod COMMAND [options]",
    ]
    lines += ["", "Commands:"]
    lines += [f"  {verb:<14}{text}" for verb, text in VERBS.items()]
    lines += [
        "",
        "Global options:",
        "  --run-dir DIR      what dies with the boot (MINIPOD_RUN_DIR; /run/minipod)",
        "  --data-dir DIR     what survives it (MINIPOD_DATA_DIR; /var/lib/minipod)",
        "  --config FILE      the configuration (MINIPOD_CONFIG; /etc/minipod/config.toml)",
        "  -n, --namespace N  the namespace of the pods (default)",
        "  --request-timeout D  give up on a request that has no answer after 5s, 2m …",
        "  --warnings-as-errors  exit with 1 when there were warnings",
        "  -v, --verbose      show what is sent to the agent",
        "",
        'Use "minipod COMMAND --help" for the options of a command. Try: minipod run examples/localhost.yaml',
    ]
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Run one command line (without the program's name) and return its exit status."""
    if argv[:1] == [COMPLETE]:
        from minipod.cli.complete import main as complete

        return complete(argv[1:])
    verb, rest = find_verb(argv)
    if verb is None or verb == "help":
        if "--version" in rest:
            from minipod import __version__

            print(f"minipod {__version__}")
            return 0
        wanted = bool(verb) or any(word in ("-h", "--help") for word in rest)
        if verb == "help" and rest:
            return main([*rest, "--help"])
        print(usage(), file=sys.stdout if wanted else sys.stderr)
        return SUCCESS if wanted else WRONG
    if verb not in VERBS or verb in WITH_SUB_VERBS:
        from minipod.cli.habits import translated

        verb, rest = translated(verb, rest, VERBS)
    from minipod.cli.options import load_verb, parse

    module = load_verb(verb)
    args = parse(verb, module, rest)
    before = warnings.count
    status = module.run(args)
    count = warnings.count - before
    if args.warnings_as_errors and not status and count:
        print(f"error: {count} warning{'s' * (count > 1)} received", file=sys.stderr)
        return NEGATIVE
    return status


def report(error: MinipodError) -> int:
    """Print an error as one line, and every finding of a manifest on a line of its own."""
    findings = getattr(error, "errors", None) or []
    text = str(error).strip()
    print(f"error: {indented(text, 2)}", file=sys.stderr)
    for finding in findings:
        line = str(finding)
        if line not in text:
            print(f"  {indented(line, 4)}", file=sys.stderr)
    return error.exit_status


def guarded(argv: list[str]) -> int:
    """`main` with every error turned into an exit status, and nothing printed that a terminal would obey."""
    with escaping_streams():
        return _guarded(argv)


def _guarded(argv: list[str]) -> int:
    try:
        status = main(argv)
        flush(1)
        return status
    except MinipodError as error:
        return report(error)
    except BrokenPipeError:
        # the reader closed the pipe: as quiet as a program that SIGPIPE ended, and no complaint at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return NO_READER
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        print(f"error: {_problem(error)}", file=sys.stderr)
        return FAILURE
    except MemoryError:
        print("error: not enough memory: free some, or raise the limits: ulimit -v, ulimit -d", file=sys.stderr)
        return FAILURE
    except Exception as error:
        if any(word in ("-v", "--verbose") for word in argv):
            raise
        print(f"error: internal error: {type(error).__name__}: {error}; -v shows where", file=sys.stderr)
        return FAILURE


def _problem(error: OSError) -> str:
    """With the limit that it means, if any. Where no file can be opened for lack of one, no module can be loaded."""
    try:
        from minipod.cli.trouble import problem

        return problem(error)
    except (OSError, ImportError, MemoryError):
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{(error.strerror or str(error)).lower()}"


def open_missing_streams() -> None:
    """A standard stream that the caller has closed (`>&-`) is /dev/null: no socket may take its number."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, so this one
            setattr(sys, name, os.fdopen(fd, "w" if fd else "r"))


def entry() -> None:
    """The `minipod` program. Exits without the interpreter's slow tear-down: nothing is left to clean up."""
    open_missing_streams()
    # msgspec would take it where it is installed, for 13 ms and nothing that `typing` lacks
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # no locale may turn a name into a failure
    patience.arm()
    status = guarded(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        pass
    os._exit(status)
