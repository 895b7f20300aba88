"""The user's line in the image's accounts."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from afenv.run.accounts import account_mounts, with_user
from afenv.run.engines import Engine
from afenv.testing import make_image

PASSWD = "root:x:0:0::/root:/bin/sh\nanalyst:x:1000:1000::/home/analyst:/bin/bash\n"
GROUP = "root:x:0:\nanalyst:x:1000:\n"


@pytest.mark.parametrize(
    ("uid", "gid", "passwd", "group"),
    [
        (1000, 1000, "", ""),
        (0, 0, "", ""),
        (1234, 0, "user:x:1234:0::/run/home:/bin/sh\n", ""),
        (1234, 100, "user:x:1234:100::/run/home:/bin/sh\n", "user:x:100:\n"),
    ],
)
def test_a_line_where_there_is_none(uid, gid, passwd, group):
    assert with_user(PASSWD, GROUP, uid, gid) == (PASSWD + passwd, GROUP + group)


def test_names_that_are_taken():
    assert with_user("", "", 7, 8) == ("analyst:x:7:8::/run/home:/bin/sh\n", "analyst:x:8:\n")
    taken = "analyst:x:1:1:::\nuser:x:2:2:::"
    assert with_user(taken, "", 7, 8)[0].splitlines()[-1].startswith("user7:x:7:")


DOCKER = """case "$1" in
create) echo 123abc ;;
cp) cat "$state/${2#*/etc/}.tar" ;;
esac"""


@pytest.fixture
def docker(fake, tmp_path):
    for name, text in (("passwd", PASSWD), ("group", GROUP)):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return fake("docker", DOCKER), Engine(name="docker", command=(f"{tmp_path}/bin/docker",))


def test_the_image_is_asked_once(docker, store):
    log, engine = docker
    image = make_image(store)
    for _ in range(2):
        passwd, group = account_mounts(engine, image, "abc", store, 1234, 100)
        assert (passwd.target, group.target) == ("/etc/passwd", "/etc/group")
        assert passwd.read_only
        assert passwd.source.read_text().splitlines()[-1].startswith("user:x:1234:100:")
        assert passwd.source.stat().st_mode & 0o444 == 0o444
    calls = [line.split()[0] for line in log.read_text().splitlines()]
    assert calls == ["create", "cp", "cp", "rm"]
    assert account_mounts(engine, image, "abc", store, 1000, 1000) == ()


@pytest.mark.parametrize("name", ["passwd", "nothing"])
def test_an_image_without_accounts(docker, store, tmp_path, name):
    (tmp_path / "passwd.tar").write_bytes(b"")
    assert account_mounts(docker[1], make_image(store), name, store, 1234, 100) == ()
    assert isinstance(docker[0], Path)
