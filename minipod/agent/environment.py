"""The agent's environment (layer 5): settings of its caller, nothing else. Also imported by the command line."""

from __future__ import annotations

from collections.abc import Mapping

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: settings for pulls; all others, HOME and TMPDIR too, are those of an arbitrary shell
KEPT = frozenset(
    ("PYTHONPATH", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "SSL_CERT_FILE", "SSL_CERT_DIR",
     "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy")
)  # fmt: skip
KEPT_PREFIX = "MINIPOD_"


def kept_environment(caller: Mapping[str, str]) -> dict[str, str]:
    """`KEPT` of the caller, PATH, and a UTF-8 locale for file names. The agent sets HOME to the root user's."""
    kept = {name: value for name, value in caller.items() if name in KEPT or name.startswith(KEPT_PREFIX)}
    return {**kept, "PATH": PATH, "LANG": "C.UTF-8"}
