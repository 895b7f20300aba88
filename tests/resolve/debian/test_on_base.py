"""Debian packages on a base image: what it has installed stays."""

from __future__ import annotations

from typing import Any

import pytest

from afenv.documents.lock import LockedDeb
from afenv.errors import AfenvError
from afenv.layers.base_tree import BaseTree, Folder, Kept
from afenv.resolve.base_debian import installed_debs, resolve_on_base
from tests.resolve.debian.conftest import AS_OF, World, stanza


def tree(status: str | None = None, **folder: str) -> BaseTree:
    """A base with these records of dpkg; ``folder`` has files of ``status.d``."""
    files = {f"var/lib/dpkg/status.d/{name}": text for name, text in folder.items()}
    if status is not None:
        files["var/lib/dpkg/status"] = status
    return BaseTree(
        folders={"var/lib/dpkg": Folder(0o755, 0, 0)},
        files={path: len(text) for path, text in files.items()},
        kept={path: Kept(0o644, text.encode()) for path, text in files.items()},
    )


def installed(*stanzas: str) -> dict[str, LockedDeb]:
    return installed_debs(tree("\n".join(stanzas)), "amd64")


def resolve(world: World, base: dict[str, LockedDeb], *packages: str, **more: Any) -> list[str]:
    found = resolve_on_base(
        "bookworm",
        packages,
        base,
        "linux/amd64",
        AS_OF,
        world.mirror,
        world.store,
        keys=world.keys,
        **more,
    )
    return [f"{deb.name}={deb.version}{'!' if deb.requested else ''}" for deb in found.debs]


def error(world: World, base: dict[str, LockedDeb], *packages: str) -> str:
    with pytest.raises(AfenvError) as caught:
        resolve(world, base, *packages)
    return f"{caught.value.code} {caught.value.problems[0].message}"


def test_records_of_dpkg() -> None:
    text = (
        "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nDepends: b,\n c (>= 2)\n"
        "Description: a\n long one\n .\n Version: 9\n\n"
        "Package: b\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n"
        "Package: c\nStatus: hold ok installed\nArchitecture: all\nVersion: 2\nSource: sea (3)\n\n"
        "Package: d\nStatus: install ok half-installed\nArchitecture: amd64\nVersion: 1\n\n"
        "Package: e\nStatus: install ok installed\nArchitecture: i386\nVersion: 1\n"
    )
    found = installed_debs(tree(text), "amd64")
    assert {name: deb.version for name, deb in found.items()} == {"a": "1", "c": "2"}
    assert found["a"].control == {"Depends": "b, c (>= 2)"}
    assert found["c"].source == "sea"
    assert installed_debs(tree(), "amd64") == {}


def test_records_of_an_image_made_without_dpkg() -> None:
    base = tree(
        base="Package: base-files\nVersion: 12\nArchitecture: amd64\n", libc="Package: libc6\nVersion: 2\n"
    )
    assert set(installed_debs(base, "amd64")) == {"base-files"}  # a record without architecture is none


def test_what_is_there_is_not_installed_again(world: World) -> None:
    world.mirror.publish_all(
        [stanza("a", "2", Depends="b (>= 1), c"), stanza("b", "3"), stanza("c"), stanza("z", Essential="yes")]
    )
    base = installed(stanza("b", "1"))
    assert resolve(world, base, "a") == ["a=2!", "c=1"]
    assert resolve(world, base, "b") == []
    assert resolve(world, base) == []


def test_a_newer_one_is_taken_where_something_needs_it(world: World) -> None:
    world.mirror.publish_all(
        [
            stanza("a", "2", Depends="b (= 3)"),
            stanza("b", "3", Depends="new"),
            stanza("new"),
            stanza("tied", "3", Depends="b (= 3)"),
        ]
    )
    assert resolve(world, installed(stanza("b", "1")), "a") == ["a=2!", "b=3", "new=1"]
    tied = installed(stanza("b", "1"), stanza("tied", "1", Depends="b (= 1)"))
    assert resolve(world, tied, "a") == ["a=2!", "b=3", "new=1", "tied=3"]


def test_nothing_is_replaced_by_an_older_one(world: World) -> None:
    world.mirror.publish_all([stanza("a", Depends="b (= 1)"), stanza("b", "1")])
    message = error(world, installed(stanza("b", "2")), "a")
    assert message == "E102 requested a → depends b (= 1); in bookworm, b is there as 2"


def test_nothing_is_removed(world: World) -> None:
    world.mirror.publish_all([stanza("a", Conflicts="b"), stanza("b", "2")])
    message = error(world, installed(stanza("b", "1")), "a")
    assert message.startswith("E102 installed b; ")
    assert "requested a (1) → conflicts b; that is b 1" in message


def test_dependencies_that_the_base_lacks_are_its_own_matter(world: World) -> None:
    world.mirror.publish_all([stanza("a", Depends="b"), stanza("documentation")])
    base = installed(stanza("b", "1", Depends="documentation, missing | other"))
    assert resolve(world, base, "a") == ["a=1!"]


def test_what_the_base_provides_counts(world: World) -> None:
    world.mirror.publish_all([stanza("a", Depends="mail-agent"), stanza("postfix", Provides="mail-agent")])
    assert resolve(world, installed(stanza("nullmailer", "1", Provides="mail-agent")), "a") == ["a=1!"]
    assert resolve(world, {}, "a") == ["a=1!", "postfix=1"]


def test_the_lock_and_updates(world: World) -> None:
    world.mirror.publish_all([stanza("a", "2", Depends="b"), stanza("b", "1"), stanza("b", "2")])
    old = resolve_on_base(
        "bookworm", ["a"], {}, "linux/amd64", AS_OF, world.mirror, world.store, keys=world.keys
    ).debs
    kept = [deb for deb in old if deb.name == "a"]
    assert resolve(world, installed(stanza("b", "1")), "a", locked=kept) == ["a=2!"]
    assert resolve(world, installed(stanza("b", "1")), "a", update=frozenset({"b"})) == ["a=2!", "b=2"]


def test_names_that_do_not_exist(world: World) -> None:
    world.mirror.publish_all([stanza("python3")])
    assert error(world, {}, "pyton3").startswith("E101 there is no package pyton3 in bookworm; did you mean")
    with pytest.raises(AfenvError) as caught:
        resolve_on_base(
            "bookworm", [], {}, "linux/riscv64", AS_OF, world.mirror, world.store, keys=world.keys
        )
    assert caught.value.code == "E013"
