"""Which packages are chosen, and how it is explained when there are none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from afenv.errors import AfenvError
from tests.resolve.debian.conftest import DATE, DAY, World, stanza

LATER = DATE + 3 * DAY


# What is chosen


def test_dependencies_and_what_the_lock_keeps(world: World) -> None:
    world.mirror.publish_all(
        [
            stanza(
                "a", "1:2-3", Depends="b (>= 1), c", Source="src-a (2)", Priority="optional", Section="misc"
            ),
            stanza("b", "1", Pre_Depends="d", Multi_Arch="same"),
            stanza("c", Architecture="all"),
            stanza("d"),
            stanza("unrelated"),
        ]
    )
    a, b, c, d = world.resolve("a").debs
    assert (a.name, a.version, a.architecture, a.source) == ("a", "1:2-3", "amd64", "src-a")
    assert a.control == {"Depends": "b (>= 1), c", "Priority": "optional"}
    assert b.control == {"Pre-Depends": "d", "Multi-Arch": "same"}
    assert c.architecture == "all"
    assert [deb.requested for deb in (a, b, c, d)] == [True, False, False, False]
    assert a.file.size == 1001
    assert len(a.file.sha256) == 64


def test_essential_packages_and_usr_is_merged_are_always_there(world: World) -> None:
    world.mirror.publish_all(
        [
            stanza("base", Essential="yes", Depends="init"),
            stanza("init", Depends="usrmerge | usr-is-merged"),
            stanza("usrmerge", Depends="perl"),
            stanza("perl"),
            stanza("usr-is-merged"),
        ]
    )
    assert world.names() == ["base=1", "init=1", "usr-is-merged=1"]


def test_a_suite_without_usr_is_merged(world: World) -> None:
    world.mirror.publish_all([stanza("base", Essential="yes")])
    assert world.names() == ["base=1"]


def test_what_is_there_already_satisfies_an_alternative(world: World) -> None:
    world.mirror.publish_all(
        [stanza("a", Depends="big | small"), stanza("big"), stanza("small"), stanza("z", Depends="small")]
    )
    assert world.names("a") == ["a=1", "big=1"]
    assert world.names("a", "small") == ["a=1", "small=1"]


def test_the_first_alternative_that_can_be_had(world: World) -> None:
    world.mirror.publish_all(
        [stanza("a", Depends="absent | b (>= 2) | c"), stanza("b", "1"), stanza("c")],
    )
    assert world.names("a") == ["a=1", "c=1"]


def test_the_next_alternative_comes_before_an_older_version(world: World) -> None:
    world.mirror.publish_all(
        [stanza("a", Depends="b (<< 2) | c"), stanza("b", "1"), stanza("c")], security=[stanza("b", "2")]
    )
    assert world.names("a") == ["a=1", "c=1"]


def test_an_alternative_that_cannot_be_installed_is_passed_over(world: World) -> None:
    world.mirror.publish_all(
        [stanza("a", Depends="b | c"), stanza("b", Depends="absent"), stanza("c")],
    )
    assert world.names("a") == ["a=1", "c=1"]


def test_virtual_packages(world: World) -> None:
    world.mirror.publish_all(
        [
            stanza("a", Depends="mta, awk, api (= 2)"),
            stanza("exim", Provides="mta", Priority="optional"),
            stanza("aaa-mta", Provides="mta", Priority="extra"),
            stanza("mawk", Provides="awk", Priority="required"),
            stanza("gawk", Provides="awk", Priority="optional"),
            stanza("api-1", Provides="api (= 1)"),
            stanza("api-2", Provides="api (= 2)"),
        ]
    )
    assert world.names("a") == ["a=1", "api-2=1", "exim=1", "mawk=1"]


def test_an_unversioned_provide_does_not_satisfy_a_version(world: World) -> None:
    world.mirror.publish_all([stanza("a", Depends="v (>= 1)"), stanza("p", Provides="v")])
    assert (
        "E102 requested a → depends v (>= 1); in bookworm, v is provided in other versions by p"
        in world.code("a")
    )


def test_the_real_package_comes_before_providers(world: World) -> None:
    world.mirror.publish_all(
        [
            stanza("a", Depends="x"),
            stanza("aa", Provides="x", Priority="required"),
            stanza("x", Priority="extra"),
        ]
    )
    assert world.names("a") == ["a=1", "x=1"]


def test_multi_arch_qualifiers(world: World) -> None:
    world.mirror.publish_all(
        [
            stanza("a", Depends="python3:any, tool:amd64"),
            stanza("python3", Multi_Arch="allowed"),
            stanza("tool"),
            stanza("b", Depends="tool:any"),
            stanza("c", Depends="tool:arm64"),
        ]
    )
    assert world.names("a") == ["a=1", "python3=1", "tool=1"]
    assert "E102" in world.code("b")
    assert "E102" in world.code("c")


def test_other_architectures_are_not_taken(world: World) -> None:
    world.mirror.publish_all([stanza("a"), stanza("b", Architecture="arm64")])
    assert "E101 b exists in bookworm only for arm64" in world.code("a", "b")


def test_cycles(world: World) -> None:
    world.mirror.publish_all([stanza("a", Depends="b"), stanza("b", Depends="a, b")])
    assert world.names("a") == ["a=1", "b=1"]


def test_a_package_may_conflict_with_what_it_provides(world: World) -> None:
    world.mirror.publish_all([stanza("a", Provides="v", Conflicts="v, a"), stanza("b", Provides="v")])
    assert world.names("a") == ["a=1"]
    assert "E102" in world.code("a", "b")


def test_going_back_to_another_alternative(world: World) -> None:
    """The preferred alternative of an early choice makes a late need impossible."""
    world.mirror.publish_all(
        [
            stanza("a", Depends="left | right, middle"),
            stanza("left"),
            stanza("right"),
            stanza("middle", Depends="noise1 | noise2, deep"),
            stanza("noise1"),
            stanza("noise2"),
            stanza("deep", Conflicts="left"),
        ]
    )
    assert world.names("a") == ["a=1", "deep=1", "middle=1", "noise1=1", "right=1"]


def test_going_back_to_an_older_version(world: World) -> None:
    world.mirror.publish_all([stanza("a", "1"), stanza("b", Depends="a (<< 2)")], security=[stanza("a", "2")])
    assert world.names("a") == ["a=2"]
    assert world.names("a", "b") == ["a=1", "b=1"]


def test_a_failure_is_not_tried_again_with_every_other_choice(world: World) -> None:
    """60 choices of two alternatives lie between a choice and the failure that it causes."""
    packages = [stanza("root", Depends="x | y, " + ", ".join(f"l{n} | r{n}" for n in range(60)) + ", end")]
    packages += [stanza(f"{side}{n}") for n in range(60) for side in "lr"]
    packages += [stanza("x"), stanza("y"), stanza("end", Breaks="x (<= 1)")]
    world.mirror.publish_all(packages)
    names = world.names("root")
    assert "y=1" in names
    assert "x=1" not in names
    world.mirror.publish_all([*packages, stanza("other", Breaks="y")], date=DATE + DAY)
    assert "E102" in world.code("root", "other", as_of=LATER)


def test_a_virtual_package_with_one_provider_stands_for_it(world: World) -> None:
    world.mirror.publish_all([stanza("libx-dev", Provides="x-dev")])
    (deb,) = world.resolve("x-dev").debs
    assert (deb.name, deb.requested) == ("libx-dev", True)


def test_the_order_of_the_request_does_not_matter(world: World) -> None:
    world.mirror.publish_all(
        [stanza("a", Depends="x | y"), stanza("b", Depends="y | x"), stanza("x"), stanza("y")]
    )
    assert world.resolve("a", "b") == world.resolve("b", "a", "b")


# What cannot be had


def test_no_such_package(world: World) -> None:
    world.mirror.publish_all(
        [stanza("python3"), stanza("python3-numpy"), stanza("v1", Provides="v"), stanza("v2", Provides="v")]
    )
    message = world.code("python3-nunpy", "v", "python3", "zzz")
    assert "E101 there is no package python3-nunpy in bookworm; did you mean python3-numpy?" in message
    assert "E101 v is a virtual package in bookworm, provided by v1, v2" in message
    assert "E101 there is no package zzz in bookworm" in message


def test_an_absent_dependency(world: World) -> None:
    world.mirror.publish_all([stanza("a", Depends="b"), stanza("b", Depends="c (>= 2)"), stanza("c", "1")])
    assert world.code("a") == (
        "E102 requested a → depends b → depends c (>= 2); in bookworm, c is there as 1"
    )


def test_a_conflict_is_explained_as_a_chain(world: World) -> None:
    world.mirror.publish_all(
        [
            stanza("a", Depends="b (>= 1)"),
            stanza("b", "1.5"),
            stanza("c", Depends="d"),
            stanza("d", Breaks="b (<< 3)"),
        ]
    )
    message = world.code("a", "c")
    assert message == (
        "E102 requested c → depends d; d 1 breaks b (<< 3); requested a → depends b (>= 1) is b 1.5"
    )


def test_a_conflict_from_the_other_side(world: World) -> None:
    world.mirror.publish_all([stanza("a", Conflicts="b"), stanza("c", Depends="b"), stanza("b", "2")])
    assert world.code("a", "c") == "E102 requested c → depends b; requested a (1) → conflicts b; that is b 2"


def test_two_versions_of_one_package(world: World) -> None:
    world.mirror.publish_all(
        [stanza("a", Depends="x (= 1)"), stanza("b", Depends="x (= 2)"), stanza("x", "1")],
        security=[stanza("x", "2")],
    )
    assert "requested a → depends x (= 1) takes x 1, and not 2" in world.code("a", "b")


# Updates


OLD = [stanza("a", "1", Depends="b, c"), stanza("b", "1"), stanza("c", "1"), stanza("other", "1")]
NEW = [stanza("a", "2", Depends="b (>= 2), c"), stanza("b", "2"), stanza("c", "2"), stanza("other", "2")]


@pytest.fixture
def moved(world: World) -> World:
    """An archive that had OLD and now has NEW."""
    world.mirror.publish_all(OLD)
    world.resolve("a", "other")
    world.mirror.publish_all(NEW, date=DATE + 2 * DAY)
    return world


def test_without_a_lock_everything_is_new(moved: World) -> None:
    assert moved.names("a", "other", as_of=LATER) == ["a=2", "b=2", "c=2", "other=2"]


def test_locked_versions_stay_even_if_the_index_has_them_no_more(moved: World) -> None:
    old = moved.resolve("a", "other")
    again = moved.resolve("a", "other", as_of=LATER, locked=old.debs)
    assert again.debs == old.debs
    assert again.indexes != old.indexes


def test_an_update_moves_the_named_one_and_what_it_forces(moved: World) -> None:
    old = moved.resolve("a", "other").debs
    names = moved.names("a", "other", as_of=LATER, locked=old, update=frozenset({"a"}))
    assert names == ["a=2", "b=2", "c=1", "other=1"]
    names = moved.names("a", "other", as_of=LATER, locked=old, update=frozenset({"c"}))
    assert names == ["a=1", "b=1", "c=2", "other=1"]


def test_an_update_may_force_what_breaks_otherwise(world: World) -> None:
    world.mirror.publish_all([stanza("a", "1"), stanza("z", "1", Depends="lib"), stanza("lib", "1")])
    old = world.resolve("a", "z").debs
    world.mirror.publish_all(
        [stanza("a", "2"), stanza("z", "2", Depends="lib"), stanza("lib", "2", Breaks="a (<< 2)")],
        date=DATE + 2 * DAY,
    )
    names = world.names("a", "z", as_of=LATER, locked=old, update=frozenset({"lib"}))
    assert names == ["a=2", "lib=2", "z=1"]


def test_an_update_that_cannot_be_keeps_the_old(world: World) -> None:
    world.mirror.publish_all([stanza("a", Depends="lib (<< 2)"), stanza("lib", "1")])
    old = world.resolve("a").debs
    world.mirror.publish_all([stanza("a", Depends="lib (<< 2)"), stanza("lib", "2")], date=DATE + 2 * DAY)
    assert world.names("a", as_of=LATER, locked=old, update=frozenset({"lib"})) == ["a=1", "lib=1"]


def test_a_new_request_leaves_the_rest_in_place(moved: World) -> None:
    old = moved.resolve("other").debs
    names = moved.names("other", "c", as_of=LATER, locked=old)
    assert names == ["c=2", "other=1"]


def test_what_is_not_needed_any_more_goes(moved: World) -> None:
    old = moved.resolve("a", "other").debs
    result = moved.resolve("b", as_of=LATER, locked=old)
    assert [(deb.name, deb.version, deb.requested) for deb in result.debs] == [("b", "1", True)]


def test_the_locked_alternative_stays(world: World) -> None:
    world.mirror.publish_all([stanza("a", Depends="x | y"), stanza("y")])
    old = world.resolve("a").debs
    world.mirror.publish_all([stanza("a", Depends="x | y"), stanza("x"), stanza("y")], date=DATE + 2 * DAY)
    assert world.names("a", as_of=LATER, locked=old) == ["a=1", "y=1"]
    assert world.names("a", as_of=LATER) == ["a=1", "x=1"]


def test_locked_packages_of_another_architecture_are_not_used(moved: World) -> None:
    old = [replace(deb, architecture="arm64") for deb in moved.resolve("other").debs]
    assert moved.names("other", as_of=LATER, locked=old) == ["other=2"]


def test_malformed_relations_are_an_error_and_not_a_traceback(world: World) -> None:
    world.mirror.publish_all([stanza("a", Depends="b (1)")])
    with pytest.raises(AfenvError, match="E303"):
        world.resolve("a")
