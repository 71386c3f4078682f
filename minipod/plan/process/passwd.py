"""Users and groups of an image (layer 2), from the texts of its /etc/passwd and /etc/group. Pure; reads no file.

The rules are containerd's (oci.WithUser, WithAdditionalGIDs over moby/sys/user) and the kubelet's
supplementalGroupsPolicy. Where the reference reads what is not a number as 0, and so as root, a matching line is an
error here, and any other is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from minipod.errors import ContainerError

MAX_ID = 2**31 - 1  # the kubelet's, containerd's and runc's, though the kernel knows more
MAX_GROUPS = 4096  # of one process; setgroups(2) takes 65536, but they are in every status of the pod too
_SHOWN = 64  # characters
SPACE = " \t\n\v\f\r\x85\xa0"  # Go's bytes.TrimSpace; str.strip() takes more


class User(msgspec.Struct, frozen=True):
    uid: int
    gid: int
    groups: tuple[int, ...]  # what setgroups gets, in ascending order: the primary group is one of them
    home: str


class _Account(msgspec.Struct, frozen=True):
    name: str  # empty: the image does not know the number
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
    run_as_non_root: bool = False,
) -> User:
    """Who `user` ("", "name", "1000", "name:group", "1000:2000") is in this image.

    Digits are a number and never a name. `gid` (runAsGroup) wins over the group in `user`, which wins over the passwd
    entry's; without any it is 0. Raises ContainerError, reason CreateContainerError: a name that the image does not
    know, a number beyond MAX_ID; reason CreateContainerConfigError: root in spite of `run_as_non_root`.
    """
    wanted, _, wanted_group = user.partition(":")
    if ":" in wanted_group:
        raise _refusal(f'invalid USER value "{shown(user)}"')
    account = _find_account(wanted or "0", passwd_text)
    refuse_root(account.uid, run_as_non_root)
    if gid is None:
        gid = _find_group(wanted_group, group_text) if wanted_group else account.gid
    found = {gid, *groups}
    if merge_image_groups and account.name:
        found.update(_groups_of(account.name, group_text))
    if len(found) > MAX_GROUPS:
        raise _refusal(f"user {shown(wanted or '0')} is in {len(found)} groups: at most {MAX_GROUPS} are supported")
    return User(account.uid, gid, tuple(sorted(found)), account.home or "/")


def refuse_root(uid: int, run_as_non_root: bool) -> None:
    """The last word on runAsNonRoot, by the uid that the process gets. Raises ContainerError."""
    if run_as_non_root and uid == 0:
        message = "container has runAsNonRoot and would run as root (uid 0)"
        raise ContainerError(message, "CreateContainerConfigError")


def parse_id(text: str) -> int | None:
    """ASCII digits within range, or not an id."""
    if not _is_digits(text):
        return None
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(MAX_ID)) or int(digits) > MAX_ID:  # int() refuses thousands of digits
        return None
    return int(digits)


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _number(text: str, what: str) -> int | None:
    """None for a name. Raises ContainerError for a number that is not an id."""
    if not _is_digits(text.removeprefix("-").removeprefix("+")):
        return None
    number = parse_id(text)
    if number is None:
        raise _refusal(f"invalid {what} {shown(text)}: out of range, must be from 0 to {MAX_ID}")
    return number


def _find_account(wanted: str, text: str) -> _Account:
    """The first line counts, as everywhere."""
    number = _number(wanted, "user")
    for name, _, uid, gid, _, home in _lines(text, 6, wanted if number is None else str(number)):
        if (parse_id(uid) == number) if number is not None else (name == wanted):
            return _Account(
                name,
                _id(uid, f"uid of user {shown(wanted)}"),
                _id(gid or "0", f"gid of user {shown(wanted)}"),
                _home(home),
            )
    if number is None:
        raise _refusal(f"unable to find user {shown(wanted)}: no matching entries in passwd file")
    return _Account("", number, 0, "/")


def _home(text: str) -> str:
    """NUL would end the variable HOME early: execve(2) takes no such string."""
    return "/" if "\0" in text else text


def _find_group(wanted: str, text: str) -> int:
    number = _number(wanted, "group")
    if number is not None:
        return number
    for name, _, gid, _ in _group_lines(text, wanted):
        if name == wanted:
            return _id(gid, f"gid of group {shown(wanted)}")
    raise _refusal(f"unable to find group {shown(wanted)}: no matching entries in group file")


def _groups_of(name: str, text: str) -> Iterator[int]:
    """The groups that list the user, without the group of the user's own name (not supplementary)."""
    for group, _, gid, members in _group_lines(text, name):
        if group != name and _is_digits(gid) and name in members.split(","):
            yield _id(gid, f"gid of group {shown(group)}")


def _id(text: str, what: str) -> int:
    number = parse_id(text)
    if number is None:
        raise _refusal(f'{what}: "{shown(text)}" is no number from 0 to {MAX_ID}')
    return number


def _group_lines(text: str, word: str) -> Iterator[list[str]]:
    return (fields for fields in _lines(text, 4, word) if not fields[0].startswith("#"))


def _lines(text: str, fields: int, word: str) -> Iterator[list[str]]:
    """That many fields of each line that has the word: missing fields of a short line are empty; empty lines have none.

    The word is searched first: most lines of a long file need not be split.
    """
    for line in text.split("\n"):
        if word in line:
            found = line.strip(SPACE).split(":")
            if found != [""]:
                yield (found + [""] * fields)[:fields]


def shown(text: str) -> str:
    """A value of an image may be as long as its configuration: messages show its start."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _refusal(message: str) -> ContainerError:
    return ContainerError(message, "CreateContainerError")
