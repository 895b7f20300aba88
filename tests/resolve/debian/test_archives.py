"""Which index is the state of an archive as of a time, and when it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from afenv.errors import AfenvError
from afenv.store.content import ContentStore
from tests.resolve.debian.conftest import AS_OF, DATE, DAY, LIVE, SNAPSHOT, World, make_key, stanza

HOUR = timedelta(hours=1)


def stamp(time: datetime) -> str:
    return f"{time:%Y%m%dT%H%M%SZ}"


def publish_snapshot(world: World, time: datetime, stanzas: Sequence[str], **how: Any) -> None:
    """Publish a suite on the snapshot service as it was at a time."""
    for archive, suite, given in [
        ("debian", "bookworm", stanzas),
        ("debian", "bookworm-updates", ()),
        ("debian-security", "bookworm-security", ()),
    ]:
        scratch = type(world.mirror)(world.mirror.folder)
        scratch.publish(given, suite=suite, archive=archive, **how)
        for url, data in scratch.documents.items():
            moved = url.replace(f"{LIVE}/{archive}/", f"{SNAPSHOT}/{archive}/{stamp(time)}/")
            world.mirror.documents[moved] = data


def test_the_three_archives_are_read_and_recorded(world: World) -> None:
    world.mirror.publish_all([stanza("a")])
    result = world.resolve("a")
    assert [index.url for index in result.indexes] == [
        "https://deb.debian.org/debian/dists/bookworm/InRelease",
        "https://deb.debian.org/debian/dists/bookworm-updates/InRelease",
        "https://deb.debian.org/debian-security/dists/bookworm-security/InRelease",
    ]
    assert {index.date for index in result.indexes} == {"2024-03-01T12:00:00Z"}
    assert {index.signed_by for index in result.indexes} == {
        str(make_key()[0].extract_certificate().fingerprint).upper()
    }


def test_urls_of_a_package(world: World) -> None:
    world.mirror.publish_all([stanza("a")], security=[stanza("b")])
    as_of = DATE + 10 * DAY
    a, b = world.resolve("a", "b", as_of=as_of).debs
    assert a.file.urls == (
        "https://deb.debian.org/debian/pool/main/a/a/a_1_amd64.deb",
        "https://snapshot.debian.org/archive/debian/20240311T120000Z/pool/main/a/a/a_1_amd64.deb",
    )
    assert b.file.urls == (
        "https://deb.debian.org/debian-security/pool/main/b/b/b_1_amd64.deb",
        "https://snapshot.debian.org/archive/debian-security/20240311T120000Z/pool/main/b/b/b_1_amd64.deb",
    )


def test_snapshot_urls_are_of_a_time_after_the_import(world: World) -> None:
    world.mirror.publish_all([stanza("a")])
    (a,) = world.resolve("a", as_of=DATE + HOUR).debs
    assert "/20240302T120000Z/" in a.file.urls[1]


def test_the_highest_version_of_the_archives_wins(world: World) -> None:
    world.mirror.publish_all(
        [stanza("a", "1.0"), stanza("b", "2.0"), stanza("c", "1")],
        updates=[stanza("b", "1.0")],
        security=[stanza("a", "1.0+deb12u1"), stanza("c", "1")],
    )
    debs = world.resolve("a", "b", "c").debs
    assert [deb.version for deb in debs] == ["1.0+deb12u1", "2.0", "1"]
    assert "/debian-security/" in debs[0].file.urls[0]
    assert "/debian/" in debs[2].file.urls[0], "the first archive wins where versions are equal"


@pytest.mark.parametrize("ending", [".xz", ".gz", ""])
@pytest.mark.parametrize("by_hash", [True, False])
def test_forms_of_the_package_list(world: World, ending: str, by_hash: bool) -> None:
    world.mirror.publish_all([stanza("a")], ending=ending, by_hash=by_hash)
    assert world.names("a") == ["a=1"]
    asked = [url for url in world.mirror.calls if "/dists/bookworm/main" in url]
    assert len(asked) == 1
    assert ("/by-hash/SHA256/" in asked[0]) is by_hash


def test_a_live_index_that_is_too_new_is_replaced_by_the_snapshot(world: World) -> None:
    as_of = DATE + 3 * HOUR
    world.mirror.publish_all([stanza("a", "2")], date=DATE + 5 * DAY)
    publish_snapshot(world, as_of + DAY, [stanza("a", "1.5")], date=DATE + 10 * HOUR)
    publish_snapshot(world, as_of + 12 * HOUR, [stanza("a", "1.5")], date=DATE + 10 * HOUR)
    publish_snapshot(world, as_of + 6 * HOUR, [stanza("a", "1")], date=DATE)
    # The files of the old state are found in the snapshot at the time that the lock names.
    publish_snapshot(world, DATE + DAY, [stanza("a", "1")], date=DATE)
    assert world.names("a", as_of=as_of) == ["a=1"]


def test_the_same_lock_from_the_live_archive_and_later_from_the_snapshot(world: World) -> None:
    as_of = DATE + 2 * DAY
    world.mirror.publish_all([stanza("a")])
    now = world.resolve("a", as_of=as_of)
    later = World(
        type(world.mirror)(world.mirror.folder), ContentStore(world.store.folder / "other"), world.keys
    )
    later.mirror.publish_all([stanza("a", "3")], date=DATE + 9 * DAY)
    for time in (as_of, as_of + DAY):
        publish_snapshot(later, time, [stanza("a")])
    for url, data in world.mirror.documents.items():  # signatures differ from run to run: take the same bytes
        for archive in ("debian-security", "debian"):
            moved = url.replace(f"{LIVE}/{archive}/", f"{SNAPSHOT}/{archive}/{stamp(as_of + DAY)}/")
            later.mirror.documents[moved] = data
            if moved != url:
                break
    assert later.resolve("a", as_of=as_of) == now


def test_asked_again_it_needs_no_network(world: World) -> None:
    world.mirror.publish_all([stanza("a")])
    first = world.resolve("a")
    world.mirror.publish_all([stanza("a", "2")], date=DATE + 5 * DAY)
    world.mirror.calls.clear()
    assert world.resolve("a") == first
    assert world.mirror.calls == []


def test_of_a_time_to_come_nothing_is_remembered(world: World) -> None:
    world.mirror.publish_all([stanza("a")])
    as_of = datetime.now(UTC) + 100 * DAY
    assert world.names("a", as_of=as_of) == ["a=1"]
    world.mirror.publish_all([stanza("a", "2")], date=DATE + 5 * DAY)
    assert world.names("a", as_of=as_of) == ["a=2"]


def test_the_package_list_is_parsed_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.mirror.publish_all([stanza("a")])
    world.resolve("a")
    monkeypatch.setattr("afenv.resolve.debian.index.compact_form", None)
    assert world.names("a", as_of=AS_OF + HOUR) == ["a=1"]
    assert not [url for url in world.mirror.calls[7:] if "Packages" in url]


def test_no_such_suite(world: World) -> None:
    world.mirror.publish_all([stanza("a")])
    assert "E101 Debian has no suite 'bookwurm'" in world.code("a", suite="bookwurm")


def test_a_missing_security_archive_is_not_passed_over(world: World) -> None:
    world.mirror.publish([stanza("a")])
    world.mirror.publish([], suite="bookworm-updates")
    assert "E101" in world.code("a")


def test_a_rolling_suite_has_one_archive(world: World) -> None:
    world.mirror.publish([stanza("a")], suite="sid")
    assert len(world.resolve("a", suite="sid").indexes) == 1


def test_another_suites_index_is_refused(world: World) -> None:
    world.mirror.publish_all([stanza("a")])
    documents = world.mirror.documents
    documents[f"{LIVE}/debian/dists/bookworm-updates/InRelease"] = documents[
        f"{LIVE}/debian/dists/bookworm/InRelease"
    ]
    assert "E104 this is the index of bookworm, not of bookworm-updates" in world.code("a")


def test_a_key_that_is_not_trusted(world: World) -> None:
    world.mirror.publish_all([stanza("a")], key=make_key("Other <other@example.org>")[0])
    assert "E104" in world.code("a")
    assert world.store.load_key("debian-as-of", "sha256:" + "0" * 64) is None


@pytest.mark.parametrize("checks", [True, False])
def test_another_package_list_than_the_one_signed(world: World, checks: bool) -> None:
    world.mirror.checks = checks
    world.mirror.publish_all([stanza("a")])
    (url,) = (url for url in world.mirror.documents if "/bookworm/main/" in url)
    world.mirror.documents[url] += b"more"
    assert "E301" in world.code("a")
    world.mirror.documents[url] = world.mirror.documents[url][:-4]
    assert world.names("a") == ["a=1"], "nothing of it was kept"


def test_expired(world: World) -> None:
    world.mirror.publish_all([stanza("a")], valid_until=DATE + 7 * DAY)
    assert world.names("a", as_of=DATE + 7 * DAY) == ["a=1"]
    assert "E105 the index of bookworm expired on 2024-03-08T12:00:00Z" in world.code(
        "a", as_of=DATE + 7 * DAY + timedelta(seconds=1)
    )


def test_rollback(world: World) -> None:
    world.mirror.publish_all([stanza("a", "2")], date=DATE + 2 * DAY)
    world.resolve("a", as_of=DATE + 3 * DAY)
    world.mirror.publish_all([stanza("a", "1")], date=DATE)
    message = world.code("a", as_of=DATE + 4 * DAY)
    assert (
        "E105 the index of bookworm is of 2024-03-01T12:00:00Z; one of 2024-03-03T12:00:00Z was seen"
        in message
    )
    assert world.names("a", as_of=DATE + DAY) == ["a=1"], "an earlier time may have an earlier index"


def test_no_packages_for_the_architecture(world: World) -> None:
    world.mirror.publish_all([stanza("a")])
    assert "E101 bookworm has no packages for arm64" in world.code("a", platform="linux/arm64")


def test_unknown_platform(world: World) -> None:
    assert "E013" in world.code("a", platform="windows/amd64")


def test_other_failures_of_downloading_pass_through(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(url: str) -> bytes:
        raise AfenvError("E203", "offline", place=url)

    monkeypatch.setattr(world.mirror, "get", unreachable)
    assert "E203" in world.code("a")


@pytest.mark.parametrize("suite", ["../evil", "bookworm/updates", "Bookworm", "", "bookworm?x"])
def test_what_is_no_name_of_a_suite_is_never_asked_for(world: World, suite: str) -> None:
    assert "E101" in world.code("a", suite=suite)
    assert world.mirror.calls == []
