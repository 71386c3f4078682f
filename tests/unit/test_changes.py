"""What `--change` says about an image."""

from __future__ import annotations

import pytest

from minipod.runtime.images.changes import settings_of


def test_each_instruction_becomes_its_setting() -> None:
    lines = [
        'ENTRYPOINT ["nginx"]',
        'cmd ["-g", "daemon off;"]',
        'ENV A=1 B="two words"',
        "ENV C the rest",
        "EXPOSE 80 53/udp",
        "EXPOSE 443/tcp",
        "LABEL a=b",
        "STOPSIGNAL SIGQUIT",
        "USER www-data:adm",
        'VOLUME ["/data"]',
        "VOLUME /more",
        "WORKDIR /srv/my site",
    ]
    assert settings_of(lines, {"PATH": "/bin"}) == {
        "Entrypoint": ["nginx"],
        "Cmd": ["-g", "daemon off;"],
        "Env": ["PATH=/bin", "A=1", "B=two words", "C=the rest"],
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "443/tcp": {}},
        "Labels": {"a": "b"},
        "StopSignal": "SIGQUIT",
        "User": "www-data:adm",
        "Volumes": {"/data": {}, "/more": {}},
        "WorkingDir": "/srv/my site",
    }


def test_a_command_that_is_no_list_is_the_shell_s() -> None:
    assert settings_of(["CMD echo $HOME"], {})["Cmd"] == ["/bin/sh", "-c", "echo $HOME"]
    assert settings_of(["CMD [ -e /x ]"], {})["Cmd"] == ["/bin/sh", "-c", "[ -e /x ]"]


def test_a_variable_that_is_set_again_has_its_last_value() -> None:
    assert settings_of(["ENV PATH=/a", "ENV PATH=/b"], {"PATH": "/"})["Env"] == ["PATH=/b"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("RUN apt update", "must begin with one of CMD"),
        ("CMD", "nothing follows CMD"),
        ("EXPOSE http", "is no port"),
        ("EXPOSE 80/quic", "is no port"),
        ("EXPOSE 70000", "is no port"),
        ("CMD [1]", "strings only"),
        ("ENV A=1 B", "is not NAME=VALUE"),
        ('ENV A="', "No closing quotation"),
    ],
)
def test_what_cannot_be_read_is_reported(line: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings_of([line], {})
