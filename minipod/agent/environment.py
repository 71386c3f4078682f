"""The agent's environment (layer 5): of its caller's only what is a setting. The command line imports it."""

from __future__ import annotations

from collections.abc import Mapping

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: settings of pulls and of systemd; all else is of the shell that happened to be the first, its HOME and TMPDIR too
KEPT = frozenset(
    ("PYTHONPATH", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "SSL_CERT_FILE", "SSL_CERT_DIR", "NOTIFY_SOCKET",
     "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy")
)  # fmt: skip
KEPT_PREFIX = "MINIPOD_"


def kept_environment(caller: Mapping[str, str]) -> dict[str, str]:
    """With a locale that can name every file. Its HOME is set by the agent: the root user's."""
    kept = {name: value for name, value in caller.items() if name in KEPT or name.startswith(KEPT_PREFIX)}
    return {**kept, "PATH": PATH, "LANG": "C.UTF-8"}
