"""Data is fetched verified, from the best replica, and goes on where it stopped."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from afenv.data.access import DataAccess
from afenv.data.fetch import _directly, fetch_all, fetch_data, part_name
from afenv.documents.data import LockedDataFile
from afenv.documents.facility import DataProxy, FacilityProfile
from afenv.errors import AfenvError
from afenv.record import replace

from .conftest import QUICK, checksums, locked, pinned

CONTENT = bytes(range(256)) * 6000


def failure(access: DataAccess, tmp_path: Path, *files: LockedDataFile) -> AfenvError:
    with pytest.raises(AfenvError) as caught:
        fetch_data(locked(*files), tmp_path / "out", access=access, quiet=True)
    return caught.value


def test_a_file_is_linked_from_the_store(access: DataAccess, http_server: Any, tmp_path: Path) -> None:
    file = pinned(CONTENT, http_server.put("/e.root", CONTENT), path="sub/e.root")
    (path,) = fetch_data(locked(file), tmp_path / "out", access=access, quiet=True)
    assert path == tmp_path / "out" / "sub" / "e.root"
    assert path.read_bytes() == CONTENT
    blob = access.store.path("sha256:" + file.checksums["sha256"])
    assert path.samefile(blob)
    assert http_server.count("/e.root") == 1
    (again,) = fetch_data(locked(file), tmp_path / "other", access=access, quiet=True)
    assert again.samefile(blob)
    assert http_server.count("/e.root") == 1  # from the store


def test_what_is_not_pinned_is_found_again(access: DataAccess, http_server: Any, tmp_path: Path) -> None:
    content = b"events"
    known = {"adler32": checksums(content)["adler32"]}
    file = LockedDataFile(
        path="e", size=len(content), checksums=known, uris=(http_server.put("/e", content),)
    )
    fetch_data(locked(file), tmp_path / "one", access=access, quiet=True)
    fetch_data(locked(file), tmp_path / "two", access=access, quiet=True)
    assert http_server.count("/e") == 1
    nothing = LockedDataFile(path="e", uris=(http_server.url + "/e",))
    fetch_data(locked(nothing), tmp_path / "three", access=access, quiet=True)
    assert (tmp_path / "three" / "e").read_bytes() == content


def test_the_next_replica_is_tried(
    access: DataAccess, http_server: Any, other_http_server: Any, fault: Any, tmp_path: Path
) -> None:
    gone = http_server.url + "/gone"
    wrong = http_server.put("/wrong", bytes(len(CONTENT)))
    short = http_server.put("/short", CONTENT[:-1])
    good = other_http_server.put("/good", CONTENT, fault.status(503), fault.reset(1000))
    file = pinned(CONTENT, gone, wrong, short, good)
    (path,) = fetch_data(locked(file), tmp_path, access=access, quiet=True)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (CONTENT[:-1], f"expected {len(CONTENT)} bytes, the storage has {len(CONTENT) - 1}"),
        (CONTENT[:-1] + b"x", "expected sha256:{sha256}, found sha256:"),
    ],
)
def test_a_change_is_named(
    access: DataAccess, http_server: Any, tmp_path: Path, content: bytes, expected: str
) -> None:
    file = pinned(CONTENT, http_server.put("/e", content))
    error = failure(access, tmp_path, file)
    assert error.code == "E641"
    assert error.exit_status == 5
    assert expected.format(**checksums(CONTENT)) in str(error)
    if len(content) == len(CONTENT):
        assert checksums(content)["sha256"] in str(error)
    assert not list((tmp_path / "out").rglob("*.root"))
    assert not access.store.has("sha256:" + checksums(content)["sha256"])


@pytest.mark.parametrize("algorithm", ["adler32", "md5", "sha256"])
def test_each_checksum_that_is_known_is_checked(
    access: DataAccess, http_server: Any, tmp_path: Path, algorithm: str
) -> None:
    known = {algorithm: checksums(CONTENT[1:])[algorithm]}
    file = LockedDataFile(
        path="e", size=len(CONTENT), checksums=known, uris=(http_server.put("/e", CONTENT),)
    )
    error = failure(access, tmp_path, file)
    found = checksums(CONTENT)[algorithm]
    assert f"expected {algorithm}:{known[algorithm]}, found {algorithm}:{found}" in str(error)


def test_lost_is_said_only_if_all_are_gone(access: DataAccess, http_server: Any, tmp_path: Path) -> None:
    file = pinned(CONTENT, http_server.url + "/a", http_server.url + "/b")
    error = failure(access, tmp_path, file)
    assert error.code == "E642"
    assert "/b: 404" in str(error)
    beyond = pinned(CONTENT, http_server.url + "/a", "http://127.0.0.1:1/b")
    assert failure(access, tmp_path, beyond).code == "E201"


def test_a_transfer_goes_on_where_it_stopped(
    access: DataAccess, http_server: Any, fault: Any, tmp_path: Path
) -> None:
    url = http_server.put("/e", CONTENT, fault.cut(700_000), fault.stall(300_000))
    (path,) = fetch_data(locked(pinned(CONTENT, url)), tmp_path / "out", access=access, quiet=True)
    assert path.read_bytes() == CONTENT
    ranges = [headers.get("range") for _, headers in http_server.requests]
    assert ranges[:2] == [None, f"bytes=700000-{len(CONTENT) - 1}"]
    assert ranges[2] is not None


def test_another_process_goes_on_too(access: DataAccess, http_server: Any, tmp_path: Path) -> None:
    file = pinned(CONTENT, http_server.put("/e", CONTENT))
    part = access.store.temporary_folder() / f"part-{part_name(file)}"
    part.write_bytes(CONTENT[:500_000])
    fetch_data(locked(file), tmp_path / "out", access=access, quiet=True)
    assert http_server.requests[0][1]["range"] == f"bytes=500000-{len(CONTENT) - 1}"
    assert not part.exists()


def test_a_damaged_part_costs_only_time(access: DataAccess, http_server: Any, tmp_path: Path) -> None:
    file = pinned(CONTENT, http_server.put("/e", CONTENT))
    part = access.store.temporary_folder() / f"part-{part_name(file)}"
    part.write_bytes(b"x" * 500_000)
    (path,) = fetch_data(locked(file), tmp_path / "out", access=access, quiet=True)
    assert path.read_bytes() == CONTENT


def test_a_server_without_ranges(access: DataAccess, http_server: Any, fault: Any, tmp_path: Path) -> None:
    http_server.ranges = False
    url = http_server.put("/e", CONTENT, fault.cut(700_000))
    (path,) = fetch_data(locked(pinned(CONTENT, url)), tmp_path / "out", access=access, quiet=True)
    assert path.read_bytes() == CONTENT


def test_redirects_without_end(access: DataAccess, http_server: Any, fault: Any, tmp_path: Path) -> None:
    url = http_server.put("/e", CONTENT, *[fault.redirect("/e")] * 100)
    error = failure(access, tmp_path, pinned(CONTENT, url))
    assert error.code == "E202"
    assert "redirects without end" in str(error)


def test_a_file_that_is_there_is_left(access: DataAccess, http_server: Any, tmp_path: Path) -> None:
    file = pinned(CONTENT, http_server.put("/e", CONTENT))
    target = tmp_path / "out" / "events.root"
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    fetch_data(locked(file), tmp_path / "out", access=access, quiet=True)
    assert http_server.requests == []
    target.write_bytes(CONTENT[:-1] + b"x")
    fetch_data(locked(file), tmp_path / "out", access=access, quiet=True)
    assert target.read_bytes() == CONTENT


def test_local_files_are_not_stored_twice(access: DataAccess, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a b.root").write_bytes(CONTENT)
    file = pinned(CONTENT, "file:here/a%20b.root")
    (path,) = fetch_data(locked(file), tmp_path / "out", access=access, quiet=True)
    assert path.read_bytes() == CONTENT
    assert not access.store.has("sha256:" + file.checksums["sha256"])
    assert not path.samefile(tmp_path / "here" / "a b.root")
    error = failure(access, tmp_path, pinned(CONTENT, "file:not/there", path="n"))
    assert error.code == "E642"
    error = failure(access, tmp_path, pinned(CONTENT[1:], "file:here/a%20b.root", path="m"))
    assert error.code == "E641"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["events.root"]


def test_another_file_system_is_written_directly(
    access: DataAccess, http_server: Any, tmp_path: Path
) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system")
    folder = other / f"afenv-{os.getpid()}"
    file = pinned(CONTENT, http_server.put("/e", CONTENT))
    assert _directly(access, file, folder / "e")
    try:
        (path,) = fetch_data(locked(file), folder, access=access, quiet=True)
        assert path.read_bytes() == CONTENT
        assert not access.store.has("sha256:" + file.checksums["sha256"])
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_an_unsafe_path_writes_nothing(access: DataAccess, http_server: Any, tmp_path: Path) -> None:
    url = http_server.put("/e", b"x")
    for name in ("../e", "/e", "a/../../e", ""):
        error = failure(access, tmp_path, pinned(b"x", url, path=name))
        assert error.code == "E644"
    assert http_server.requests == []


def test_nothing_to_fetch_is_said(access: DataAccess, tmp_path: Path) -> None:
    assert failure(access, tmp_path).code == "E645"


def test_many_files_and_all_their_problems(access: DataAccess, http_server: Any, tmp_path: Path) -> None:
    contents = [bytes([number]) * 3000 for number in range(30)]
    files = [
        pinned(content, http_server.put(f"/{number}", content), path=f"{number}.root")
        for number, content in enumerate(contents)
    ]
    paths = fetch_all(
        [(locked(*files[:15], name="a"), tmp_path / "a"), (locked(*files[15:], name="b"), tmp_path / "b")],
        access=access,
        quiet=True,
    )
    assert [path.read_bytes() for some in paths for path in some] == contents
    http_server.contents["/3"] = b"other"
    bad = [
        pinned(b"\x03" * 2999, http_server.url + "/3", path="3.root"),
        pinned(b"y", http_server.url + "/y"),
    ]
    error = failure(access, tmp_path, *files[4:6], *bad)
    assert [problem.code for problem in error.problems] == ["E641", "E642"]


def test_offline_takes_what_is_here(access: DataAccess, http_server: Any, tmp_path: Path) -> None:
    file = pinned(CONTENT, http_server.put("/e", CONTENT))
    offline = DataAccess(replace(access.settings, offline=True), access.store, tmp_path, patience=QUICK)
    assert failure(offline, tmp_path, file).code == "E203"
    fetch_data(locked(file), tmp_path / "one", access=access, quiet=True)
    fetch_data(locked(file), tmp_path / "two", access=offline, quiet=True)


def test_the_facility_decides_the_order(settings: Any, store: Any, tmp_path: Path) -> None:
    facility = FacilityProfile(
        name="f",
        data=("root://near//", "https://local/"),
        data_proxies=(DataProxy(prefix="root://far/", replacement="root://cache//root://far/"),),
    )
    access = DataAccess(settings, store, tmp_path, facility=facility, patience=QUICK)
    uris = ["root://far//e", "https://other/e", "https://local/e", "root://near//e", "file:e"]
    assert access.replicas(uris) == [
        "file:e",
        "root://near//e",
        "https://local/e",
        "root://cache//root://far//e",
        "root://far//e",
        "https://other/e",
    ]


def test_a_slow_host_goes_behind(access: DataAccess, settings: Any, store: Any, tmp_path: Path) -> None:
    uris = ["https://slow/e", "https://unknown/e", "https://fast/e"]
    access.measured(uris[0], 10 << 20, 10.0)
    access.measured(uris[2], 10 << 20, 1.0)
    later = DataAccess(settings, store, tmp_path, patience=QUICK)  # another process
    assert later.replicas(uris) == ["https://unknown/e", "https://fast/e", "https://slow/e"]
    access.measured(uris[0], 10 << 20, 2.0)
    assert DataAccess(settings, store, tmp_path).replicas(uris) == uris


def test_no_room_is_said_before_the_first_byte(access: DataAccess, http_server: Any, tmp_path: Path) -> None:
    huge = LockedDataFile(path="huge", size=1 << 60, uris=(http_server.put("/huge", b"x"),))
    error = failure(access, tmp_path, huge)
    assert error.code == "E649"
    assert http_server.requests == []


def test_one_process_downloads_and_the_others_wait(
    access: DataAccess, http_server: Any, fault: Any, tmp_path: Path
) -> None:
    file = pinned(CONTENT[:30_000], http_server.put("/e", CONTENT[:30_000], fault.slow(0.01)))
    others = [DataAccess(access.settings, access.store, tmp_path, patience=QUICK) for _ in range(3)]
    threads = [
        threading.Thread(
            target=fetch_data,
            args=(locked(file), tmp_path / str(number)),
            kwargs={"access": other, "quiet": True},
        )
        for number, other in enumerate(others)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert http_server.count("/e") == 1
    assert all((tmp_path / str(number) / "events.root").is_file() for number in range(3))
