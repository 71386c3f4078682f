"""Who a container runs as, from the image's passwd and group."""

from __future__ import annotations

import pytest

from minipod.errors import ContainerError
from minipod.plan.process.passwd import MAX_GROUPS, MAX_ID, parse_id, resolve

PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/var/www:/bin/sh\nbroken line\nbad:x:٣:0::/:/bin/sh\n"
GROUP = "root:x:0:\nwheel:x:10:root,web\nweb:x:34:\nstaff:x:50:other\n"


def who(
    user: str,
    gid: int | None = None,
    groups: tuple[int, ...] = (),
    passwd: str = PASSWD,
    group: str = GROUP,
    **options: bool,
) -> tuple[int, int, tuple[int, ...], str]:
    found = resolve(user, gid, groups, passwd_text=passwd, group_text=group, **options)
    return found.uid, found.gid, found.groups, found.home


def refusal(user: str, gid: int | None = None, passwd: str = PASSWD, group: str = GROUP, **options: bool) -> str:
    with pytest.raises(ContainerError) as caught:
        who(user, gid, (), passwd, group, **options)
    return f"{caught.value.reason}: {caught.value}"


def test_no_user_is_root_with_the_groups_that_the_image_gives_it() -> None:
    assert who("") == (0, 0, (0, 10), "/root")


def test_a_name_is_looked_up_with_its_own_group_and_home() -> None:
    assert who("web") == (33, 34, (10, 34), "/var/www")


def test_a_number_that_the_image_knows_has_the_account_s_group() -> None:
    assert who("33") == (33, 34, (10, 34), "/var/www")


def test_a_number_that_the_image_does_not_know_has_group_0_and_home_at_the_root() -> None:
    assert who("1000") == (1000, 0, (0,), "/")


@pytest.mark.parametrize("user", ["1000", "01000"])
@pytest.mark.parametrize("name", ["1000", "01000"])
def test_digits_are_a_number_and_never_a_name(user: str, name: str) -> None:
    """An image that names its root 1000 does not turn runAsUser 1000 into root (CVE-2024-40635's kin)."""
    evil = f"{name}:x:0:0:root:/root:/bin/sh\n{PASSWD}"
    assert who(user, passwd=evil, group=f"wheel:x:10:{name}\n") == (1000, 0, (0,), "/")
    assert who("web:1000", group=f"{name}:x:0:\n{GROUP}")[1] == 1000


def test_a_group_after_the_colon_wins_over_the_account_s() -> None:
    assert who("web:staff")[:2] == (33, 50)
    assert who("1000:2000")[:2] == (1000, 2000)
    assert who("web:")[:2] == (33, 34)
    assert who(":staff")[:2] == (0, 50)


def test_run_as_group_wins_over_everything() -> None:
    assert who("web:staff", gid=7)[1] == 7


def test_groups_are_the_primary_the_image_s_and_the_pod_s_each_once_in_order() -> None:
    assert who("web", groups=(99, 10, 2))[2] == (2, 10, 34, 99)


def test_strict_supplemental_groups_leave_the_image_s_out() -> None:
    assert who("web", groups=(99,), merge_image_groups=False)[2] == (34, 99)


def test_the_group_of_the_user_s_own_name_is_no_supplementary_one() -> None:
    """containerd's WithAdditionalGIDs."""
    assert who("web", group="web:x:70:web\nwheel:x:10:web\n")[2] == (10, 34)


def test_a_name_that_the_image_does_not_know_is_an_error_that_says_so() -> None:
    known = "CreateContainerError: unable to find user nobody: no matching entries in passwd file"
    assert refusal("nobody") == known
    assert refusal("nobody", passwd="", group="") == known
    assert (
        refusal("web:nobody") == "CreateContainerError: unable to find group nobody: no matching entries in group file"
    )


@pytest.mark.parametrize(
    "text", ["٣", "0", "1_0", " 1", "-1", "+1", "2147483648", "4294967296", "0x10", "", "9" * 5000]
)
def test_only_ascii_digits_within_range_are_an_id(text: str) -> None:
    assert parse_id(text) == (0 if text == "0" else None)


@pytest.mark.parametrize("text", ["2147483648", "4294967295", "4294967296", "-1", "+0", "-0", "9" * 5000])
@pytest.mark.parametrize("place", ["{}", "web:{}"])
def test_a_number_that_is_no_id_is_refused_and_not_looked_up_as_a_name(text: str, place: str) -> None:
    evil = f"{text}:x:5:5::/:/bin/sh\n{PASSWD}"
    assert "out of range, must be from 0 to 2147483647" in refusal(
        place.format(text), passwd=evil, group=f"{text}:x:5:"
    )


def test_the_largest_id_is_one() -> None:
    assert who(f"{MAX_ID}:{MAX_ID}")[:2] == (MAX_ID, MAX_ID)


@pytest.mark.parametrize("text", ["2147483648", "4294967296", "\uff10", "1_0", " 5", "+5", "-5", "x", "9" * 5000])
def test_a_line_that_is_meant_has_numbers_that_are_ids(text: str) -> None:
    """The reference wraps or takes 0, and so root, for some of them."""
    assert "is no number from 0 to" in refusal("app", passwd=f"app:x:{text}:5::/:\n")
    assert "is no number from 0 to" in refusal("app", passwd=f"app:x:5:{text}::/:\n")
    assert "is no number from 0 to" in refusal("5:app", group=f"app:x:{text}:\n")


def test_a_line_that_is_not_meant_may_say_anything() -> None:
    text = f"a:x:x:x::/:\n#b:x:0:0::/\n+::::::\n::\n\n   \n:x\nweb:x:99999999999999999999:0::/:\n{PASSWD}"
    assert who("33", passwd=text) == (33, 34, (10, 34), "/var/www")
    assert who("0", passwd=text) == (0, 0, (0,), "/")  # to passwd(5) `#b` is a name
    assert who("web", group=f"#staff:x:5:web\na:x:b:web\nb:x:\uff10:web\nx\n+\n+:::\n{GROUP}")[2] == (10, 34)


@pytest.mark.parametrize(
    ("line", "gid", "home"),
    [
        ("app:x:7:8:gecos:/home/app:/bin/sh:more:fields", 8, "/home/app"),
        ("app:x:7:8::/home/app", 8, "/home/app"),
        ("app:x:7:8", 8, "/"),
        ("app:x:7:", 0, "/"),
        ("app:x:7", 0, "/"),
        ("\t app:x:7:8::/home/app \r", 8, "/home/app"),
        ("app:x:7:8::/home/a\u2028pp:", 8, "/home/a\u2028pp"),  # a line to Python, not to passwd(5)
        ("app:x:7:8::/home/\0app:", 8, "/"),
    ],
)
def test_lines_are_read_as_tolerantly_as_by_the_reference(line: str, gid: int, home: str) -> None:
    text = f"{line}\napp:x:0:0::/root:\n"
    assert who("app", passwd=text) == (7, gid, (gid,), home)
    assert who("7", passwd=text) == (7, gid, (gid,), home)


def test_a_user_without_a_number_is_not_root() -> None:
    assert 'uid of user app: "" is no number' in refusal("app", passwd="app\n")


def test_a_name_with_digits_in_it_is_a_name() -> None:
    text = "1_0:x:9:9::/:\n٣:x:8:8::/:\nu1:x:7:7::/:\n"
    assert [who(name, passwd=text)[0] for name in ("1_0", "٣", "u1")] == [9, 8, 7]


def test_run_as_non_root_is_held_against_the_uid_that_comes_out() -> None:
    evil = "app:x:0:0::/:\n"
    message = "CreateContainerConfigError: container has runAsNonRoot and would run as root (uid 0)"
    for user in ("", "0", "00", "app", ":5"):
        assert refusal(user, passwd=evil, run_as_non_root=True) == message
    assert who("5", passwd=evil, run_as_non_root=True)[0] == 5


def test_the_number_of_groups_is_bounded() -> None:
    many = "".join(f"g{n}:x:{n}:web\n" for n in range(1, MAX_GROUPS + 1))
    assert len(who("web", group=many)[2]) == MAX_GROUPS
    assert f"is in {MAX_GROUPS + 1} groups" in refusal("web", group=f"{many}more:x:9999:web\n")


def test_a_user_is_three_fields_at_most() -> None:
    assert refusal("x:y:z") == 'CreateContainerError: invalid USER value "x:y:z"'


def test_messages_show_the_beginning_of_what_an_image_says() -> None:
    long = "n" * (4 << 20)
    for said in (
        refusal(long),
        refusal(f"web:{long}"),
        refusal("9" * (1 << 20)),
        refusal(f"a:b:{long}"),
        refusal("app", passwd=f"app:x:{long}:0::/:"),
        refusal(long, passwd=f"{long}:x:{long}:0::/:"),
        refusal("web", group=f"{long}:x:{MAX_ID + 1}:web"),
    ):
        assert len(said) < 250
