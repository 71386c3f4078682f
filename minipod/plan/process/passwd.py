"""Users and groups of an image (layer 2), from the texts of its /etc/passwd and /etc/group. Pure; reads no file.

The rules are containerd's (oci.WithUser, WithAdditionalGIDs) and the kubelet's supplementalGroupsPolicy.
"""

from __future__ import annotations

import msgspec

from minipod.errors import ContainerError

_MAX_ID = 0xFFFFFFFE


class User(msgspec.Struct, frozen=True):
    uid: int
    gid: int
    groups: tuple[int, ...]  # what setgroups gets: the primary group first
    home: str


class _Account(msgspec.Struct, frozen=True):
    name: str
    uid: int
    gid: int
    home: str


def resolve(
    user: str,
    gid: int | None,
    groups: tuple[int, ...],
    *,
    passwd_text: str,
    group_text: str,
    merge_image_groups: bool = True,
) -> User:
    """Who `user` ("", "name", "1000", "name:group", "1000:2000") is in this image.

    `gid` (runAsGroup) wins over the group in `user`, which wins over the passwd entry's; without any it is 0.
    Raises ContainerError (CreateContainerError) for a name that the image does not know.
    """
    wanted, _, wanted_group = user.partition(":")
    account = _find_account(wanted or "0", passwd_text)
    uid = account.uid
    if gid is None:
        gid = _find_group(wanted_group, group_text) if wanted_group else account.gid
    found = [gid]
    if merge_image_groups and account.name:
        found += [number for number, members in _groups(group_text) if account.name in members]
    found += groups
    return User(uid, gid, tuple(dict.fromkeys(found)), account.home or "/")


def parse_id(text: str) -> int | None:
    """ASCII digits within range, or not a number."""
    if text.isascii() and text.isdigit() and int(text) <= _MAX_ID:
        return int(text)
    return None


def _find_account(wanted: str, text: str) -> _Account:
    number = parse_id(wanted)
    for account in _accounts(text):
        if account.name == wanted or (number is not None and account.uid == number):
            return account
    if number is None:
        raise ContainerError(f'user "{wanted}" is not in the image\'s /etc/passwd', "CreateContainerError")
    return _Account("", number, 0, "/")


def _find_group(wanted: str, text: str) -> int:
    number = parse_id(wanted)
    if number is not None:
        return number
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 3 and fields[0] == wanted:
            found = parse_id(fields[2])
            if found is not None:
                return found
    raise ContainerError(f'group "{wanted}" is not in the image\'s /etc/group', "CreateContainerError")


def _accounts(text: str) -> list[_Account]:
    found = []
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 6:
            uid, gid = parse_id(fields[2]), parse_id(fields[3])
            if uid is not None and gid is not None:
                found.append(_Account(fields[0], uid, gid, fields[5]))
    return found


def _groups(text: str) -> list[tuple[int, list[str]]]:
    found = []
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 4:
            number = parse_id(fields[2])
            if number is not None:
                found.append((number, fields[3].strip().split(",")))
    return found
