"""What a base image is found to be, from its files."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from afenv.errors import AfenvError
from afenv.layers import base_facts
from afenv.layers.base_facts import OperatingSystem
from afenv.layers.base_tree import BaseTree, Folder, Ground, Kept

ELF = b"\x7fELF"


def tree(
    files: Mapping[str, bytes | str] | None = None,
    links: Mapping[str, str] | None = None,
    folders: Mapping[str, Folder] | None = None,
    versions: Mapping[str, str] | None = None,
) -> BaseTree:
    """A tree whose files are all kept; their folders belong to root."""
    contents = {
        path: data.encode() if isinstance(data, str) else data for path, data in (files or {}).items()
    }
    found = dict(folders or {})
    for path in [*contents, *(links or {}), *(folders or {})]:
        while path := path.rpartition("/")[0]:
            found.setdefault(path, Folder(0o755, 0, 0))
    return BaseTree(
        folders=found,
        files={path: len(data) for path, data in contents.items()},
        links=links or {},
        kept={path: Kept(0o644, data) for path, data in contents.items()},
        versions=versions or {},
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n', ("debian", "12", "bookworm", ())),
        (
            "ID='almalinux'\nID_LIKE=\"rhel centos fedora\"\n",
            ("almalinux", "", "", ("rhel", "centos", "fedora")),
        ),
        ("# nothing\n\nNAME=x\n", ("linux", "", "", ())),
        ('ID=alpine\nVERSION_ID=3.20.0\nPRETTY_NAME="half\n', ("alpine", "3.20.0", "", ())),
    ],
)
def test_operating_system(text: str, found: tuple[str, str, str, tuple[str, ...]]) -> None:
    assert base_facts.operating_system(tree({"etc/os-release": text})) == OperatingSystem(*found)
    linked = tree({"usr/lib/os-release": text}, {"etc/os-release": "../usr/lib/os-release"})
    assert base_facts.operating_system(linked) == OperatingSystem(*found)


def test_no_operating_system() -> None:
    assert base_facts.operating_system(tree()) is None
    assert str(OperatingSystem("almalinux", "9.4")) == "almalinux 9.4"


@pytest.mark.parametrize(
    ("path", "data", "version"),
    [
        ("lib64/libc.so.6", ELF + b"\0GNU C Library (GNU libc) stable release version 2.34.\n", "2.34"),
        ("lib64/libc-2.28.so", ELF + b"GNU C Library (GNU libc) stable release version 2.28.\n", "2.28"),
        (
            "usr/lib/x86_64-linux-gnu/libc.so.6",
            ELF + b"GNU C Library (Ubuntu GLIBC 2.35-0ubuntu3.8) stable release version 2.35.\n",
            "2.35",
        ),
        ("lib64/libc.so.6", ELF + b"\0GLIBC_2.2.5\0GLIBC_2.9\0GLIBC_2.17\0GLIBC_PRIVATE\0", "2.17"),
        ("lib64/libc.so.6", ELF + b"\0nothing\0", None),
        ("lib64/libc.so.6", b"#!/bin/sh\nGNU C Library (x) stable release version 2.34.\n", None),
        ("usr/bin/python3.9", ELF + b"\x003.9.18\x00x\x003.11.2\x00", "3.9.18"),
        ("usr/lib64/libpython3.12.so.1.0", ELF + b"\x003.12.0rc3\x00", "3.12.0rc3"),
        ("usr/libexec/platform-python", ELF + b"\x003.6.8\x00", "3.6.8"),
        ("usr/bin/python3", ELF + b"\x003.9.18\x00\x003.11.2\x00", None),
        ("usr/bin/python3.9", ELF + b"\x003.9.18+\x00", "3.9.18"),
        ("usr/lib/libpython3.9.so", ELF + b"\x00/src/Python-3.9.18\x0013.9.2\x00", "3.9.18"),
        ("usr/lib/libpython3.9.so", ELF + b"\x00x-3.9.1\x003.9.18\x00", "3.9.18"),
    ],
)
def test_versions_that_are_written_in_programs(path: str, data: bytes, version: str | None) -> None:
    assert base_facts.is_program(path)
    assert base_facts.version_in(path, data) == version


def test_which_files_are_read() -> None:
    for path in ("usr/bin/python3.9-config", "usr/lib64/libcurl.so.4", "usr/bin/pip3", "lib/libc.so"):
        assert not base_facts.is_program(path), path
    for path in (
        "etc/passwd",
        "var/lib/dpkg/status",
        "usr/lib64/python3.9/site.py",
        "etc/ld.so.conf.d/a.conf",
    ):
        assert base_facts.is_kept(path), path
    for path in ("etc/passwd-", "usr/lib64/python3.9/os.py", "var/lib/dpkg/status-old", "home/a/etc/passwd"):
        assert not base_facts.is_kept(path), path


@pytest.mark.parametrize(
    ("library", "links"),
    [
        ("lib64/libc.so.6", {}),
        ("usr/lib64/libc.so.6", {"lib64": "usr/lib64"}),
        ("lib64/libc-2.28.so", {"lib64/libc.so.6": "libc-2.28.so"}),
        ("lib/x86_64-linux-gnu/libc.so.6", {}),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", {"lib": "usr/lib"}),
    ],
)
def test_glibc(library: str, links: dict[str, str]) -> None:
    found = tree({library: ELF}, links, versions={library: "2.28"})
    assert base_facts.glibc(found, "linux/amd64") == "2.28"
    assert base_facts.glibc(tree({library: ELF}, links), "linux/amd64") is None


def test_glibc_of_another_architecture_is_not_taken() -> None:
    path = "usr/lib/aarch64-linux-gnu/libc.so.6"
    found = tree({path: ELF}, versions={path: "2.36"})
    assert base_facts.glibc(found, "linux/amd64") is None
    assert base_facts.glibc(found, "linux/arm64") == "2.36"


def test_musl() -> None:
    assert base_facts.has_musl(tree({"lib/ld-musl-x86_64.so.1": ELF}))
    assert not base_facts.has_musl(tree({"lib/ld-linux.so.2": ELF}))


@pytest.mark.parametrize(
    ("release", "records", "suite"),
    [
        ("ID=debian\nVERSION_CODENAME=bookworm\n", "var/lib/dpkg/status", "bookworm"),
        ('ID=debian\nVERSION_ID="11"\n', "var/lib/dpkg/status.d/base", "bullseye"),
        ("ID=debian\nVERSION_CODENAME=sid\n", "var/lib/dpkg/status", None),
        ("ID=debian\nVERSION_CODENAME=bookworm\n", "etc/passwd", None),
        ("ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=jammy\n", "var/lib/dpkg/status", None),
    ],
)
def test_debian(release: str, records: str, suite: str | None) -> None:
    assert base_facts.debian_suite(tree({"etc/os-release": release, records: ""})) == suite


def test_shell_accounts_and_merged_usr() -> None:
    passwd = "root:x:0:0::/root:/bin/sh\nbad line\nuser:x:1000:1000::/home/user:/bin/sh\nx:x:7:7:::\n"
    found = tree({"etc/passwd": passwd, "usr/bin/sh": ELF}, {"bin": "usr/bin"})
    assert base_facts.shell(found) == "/bin/sh"
    assert base_facts.shell(tree({"bin/bash": ELF, "bin/sh": ELF})) == "/bin/bash"
    assert base_facts.shell(tree()) is None
    assert [base_facts.home_of(found, uid) for uid in (1000, 7, 5)] == ["/home/user", "/", None]
    assert base_facts.is_merged(found)
    assert not base_facts.is_merged(tree({"bin/sh": ELF}))


def test_links_are_followed() -> None:
    found = tree(
        {"var/opt/a": "a", "usr/lib/b": "b"},
        {
            "opt": "var/opt",
            "lib": "/usr/lib",
            "deep": "opt/../../usr/./lib",
            "loop": "loop",
            "one": "two",
            "two": "one",
        },
    )
    assert found.real("opt/a") == "var/opt/a"
    assert found.real("deep/b") == "usr/lib/b"
    assert found.real("loop/a") is None
    assert found.real("one") is None
    assert found.names("opt") == ["a"]
    assert found.names("") == ["deep", "lib", "loop", "one", "opt", "two", "usr", "var"]
    assert found.is_folder("opt")
    assert not found.is_folder("nothing")
    assert found.exists("lib/b")
    assert not found.exists("loop")


def test_ground() -> None:
    ground = Ground(
        tree({"var/opt/a": "a"}, {"opt": "var/opt", "loop": "loop"}, {"srv": Folder(0o2770, 5, 6)})
    )
    assert ground.place("opt/conda/bin/x") == "var/opt/conda/bin/x"
    assert ground.place("opt") == "opt"
    assert ground.follow("opt") == "var/opt"
    assert ground.folder("srv") == (0o2770, 5, 6)
    assert ground.holds_file("var/opt/a")
    for path in ("loop/a", "a/../b", "a//b", "./a"):
        with pytest.raises(AfenvError) as caught:
            ground.place(path)
        assert caught.value.code == "E304"
