"""Generated images: whatever their configuration, passwd and group say, a container is who it is meant to be."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from minipod.errors import ContainerError, ImageError
from minipod.plan.pod import image_identity, verify_run_as_non_root
from minipod.plan.process import passwd
from minipod.plan.process.identity import Exec
from minipod.runtime.images.manifests import Descriptor, FoundImage, architecture, read_image
from tests.layouts import MEDIA
from tests.unit.test_container_plan import plan
from tests.unit.test_plan_pod import container_of, pod_of

TOKENS = ["root", "app", "1000", "0", "00", "7", "+0", "-1", "2147483648", "4294967296", "9" * 30, "\u0660", "1_0",
          "", " ", "x", "#", "+", ",", "\r", "\x85", "\0", "/home/app"]  # fmt: skip
tokens = st.sampled_from(TOKENS)
fields = st.one_of(tokens, st.lists(tokens, max_size=3).map(",".join), st.text(max_size=6))
lines = st.lists(fields, max_size=9).map(":".join)
files = st.one_of(st.lists(lines, max_size=8).map("\n".join), st.text(max_size=60))
users = st.one_of(fields, st.tuples(fields, fields).map(":".join))
ids = st.one_of(st.none(), st.integers(0, passwd.MAX_ID))


def resolved(
    user: str, passwd_text: str, group_text: str, gid: int | None = None, **options: bool
) -> passwd.User | None:
    """None where the image is refused."""
    try:
        return passwd.resolve(user, gid, (5,), passwd_text=passwd_text, group_text=group_text, **options)
    except ContainerError:
        return None


@given(users, ids, files, files, st.booleans())
@example("1000", None, "1000:x:0:0::/:\n", "", True)
@example("app", None, "app:x:4294967296:0::/:\n", "", True)
@example("app", None, "app:x:abc:0::/:\n", "", True)
def test_whoever_is_found_has_ids_within_range_and_is_root_only_where_that_was_said(
    user: str, gid: int | None, passwd_text: str, group_text: str, merge: bool
) -> None:
    found = resolved(user, passwd_text, group_text, gid, merge_image_groups=merge)
    if found is None:
        return
    numbers = (found.uid, found.gid, *found.groups)
    assert all(0 <= number <= passwd.MAX_ID for number in numbers)
    assert list(found.groups) == sorted({*found.groups, found.gid, 5})
    assert "\0" not in found.home
    name = user.partition(":")[0]
    if passwd.parse_id(name or "0") is not None:
        assert found.uid == int(name or "0")
    else:  # by name: a line says so
        assert any(line.strip(passwd.SPACE).split(":")[0] == name for line in passwd_text.split("\n"))
    assert gid in (None, found.gid)
    assert (resolved(user, passwd_text, group_text, gid, run_as_non_root=True) is None) == (found.uid == 0)
    if not merge:
        assert found.groups == tuple(sorted({found.gid, 5}))


@given(users, files, files)
def test_no_user_of_an_image_passes_the_kubelet_s_check_and_is_root(
    user: str, passwd_text: str, group_text: str
) -> None:
    pod = pod_of({"securityContext": {"runAsNonRoot": True}})
    if verify_run_as_non_root(pod, pod.spec.containers[0], user) is not None:
        return
    security = container_of({"securityContext": {"runAsNonRoot": True}}, image_user=user).security
    uid, name = image_identity(user)
    assert uid is not None
    assert (security.run_as_user, name) == (uid, "")
    found = resolved(str(uid), passwd_text, group_text)
    assert found is None or found.uid == uid != 0


words = st.lists(
    st.one_of(
        st.none(), st.integers(), st.sampled_from(["", "sh", "A=1", "=x", "A", "PATH", "\0", "/w"]), st.text(max_size=5)
    ),
    max_size=4,
)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=8),
    words,
    st.dictionaries(st.text(max_size=5), st.none(), max_size=3),
)
keys = [
    "Entrypoint",
    "Cmd",
    "Env",
    "WorkingDir",
    "User",
    "StopSignal",
    "Volumes",
    "ExposedPorts",
    "entrypoint",
    "Shell",
]
strings = st.lists(st.sampled_from(["", "sh", "A=1", "=x", "A", "PATH", "\0", "/w", "A==", "é"]), max_size=4)
right = st.fixed_dictionaries({}, optional={key: st.one_of(st.none(), strings) for key in keys[:3]} | {"User": users})
configs = st.one_of(right, st.fixed_dictionaries({}, optional=dict.fromkeys(keys, values)), values)


def image_of(config: Any) -> FoundImage | None:
    """As it is loaded; None where it is refused."""
    written = {"architecture": architecture(), "os": "linux", "config": config, "rootfs": {"diff_ids": []}}
    blobs: dict[str, bytes] = {}

    def blob(data: Any, kind: str) -> dict[str, Any]:
        encoded = json.dumps(data).encode()
        digest = f"sha256:{hashlib.sha256(encoded).hexdigest()}"
        blobs[digest] = encoded
        return {"mediaType": f"{MEDIA}.{kind}", "digest": digest, "size": len(encoded)}

    manifest = blob({"schemaVersion": 2, "config": blob(written, "config.v1+json"), "layers": []}, "manifest.v1+json")
    with contextlib.suppress(ImageError):
        return read_image(msgspec.convert(manifest, Descriptor), lambda wanted: blobs[wanted.digest], "test")
    return None


@given(configs)
@example({"Entrypoint": [""], "Cmd": ["sh"], "Env": None})
@example({"Entrypoint": "sh", "Cmd": {"a": 1}})
@example(None)
def test_any_configuration_of_an_image_makes_a_plan_or_is_refused(config: Any) -> None:
    image = image_of(config)
    if image is None:
        return
    try:
        child = plan(image=image.image_config).child
    except ContainerError:
        assert not image.image_config.cmd
        return
    launch = child[-1]
    assert isinstance(launch, Exec)
    found = image.image_config
    assert launch.argv == (*(() if found.entrypoint == ("",) else found.entrypoint), *found.cmd) != ()
    names = [entry.partition("=")[0] for entry in launch.env]
    assert all("=" in entry and name for entry, name in zip(launch.env, names, strict=True))
    assert len(set(names)) == len(names)
