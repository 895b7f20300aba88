"""What people are shown of images and of their differences."""

from __future__ import annotations

import json

import pytest

from afenv.documents.lockfile import dump_lock
from afenv.errors import AfenvError
from afenv.oci.diff import Change, Difference, diff, file_changes
from afenv.oci.files import Entry
from afenv.oci.inspect import inspect_image
from afenv.oci.layout import write_layout
from afenv.oci.packages import Package, find_packages, holds_packages
from afenv.testing import Member, folder, make_image, make_lock, symlink

STATUS = b"""\
Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2.15-2+b2
Description: GNU Bourne Again SHell
 Version: 9 is not a field here.

Package: gone
Status: deinstall ok config-files
Version: 1
"""
METADATA = b"""\
Metadata-Version: 2.1
Name: Awkward_Array
Version: 2.6.1

Name: not this one
"""


def packages(version: bytes = b"2.6.1"):
    return [
        Member(path="var/lib/dpkg/status", content=STATUS),
        Member(path="var/lib/dpkg/status.d/tzdata", content=b"Package: tzdata\nVersion: 2024a\n"),
        Member(path="var/lib/dpkg/status.d/tzdata.md5sums", content=b"Package: no\nVersion: 1\n"),
        Member(
            path="usr/lib/python3/dist-packages/awkward-2.6.1.dist-info/METADATA",
            content=METADATA.replace(b"2.6.1", version),
        ),
    ]


def layout(store, tmp_path, name, layers, **options):
    write_layout(make_image(store, layers, **options), store, tmp_path / name)
    return tmp_path / name


def test_packages_are_found(store, tmp_path):
    found = inspect_image(layout(store, tmp_path, "a", [packages()]))
    assert list(found.packages) == [
        Package("deb", "bash", "5.2.15-2+b2", "amd64"),
        Package("deb", "tzdata", "2024a"),
        Package("python", "awkward-array", "2.6.1"),
    ]
    assert holds_packages("x/y.dist-info/METADATA")
    assert not holds_packages("x/METADATA")
    assert find_packages([]) == []


def test_inspect_as_json(store, tmp_path):
    image = make_image(store, [packages(), [Member(path="code", content=b"12345")]], variables={"A": "1"})
    write_layout(image, store, tmp_path / "a")
    shown = json.loads(json.dumps(inspect_image(tmp_path / "a").as_json()))
    assert shown["image_id"] == image.image_id
    assert shown["manifest_digest"] == image.manifest_digest
    assert shown["platform"] == {"os": "linux", "architecture": "amd64"}
    assert shown["user"] == "1000:1000"
    assert shown["command"] == ["/bin/sh"]
    assert shown["files"] == 5
    assert shown["environment"][0] == "A=1"
    assert [layer["source"] for layer in shown["layers"]] == ["layer 1", "layer 2"]
    assert {"kind": "python", "name": "awkward-array", "version": "2.6.1", "architecture": ""} in shown[
        "packages"
    ]


def test_inspect_as_text(store, tmp_path):
    text = inspect_image(layout(store, tmp_path, "a", [packages()], entrypoint=("x", "y"))).as_text()
    lines = text.splitlines()
    assert lines[0] == "image       sample:1.0"
    assert "entry point x y" in lines
    assert "platform    linux/amd64" in lines
    assert "Debian packages (2)" in lines
    assert "  awkward-array 2.6.1" in lines
    assert not any(line.startswith("command") for line in lines)


def test_equal_images_do_not_differ(store, tmp_path):
    one = layout(store, tmp_path, "a", [packages()])
    found = diff(one, one)
    assert (found.differs, found.as_text()) == (False, "no difference")


def test_other_layers_with_the_same_files_do_not_differ(store, tmp_path):
    """The history and the layers may be others: what runs is the same."""
    members = packages()
    one = layout(store, tmp_path, "a", [members])
    two = layout(store, tmp_path, "b", [members[:2], members[2:]])
    found = diff(one, two)
    assert not found.differs
    assert found.layers == {"shared": 0, "old": 1, "new": 2}


def test_every_kind_of_difference_is_shown(store, tmp_path):
    below = [Member(path="same", content=b"same")]
    one = [
        *packages(),
        Member(path="bigger", content=b"1"),
        Member(path="mode", mode=0o644),
        symlink("link", "one"),
        Member(path="gone"),
        Member(path="kind"),
        folder("d"),
    ]
    two = [
        *packages(b"2.7.0"),
        Member(path="bigger", content=b"22"),
        Member(path="mode", mode=0o755),
        symlink("link", "two"),
        folder("kind"),
        Member(path="new"),
        folder("d"),
    ]
    found = diff(
        layout(store, tmp_path, "a", [below, one], variables={"A": "1", "B": "2"}),
        layout(store, tmp_path, "b", [below, two], variables={"A": "2", "C": "3"}, workdir="/w"),
    )
    assert found.differs
    assert found.packages == (Change("python awkward-array", "2.6.1", "2.7.0"),)
    assert [change.what for change in found.files] == [
        *("bigger", "gone", "kind", "link", "mode", "new"),
        "usr/lib/python3/dist-packages/awkward-2.6.1.dist-info/METADATA",
    ]
    texts = {change.what: change.as_text() for change in (*found.files, *found.config)}
    assert texts["gone"].startswith("- gone file 0644")
    assert texts["new"].startswith("+ new file 0644")
    assert "→ folder 0755" in texts["kind"]
    assert "to one → link 0777 0:0 to two" in texts["link"]
    assert texts["variable A"] == "~ variable A 1 → 2"
    assert texts["variable B"] == "- variable B 2"
    assert texts["variable C"] == "+ variable C 3"
    assert texts["WorkingDir"] == "~ WorkingDir /home/analyst → /w"
    assert found.layers == {"shared": 1, "old": 1, "new": 1}
    text = found.as_text()
    assert "packages (1)" in text
    assert text.endswith("layers: 1 shared, 1 only in the first, 1 only in the second")
    assert json.loads(json.dumps(found.as_json()))["differs"] is True


def test_long_lists_are_cut_for_people_only():
    found = Difference(files=tuple(Change(f"f{count}", None, "x") for count in range(60)))
    assert "… and 10 more" in found.as_text()
    assert len(found.as_json()["files"]) == 60


def test_times_and_attributes():
    def entry(**values) -> Entry:
        return Entry(path="a", kind="f", mode=0o644, **values)

    assert file_changes({"a": entry(mtime=1)}, {"a": entry(mtime=2)}) == ((), ("a",))
    (change,), times = file_changes({"a": entry()}, {"a": entry(xattrs=(("user.x", "y"),))})
    assert (change.old != change.new, "user.x" in str(change.new), times) == (True, True, ())
    found = Difference(times=("a", "b"))
    assert found.differs
    assert found.as_text() == "times: 2 paths, different in modification time only"
    assert found.as_json()["times"] == ["a", "b"]


def test_locks_are_compared_by_packages_and_code(tmp_path):
    from afenv.documents.lock import LockedFile, LockedWheel

    def lock(name, *wheels):
        found = tuple(
            LockedWheel(
                name=wheel,
                version=version,
                file=LockedFile(urls=("https://example.org/x.whl",), size=1, sha256="0" * 64),
            )
            for wheel, version in wheels
        )
        (tmp_path / name).write_bytes(dump_lock(make_lock(wheels=found)))
        return tmp_path / name

    one = lock("one.lock", ("hist", "2.7"), ("uproot", "5.3"))
    two = lock("two.lock", ("hist", "2.8"), ("vector", "1.4"))
    assert not diff(one, one).differs
    assert [change.as_text() for change in diff(one, two).packages] == [
        "~ python hist 2.7 → 2.8",
        "- python uproot 5.3",
        "+ python vector 1.4",
    ]


def test_an_image_and_a_lock_cannot_be_compared(store, tmp_path):
    (tmp_path / "x.lock").write_bytes(dump_lock(make_lock()))
    with pytest.raises(AfenvError) as caught:
        diff(layout(store, tmp_path, "a", None), tmp_path / "x.lock")
    assert caught.value.code == "E030"
