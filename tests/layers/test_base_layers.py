"""Layers on a base image: where they lie, how many there are, and what the system layer adds."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from afenv.documents.lock import (
    LockedBase,
    LockedBaseLayer,
    LockedDeb,
    LockedEnvironment,
    LockedFile,
    LockedPython,
    LockedWheel,
)
from afenv.errors import AfenvError
from afenv.layers.base_dpkg import read_group
from afenv.layers.base_system import write_base_system
from afenv.layers.base_tree import BaseTree, Folder, Ground, Kept
from afenv.layers.deb import write_debs
from afenv.layers.plan import LIMIT, TOTAL, plan_layers
from afenv.layers.write import layer_key
from afenv.layers.writer import LayerWriter


class Blob:
    """A blob in memory."""

    def __init__(self) -> None:
        self.data = b""

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        self.data += bytes(data)
        return len(data)

    def digest(self) -> str:
        return ""

    def members(self) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(self.data))) as tar:
            return {
                member.name: (member, tar.extractfile(member).read() if member.isreg() else b"")  # type: ignore[union-attr]
                for member in tar
            }


def a_tree(
    files: Mapping[str, bytes | str], links: Mapping[str, str] | None = None, **folders: Folder
) -> BaseTree:
    contents = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
    found = dict(folders)
    for path in [*contents, *(links or {}), *folders]:
        while path := path.rpartition("/")[0]:
            found.setdefault(path, Folder(0o755, 0, 0))
    return BaseTree(
        folders=found,
        files={path: len(data) for path, data in contents.items()},
        links=links or {},
        kept={path: Kept(0o640 if "shadow" in path else 0o644, data) for path, data in contents.items()},
    )


@dataclass
class Opened:
    """A base whose files are all kept."""

    tree: BaseTree

    def contents(self, paths: Collection[str]) -> dict[str, bytes]:
        return {path: self.tree.kept[path].data for path in paths}


def a_base(number: int = 1, **more: Any) -> LockedBase:
    digest = "sha256:" + "a" * 64
    layer = LockedBaseLayer(diff_id=digest, digest=digest, size=1, media_type="tar")
    values: dict[str, Any] = {
        "reference": "registry.example.org/base:1",
        "digest": digest,
        "size": 1,
        "media_type": "m",
        "config": digest,
        "config_size": 1,
        "layers": (layer,) * number,
    }
    return LockedBase(**values | more)


def an_environment(
    base: LockedBase | None, debs: Collection[LockedDeb] = (), **more: Any
) -> LockedEnvironment:
    return LockedEnvironment(
        request="", platform="linux/amd64", as_of="2026-01-01T00:00:00Z", base=base, debs=tuple(debs), **more
    )


def system_of(tree: BaseTree, packages: list[Any], **base: Any) -> tuple[dict[str, Any], list[str]]:
    """The members of the system layer by path, and the warnings."""
    blob = Blob()
    writer = LayerWriter(blob, mtime=0, ground=Ground(tree))
    environment = an_environment(a_base(**base), [deb for deb, _ in packages])
    paths = {deb.file.sha256: path for deb, path in packages}
    warnings = write_base_system(environment, Opened(tree), paths, writer)
    writer.finish()
    return blob.members(), warnings


# Where things lie


def test_folders_of_the_base_stay_as_they_are() -> None:
    tree = a_tree({"home/jovyan/.profile": ""}, **{"home/jovyan": Folder(0o2770, 1000, 100)})
    blob = Blob()
    writer = LayerWriter(blob, mtime=7, ground=Ground(tree))
    writer.file("home/jovyan/work/a.txt", 0o644, b"a")
    writer.directory("home/jovyan", 0o700)
    writer.finish()
    members = blob.members()
    folder = members["home/jovyan"][0]
    assert (folder.mode, folder.uid, folder.gid, folder.mtime) == (0o2770, 1000, 100, 7)
    assert (members["home"][0].mode, members["home/jovyan/work"][0].uid) == (0o755, 0)


def test_numbers_of_owners_that_octal_digits_do_not_hold() -> None:
    tree = a_tree({}, data=Folder(0o750, 2_000_000_123, 3_000_000_000))
    blob = Blob()
    writer = LayerWriter(blob, mtime=0, ground=Ground(tree))
    writer.file("data/é/" + "x" * 120, 0o644, b"a")
    writer.finish()
    folder = blob.members()["data"][0]
    assert (folder.uid, folder.gid, folder.mode) == (2_000_000_123, 3_000_000_000, 0o750)


def test_links_of_the_base_are_followed() -> None:
    tree = a_tree({"var/opt/old": ""}, {"opt": "var/opt", "lib": "usr/lib"})
    blob = Blob()
    writer = LayerWriter(blob, mtime=0, ground=Ground(tree))
    writer.directory("opt")
    writer.file("opt/conda/bin/x", 0o755, b"x")
    writer.hardlink("opt/conda/bin/y", "opt/conda/bin/x")
    writer.symlink("lib/b.so", "b.so.1")
    writer.stream("opt/s", 0o644, 1, [b"s"])
    writer.finish()
    members = blob.members()
    assert "opt" not in members
    assert "lib" not in members
    assert members["var/opt/conda/bin/y"][0].linkname == "var/opt/conda/bin/x"
    assert {"usr/lib/b.so", "var/opt/s", "var/opt"} <= members.keys()


@pytest.mark.parametrize(
    ("path", "words"),
    [("srv", "would replace a folder of the base"), ("etc/file/a", "would replace a file of the base")],
)
def test_kinds_are_not_exchanged(path: str, words: str) -> None:
    writer = LayerWriter(Blob(), mtime=0, ground=Ground(a_tree({"etc/file": "", "srv/a": ""})))
    with pytest.raises(AfenvError, match=words) as caught:
        writer.file(path, 0o644, b"")
    assert caught.value.code == "E401"


@pytest.mark.parametrize("merged", [True, False])
def test_debian_packages_follow_the_links_at_the_top(make_deb: Any, merged: bool) -> None:
    links = {"bin": "usr/bin", "lib": "usr/lib"} if merged else {}
    files = {"usr/bin/x": "", "usr/lib/x": ""} | ({} if merged else {"bin/x": "", "lib/x": ""})
    tree = a_tree(files, links)
    deb, path = make_deb("tool", [("./bin/tool", "file 755", b"x"), ("./lib/x.so", "symlink", "x.so.1")])
    blob = Blob()
    writer = LayerWriter(blob, mtime=0, ground=Ground(tree))
    write_debs([deb], [path], writer, merged=False)
    writer.finish()
    prefix = "usr/" if merged else ""
    assert {f"{prefix}bin/tool", f"{prefix}lib/x.so"} <= blob.members().keys()


def test_a_link_of_a_package_leaves_a_folder(make_deb: Any) -> None:
    deb, path = make_deb("doc", [("./usr/share/doc/doc", "symlink", "other")])
    blob = Blob()
    writer = LayerWriter(blob, mtime=0, ground=Ground(a_tree({"usr/share/doc/doc/file": ""})))
    write_debs([deb], [path], writer, merged=False)
    writer.finish()
    assert "usr/share/doc/doc" not in blob.members()


# How many there are


def debs(number: int) -> list[LockedDeb]:
    return [
        LockedDeb(
            name=f"deb-{count:03}",
            version="1",
            architecture="amd64",
            source="s",
            file=LockedFile(urls=("u",), size=count, sha256=f"{count:064x}"),
        )
        for count in range(number)
    ]


def test_a_small_base_changes_nothing_but_the_account() -> None:
    plain = plan_layers(an_environment(None, debs(80)), ())
    assert plan_layers(an_environment(a_base(home="/home/x"), debs(80)), ()) == plain
    assert [one.name for one in plan_layers(an_environment(a_base()), ())] == ["system"]
    assert plan_layers(an_environment(a_base(home="/home/x")), ()) == ()
    assert plan_layers(an_environment(a_base(user="jovyan")), ()) == ()


@pytest.mark.parametrize("below", [90, 105, 115, 117])
def test_the_layers_of_the_base_count(below: int) -> None:
    planned = plan_layers(an_environment(a_base(below), debs(80)), ())
    assert len(planned) + below <= TOTAL
    held = sorted(deb.name for one in planned for deb in one.debs)
    assert held == [f"deb-{count:03}" for count in range(80)]
    assert len(planned) <= LIMIT


def test_a_base_without_room() -> None:
    with pytest.raises(AfenvError, match="119 layers, and 2 more") as caught:
        plan_layers(an_environment(a_base(119), debs(80)), ())
    assert caught.value.code == "E405"


# What the system layer adds


def test_an_account_beside_those_of_the_base() -> None:
    tree = a_tree(
        {
            "etc/passwd": "root:x:0:0::/root:/bin/sh\nanalyst:x:7:7::/:/bin/sh",
            "etc/group": "root:x:0:\nstaff:x:1000:\n",
            "etc/shadow": "root:*:1::::::\n",
            "etc/skel/.bashrc": "# skeleton\n",
            "bin/bash": "",
        }
    )
    members, warnings = system_of(tree, [])
    assert warnings == []
    lines = members["etc/passwd"][1].decode().splitlines()
    assert lines[1:] == [
        "analyst:x:7:7::/:/bin/sh",
        "afenv:x:1000:1000:afenv:/home/analyst:/bin/bash",
    ]
    assert "etc/group" not in members  # 1000 is a group already
    assert (members["etc/shadow"][0].mode, members["etc/shadow"][1]) == (
        0o640,
        b"root:*:1::::::\nafenv:*::0:99999:7:::\n",
    )
    assert members["home/analyst"][0].mode == 0o1777
    assert members["home/analyst/.bashrc"][1] == b"# skeleton\n"


def test_accounts_of_a_base_that_has_none() -> None:
    members, _ = system_of(a_tree({"app": ""}), [])
    assert b"analyst:x:1000:1000:analyst:/home/analyst:/sbin/nologin" in members["etc/passwd"][1]


def test_no_account_where_there_is_one(make_deb: Any) -> None:
    package = make_deb("tool", [("./usr/bin/tool", "file", b"")])
    members, _ = system_of(a_tree({"var/lib/dpkg/status": ""}), [package], home="/home/x")
    assert not any(path.startswith(("etc", "home")) for path in members)


OLD = "Package: tool\nStatus: install ok installed\nVersion: 0\nArchitecture: amd64\nDescription: old\n"
OTHER = "Package: other\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nDescription: x\n"


def test_records_are_brought_up_to_date_and_old_files_removed(make_deb: Any) -> None:
    tree = a_tree(
        {
            "var/lib/dpkg/status": f"{OLD}\n{OTHER}\n",
            "var/lib/dpkg/info/tool.list": "\n".join(
                (
                    "/.",
                    "/lib",
                    "/usr/bin/tool",
                    "/usr/bin/old",
                    "/usr/bin/link",
                    "/lib/old.so",
                    "/etc/tool.conf",
                    "/usr/share/x",
                    "",
                )
            ),
            "var/lib/dpkg/info/tool:amd64.list": "/.\n",
            "var/lib/dpkg/info/other.list": "/.\n/usr/share/x\n",
            "var/lib/dpkg/triggers/File": "/usr/share/x other\n",
            "usr/bin/tool": "",
            "usr/bin/old": "",
            "usr/lib/old.so": "",
            "usr/share/x": "",
            "etc/tool.conf": "",
        },
        {"lib": "usr/lib", "usr/bin/link": "old"},
    )
    package = make_deb(
        "tool",
        [("./usr/bin/tool", "file 755", b"new")],
        control={"triggers": "interest-noawait /usr/share/y\n"},
    )
    members, warnings = system_of(tree, [package], home="/home/x")
    assert warnings == []
    status = members["var/lib/dpkg/status"][1].decode()
    assert status.startswith(OTHER + "\nPackage: tool\n")
    assert "old" not in status
    assert {path for path in members if ".wh." in path} == {
        "usr/bin/.wh.old",
        "usr/bin/.wh.link",
        "usr/lib/.wh.old.so",
        "var/lib/dpkg/info/.wh.tool:amd64.list",
    }
    assert members["var/lib/dpkg/triggers/File"][1] == b"/usr/share/x other\n/usr/share/y tool/noawait\n"


def test_records_of_an_image_made_without_dpkg(make_deb: Any) -> None:
    tree = a_tree({"var/lib/dpkg/status.d/dG9vbA": OLD})
    packages = [make_deb(name, [(f"./usr/bin/{name}", "file", b"")]) for name in ("tool", "extra")]
    members, _ = system_of(tree, packages, home="/home/x")
    assert "var/lib/dpkg/status" not in members
    assert b"Package: tool\n" in members["var/lib/dpkg/status.d/dG9vbA"][1]
    assert b"Package: extra\n" in members["var/lib/dpkg/status.d/extra"][1]


GROUP = (
    "auto\n/usr/bin/editor\neditor.1.gz\n/usr/share/man/man1/editor.1.gz\n\n/bin/nano\n40\n/m/nano.1.gz\n\n"
)


def test_a_group_of_alternatives_of_the_base_goes_on(make_deb: Any) -> None:
    tree = a_tree(
        {"var/lib/dpkg/status": "", "var/lib/dpkg/alternatives/editor": GROUP, "bin/nano": ""},
        {"usr/bin/editor": "/etc/alternatives/editor", "etc/alternatives/editor": "/bin/nano"},
    )
    script = "#!/bin/sh\nupdate-alternatives --install /usr/bin/editor editor /usr/bin/vim 50\n"
    package = make_deb("vim", [("./usr/bin/vim", "file", b"")], control={"postinst": script})
    members, warnings = system_of(tree, [package], home="/home/x")
    assert warnings == []
    assert members["etc/alternatives/editor"][0].linkname == "/usr/bin/vim"
    record = members["var/lib/dpkg/alternatives/editor"][1].decode().splitlines()
    assert ("/bin/nano" in record, "/usr/bin/vim" in record) == (True, True)
    by_hand = a_tree({"var/lib/dpkg/status": "", "var/lib/dpkg/alternatives/editor": "manual" + GROUP[4:]})
    members, warnings = system_of(by_hand, [package], home="/home/x")
    assert warnings == ["vim: the alternatives of editor stay as the base image has them"]
    assert "etc/alternatives/editor" not in members


@pytest.mark.parametrize(
    "text", ["", "auto\n", "auto\n/l\n\n/p\nten\n\n", "manual\n/l\n\n/p\n1\n\n", "auto\n/l\n\n/p"]
)
def test_groups_that_are_left_alone(text: str) -> None:
    assert read_group("x", text.encode()) is None


def test_the_cache_of_the_loader_knows_old_and_new_libraries(make_deb: Any) -> None:
    tree = a_tree(
        {
            "var/lib/dpkg/status": "",
            "etc/ld.so.conf": "include /etc/ld.so.conf.d/*.conf\n",
            "etc/ld.so.conf.d/a.conf": "/usr/local/lib\n",
            "etc/ld.so.cache": "old",
            "usr/local/lib/libbase.so.1": "",
        }
    )
    package = make_deb("new", [("./usr/lib/libnew.so.2", "file", b"")])
    cache = system_of(tree, [package], home="/home/x")[0]["etc/ld.so.cache"][1]
    assert b"/usr/local/lib/libbase.so.1\0" in cache
    assert b"/usr/lib/libnew.so.2\0" in cache
    without = make_deb("none", [("./usr/bin/none", "file", b"")])
    assert "etc/ld.so.cache" not in system_of(tree, [without], home="/home/x")[0]


def test_a_layer_on_another_base_is_another_layer() -> None:
    """What lies below decides where files come to lie, and which folders belong to whom."""
    wheel = LockedWheel(name="a", version="1", file=LockedFile(urls=("u",), size=1, sha256="0" * 64))
    python = LockedPython(version="3.11.2", executable="/p", site_packages="/s", scripts="/b")
    other = LockedBaseLayer(diff_id="sha256:" + "b" * 64, digest="sha256:" + "b" * 64, size=1, media_type="t")

    def keys(base: LockedBase | None) -> set[str]:
        environment = an_environment(base, debs(3), wheels=(wheel,), python=python)
        planned = plan_layers(environment, ())
        return {layer_key(one, environment, mtime=0, lost={}, interpreter=None) for one in planned}

    found = [keys(None), keys(a_base()), keys(a_base(layers=(*a_base().layers, other)))]
    assert not (found[0] & found[1] | found[1] & found[2] | found[0] & found[2])
    recompressed = LockedBaseLayer(
        diff_id=a_base().layers[0].diff_id, digest=other.digest, size=9, media_type="t"
    )
    assert keys(a_base(layers=(recompressed,))) == found[1]
