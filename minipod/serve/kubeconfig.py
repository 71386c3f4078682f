"""`python -m minipod.serve.kubeconfig` (layer 7): what `minipod kubeconfig` becomes. Makes certificates; no agent."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from minipod.errors import FAILURE
from minipod.kernel.error_text import text_of
from minipod.rest.certificates import Certificates, write_private
from minipod.rest.kubeconfig import kubeconfig
from minipod.serve.api import LOCAL_NAMES

ADMIN = ("minipod-admin", ("system:masters",))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("minipod kubeconfig")
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--path", action="store_true")
    parser.add_argument("--user")
    parser.add_argument("--group", action="append", default=[])
    args = parser.parse_args(arguments)
    user, groups = (args.user, tuple(args.group)) if args.user else ADMIN
    certificates = Certificates(f"{args.data_dir}/api", LOCAL_NAMES)
    try:
        text = kubeconfig(certificates, args.server, user, groups)
        if args.path:
            path = certificates.ca.with_name(f"{user}.kubeconfig")
            write_private(path, text.encode())
            text = f"{path}\n"
    except OSError as error:
        print(f"minipod kubeconfig: {text_of(error)}", file=sys.stderr)
        return FAILURE
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
