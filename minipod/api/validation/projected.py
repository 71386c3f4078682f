"""Rules for projected volumes (layer 1, pure).

`clusterTrustBundle` and `podCertificate` are not here: their features are off in 1.36, so that the server takes them
away before it validates, and so does `api.defaults`.
"""

from __future__ import annotations

from minipod.api.types import PodSpec, ProjectedVolumeSource, ServiceAccountTokenProjection, VolumeProjection
from minipod.api.validation.check import Check, Path
from minipod.api.validation.formats import file_path
from minipod.api.validation.volume_files import downward_file, file_mode, items

TOKEN_SHORTEST_S = 600
TOKEN_LONGEST_S = 1 << 32


def projected(check: Check, volume: ProjectedVolumeSource, path: Path) -> None:
    file_mode(check, volume.default_mode, path, "defaultMode")
    paths: set[str] = set()
    for index, source in enumerate(volume.sources or ()):
        projection(check, source, path, (path, "sources", index))
        for file in _file_paths(source):
            if file in paths:
                check.invalid(path, value=file, why="is the path of two files")
            paths.add(file)


def projection(check: Check, source: VolumeProjection, volume_path: Path, path: Path) -> None:
    if source.secret is not None:
        check.required(source.secret.name, path, "secret", "name")
        items(check, source.secret.items, (path, "secret", "items"))
    if source.config_map is not None:
        check.required(source.config_map.name, path, "configMap", "name")
        items(check, source.config_map.items, (path, "configMap", "items"))
    if source.downward_api is not None:
        for file in source.downward_api.items:
            downward_file(check, file, (path, "downwardAPI"))
    if source.service_account_token is not None:
        token(check, source.service_account_token, volume_path, (path, "serviceAccountToken"))
    kinds = (source.secret, source.config_map, source.downward_api, source.service_account_token)
    if kinds.count(None) < len(kinds) - 1:
        check.forbidden(path, why="a source is of one kind only")


def token(check: Check, source: ServiceAccountTokenProjection, volume_path: Path, path: Path) -> None:
    if source.expiration_seconds is not None:
        check.in_range(source.expiration_seconds, TOKEN_SHORTEST_S, TOKEN_LONGEST_S, path, "expirationSeconds")
    # The server names the volume's path here.
    if check.required(source.path, volume_path, "path"):
        check.format(source.path, file_path, volume_path, "path")


def _file_paths(source: VolumeProjection) -> list[str]:
    paths: list[str] = []
    if source.secret is not None:
        paths += [item.path for item in source.secret.items]
    if source.config_map is not None:
        paths += [item.path for item in source.config_map.items]
    if source.downward_api is not None:
        paths += [file.path for file in source.downward_api.items]
    return [path for path in paths if path]


def tokens_have_an_account(check: Check, spec: PodSpec, path: Path) -> None:
    """Without a service account there is no one to make a token for."""
    if spec.service_account_name:
        return
    for number, volume in enumerate(spec.volumes):
        for index, source in enumerate((volume.projected.sources or ()) if volume.projected else ()):
            if source.service_account_token is not None:
                at = (path, "volumes", number, "projected", "sources", index, "serviceAccountToken")
                check.forbidden(at, why="serviceAccountName must be set for a token")
