"""Who a container runs as, from the image's passwd and group."""

from __future__ import annotations

import pytest

from minipod.errors import ContainerError
from minipod.plan.process.passwd import parse_id, resolve

PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/var/www:/bin/sh\nbroken line\nbad:x:٣:0::/:/bin/sh\n"
GROUP = "root:x:0:\nwheel:x:10:root,web\nweb:x:34:\nstaff:x:50:other\n"


def who(
    user: str, gid: int | None = None, groups: tuple[int, ...] = (), **options: bool
) -> tuple[int, int, tuple[int, ...], str]:
    found = resolve(user, gid, groups, passwd_text=PASSWD, group_text=GROUP, **options)
    return found.uid, found.gid, found.groups, found.home


def test_no_user_is_root_with_the_groups_that_the_image_gives_it() -> None:
    assert who("") == (0, 0, (0, 10), "/root")


def test_a_name_is_looked_up_with_its_own_group_and_home() -> None:
    assert who("web") == (33, 34, (34, 10), "/var/www")


def test_a_number_that_the_image_knows_has_the_account_s_group() -> None:
    assert who("33") == (33, 34, (34, 10), "/var/www")


def test_a_number_that_the_image_does_not_know_has_group_0_and_home_at_the_root() -> None:
    assert who("1000") == (1000, 0, (0,), "/")


def test_a_group_after_the_colon_wins_over_the_account_s() -> None:
    assert who("web:staff")[:2] == (33, 50)
    assert who("1000:2000")[:2] == (1000, 2000)


def test_run_as_group_wins_over_everything() -> None:
    assert who("web:staff", gid=7)[1] == 7


def test_supplemental_groups_come_after_the_image_s_and_once() -> None:
    assert who("web", groups=(10, 99))[2] == (34, 10, 99)


def test_strict_supplemental_groups_leave_the_image_s_out() -> None:
    assert who("web", groups=(99,), merge_image_groups=False)[2] == (34, 99)


def test_a_name_that_the_image_does_not_know_is_an_error_that_says_so() -> None:
    with pytest.raises(ContainerError, match='user "nobody" is not in the image') as caught:
        who("nobody")
    assert caught.value.reason == "CreateContainerError"


@pytest.mark.parametrize("text", ["٣", "1_0", " 1", "-1", "+1", "4294967295", "0x10", ""])
def test_only_ascii_digits_within_range_are_an_id(text: str) -> None:
    assert parse_id(text) is None
