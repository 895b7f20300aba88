"""Bags as files: what is written, and that whatever happens to it is found and named."""

from __future__ import annotations

import errno
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from afenv.archive import write as writing
from afenv.archive.fixity import check_fixity
from afenv.archive.items import Item, of_blob, of_bytes, of_file
from afenv.archive.parts import SUFFIX
from afenv.archive.source import is_bag, open_bag
from afenv.archive.write import write_bag
from afenv.errors import AfenvError, Problem
from afenv.store.content import ContentStore

FORMS = ["bag", "bag.tar", "bag.zip"]
INFO = {"Source-Organization": "a laboratory", "Contact-Name": ["Ada", "Emmy"]}


def items(store: ContentStore, folder: Path) -> list[Item]:
    """A small payload: bytes, a blob of the store, a file; names that need care."""
    blob = store.put(random.Random(1).randbytes(3000))
    folder.mkdir(parents=True, exist_ok=True)
    copied = folder / "copied"
    copied.write_bytes(b"abc" * 400)
    return [
        of_bytes("afenv-archive.json", b"{}\n", "documents"),
        of_bytes("inputs/empty", b"", "inputs"),
        of_bytes(f"inputs/{'long/' * 40}name", b"long\n", "inputs"),
        of_bytes("inputs/libstdc++6_1.0~rc1.deb", b"deb\n", "inputs"),
        of_blob("image/blobs/sha256/aa", store, blob, "image"),
        of_file("results/copied", copied, "results"),
    ]


def write(store: ContentStore, target: Path, part_size: int | None = None) -> list[Path]:
    return write_bag(target, items(store, target.parent / "src"), INFO, b"# Bag\n", part_size=part_size)


def problems(path: Path) -> list[Problem]:
    """What is wrong with a bag, whether it is raised or reported."""
    try:
        with open_bag(path) as source:
            return list(check_fixity(source).problems)
    except AfenvError as error:
        return list(error.problems)


def tree(path: Path) -> dict[str, bytes]:
    return {str(one.relative_to(path)): one.read_bytes() for one in sorted(path.rglob("*")) if one.is_file()}


@pytest.mark.parametrize("name", FORMS)
def test_a_bag_is_whole_and_the_same_bytes_each_time(store: ContentStore, tmp_path: Path, name: str) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        assert write(store, tmp_path / str(number) / name) == [tmp_path / str(number) / name]
    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    assert is_bag(tmp_path / "1" / name)
    assert problems(tmp_path / "1" / name) == []


def test_what_is_linked_is_not_copied(store: ContentStore, tmp_path: Path) -> None:
    write(store, tmp_path / "bag")
    (blob,) = (item for item in items(store, tmp_path / "src") if item.link)
    assert blob.file is not None
    assert (tmp_path / "bag/data" / blob.path).samefile(blob.file)
    copied = tmp_path / "src/copied"
    assert not (tmp_path / "bag/data/results/copied").samefile(copied)


def test_bagit_py_takes_it(store: ContentStore, tmp_path: Path) -> None:
    write(store, tmp_path / "bag")
    command = [sys.executable, "-m", "bagit", "--validate", "--quiet", str(tmp_path / "bag")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "bag/data/inputs/empty").open("ab") as file:
        file.write(b"more")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_other_readers_find_the_same_files(store: ContentStore, tmp_path: Path, form: str) -> None:
    write(store, tmp_path / "bag")
    write(store, tmp_path / f"bag.{form}")
    if form == "tar":
        with tarfile.open(tmp_path / "bag.tar") as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # not in 3.11.2
            archive.extractall(tmp_path / "out")
    else:
        with zipfile.ZipFile(tmp_path / "bag.zip") as archive:
            assert archive.testzip() is None
            archive.extractall(tmp_path / "out")
    assert tree(tmp_path / "out/bag") == tree(tmp_path / "bag")


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_parts_are_the_file_in_pieces(
    store: ContentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(writing, "RECORD_LEAST", 1000)
    whole = tmp_path / "whole" / f"bag.{form}"
    whole.parent.mkdir()
    write(store, whole)
    paths = write(store, tmp_path / f"bag.{form}", part_size=4000)
    *parts, index = paths
    assert len(parts) > 2 and index.name == f"bag.{form}{SUFFIX}"
    assert max(part.stat().st_size for part in parts) == 4000
    assert b"".join(part.read_bytes() for part in parts) == whole.read_bytes()
    assert problems(index) == problems(tmp_path / f"bag.{form}") == []
    with open_bag(index) as source, source.open("data/results/copied") as file:
        assert file.read() == b"abc" * 400
    # what lies in the parts at hand can be had without the others
    parts[-1].unlink()
    with open_bag(index) as source:
        with source.open("data/afenv-archive.json") as file:
            assert file.read() == b"{}\n"
        assert [(one.code, one.place) for one in check_fixity(source).problems if one.code == "E730"]


def test_a_part_has_a_least_size_and_a_folder_no_parts(store: ContentStore, tmp_path: Path) -> None:
    for name, size in (("bag", 1 << 20), ("bag.zip", 100)):
        with pytest.raises(AfenvError, match="E731"):
            write(store, tmp_path / name, part_size=size)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "src"]


# One flipped bit


def _flip(path: Path, position: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        (value,) = file.read(1)
        file.seek(position)
        file.write(bytes([value ^ (1 << bit)]))


def _flippable(path: Path) -> list[tuple[Path, int]]:
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    return [(file, file.stat().st_size) for file in files if file.stat().st_size]


@pytest.mark.parametrize("name", [*FORMS, "parts.tar"])
def test_one_flipped_bit_anywhere_is_found_and_named(
    store: ContentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(writing, "RECORD_LEAST", 1000)
    paths = write(store, tmp_path / name, part_size=5000 if name.startswith("parts") else None)
    target = paths[-1]
    files = [one for path in paths for one in _flippable(path)]
    for file, _ in files:
        file.chmod(0o644)
    dice = random.Random(name)
    for _ in range(150):
        # files count alike, so that the small ones are hit as well
        file, size = dice.choice(files)
        position, bit = dice.randrange(size), dice.randrange(8)
        _flip(file, position, bit)
        found = problems(target)
        assert found, f"{file.name}, byte {position}, bit {bit}"
        if target.is_dir():
            named = str(file.relative_to(target))
            assert named in " ".join(one.message + str(one.place) for one in found), (named, found)
        _flip(file, position, bit)
    assert problems(target) == []


def test_a_flipped_bit_of_a_member_names_it(store: ContentStore, tmp_path: Path) -> None:
    for form in ("tar", "zip"):
        target = tmp_path / f"bag.{form}"
        write(store, target)
        at = target.read_bytes().index(b"abcabc")
        _flip(target, at + 5, 2)
        codes = {(one.code, one.message.split()[0]) for one in problems(target)}
        assert ("E721", "data/results/copied") in codes


# Missing, extra, renamed, cut


def _one(path: Path, code: str, text: str) -> None:
    found = problems(path)
    assert any(one.code == code and text in one.message for one in found), found


def test_what_is_missing_extra_renamed_or_cut_is_named(store: ContentStore, tmp_path: Path) -> None:
    def fresh() -> Path:
        shutil.rmtree(tmp_path / "bag", ignore_errors=True)
        write(store, tmp_path / "bag")
        return tmp_path / "bag"

    bag = fresh()
    (bag / "data/results/copied").unlink()
    _one(bag, "E722", "data/results/copied")
    bag = fresh()
    (bag / "data/extra").write_bytes(b"extra")
    _one(bag, "E723", "data/extra")
    bag = fresh()
    (bag / "extra-tag.txt").write_bytes(b"extra")
    _one(bag, "E723", "extra-tag.txt")
    bag = fresh()
    (bag / "data/results/copied").rename(bag / "data/results/other")
    _one(bag, "E722", "data/results/other has its content: it was renamed")
    bag = fresh()
    (bag / "data/results/copied").write_bytes(b"abc" * 100)
    _one(bag, "E721", "data/results/copied has another content")
    for name in ("manifest-sha512.txt", "tagmanifest-sha256.txt", "bag-info.txt"):
        bag = fresh()
        (bag / name).unlink()
        _one(bag, "E722", name)


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_a_file_that_was_cut_is_found(store: ContentStore, tmp_path: Path, form: str) -> None:
    whole = tmp_path / f"bag.{form}"
    write(store, whole)
    data = whole.read_bytes()
    for size in (*range(0, len(data), 701), len(data) - 1):
        whole.write_bytes(data[:size])
        assert problems(whole), size
    whole.write_bytes(data + b"\0")
    _one(whole, "E724", "the last file")


# What is not safe


def _tar(members: Iterator[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


DECLARED = (_member("bag/bagit.txt"), b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")


@pytest.mark.parametrize(
    ("member", "data"),
    [
        (_member("bag/../../etc/passwd"), b"x"),
        (_member("/etc/passwd"), b"x"),
        (_member("bag/data/link", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (_member("bag/data/link", tarfile.LNKTYPE, "bag/bagit.txt"), b""),
        (_member("bag/data/device", tarfile.CHRTYPE), b""),
        (_member("bag/data/a\\b"), b"x"),
    ],
    ids=["parent", "absolute", "symlink", "hardlink", "device", "backslash"],
)
def test_a_tar_with_what_leads_outside_is_refused(
    tmp_path: Path, member: tarfile.TarInfo, data: bytes
) -> None:
    (tmp_path / "bag.tar").write_bytes(_tar(iter([DECLARED, (member, data)])))
    (found,) = problems(tmp_path / "bag.tar")
    assert found.code == "E725"


def _zip(fill: Callable[[zipfile.ZipFile], None]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("bag/bagit.txt", DECLARED[1])
        fill(archive)
    return out.getvalue()


def _symlink(archive: zipfile.ZipFile) -> None:
    member = zipfile.ZipInfo("bag/data/link")
    member.external_attr = 0o120777 << 16
    archive.writestr(member, "/etc/passwd")


@pytest.mark.parametrize(
    "fill",
    [
        lambda archive: archive.writestr("bag/../evil", "x"),
        lambda archive: archive.writestr("/evil", "x"),
        lambda archive: archive.writestr("bag/data/bomb", bytes(50_000_000), zipfile.ZIP_DEFLATED),
        _symlink,
    ],
    ids=["parent", "absolute", "bomb", "symlink"],
)
def test_a_zip_with_what_leads_outside_or_grows_is_refused(
    tmp_path: Path, fill: Callable[[zipfile.ZipFile], None]
) -> None:
    (tmp_path / "bag.zip").write_bytes(_zip(fill))
    (found,) = problems(tmp_path / "bag.zip")
    assert found.code == "E725"


def test_a_zip_whose_members_share_bytes_is_refused(store: ContentStore, tmp_path: Path) -> None:
    """The bomb of David Fifield, "A better zip bomb" (2019): many entries for one content."""
    data = _zip(lambda archive: [archive.writestr(f"bag/data/{n}", b"x" * 1000) for n in "ab"] and None)
    first = data.index(b"PK\x01\x02")
    entries = data[first:]
    at_a, at_b = data.index(b"PK\x03\x04", 40), data.rindex(b"PK\x03\x04")
    changed = entries.replace(at_b.to_bytes(4, "little"), at_a.to_bytes(4, "little"))
    assert changed != entries
    (tmp_path / "bag.zip").write_bytes(data[:first] + changed)
    assert {one.code for one in problems(tmp_path / "bag.zip")} <= {"E724", "E725"}
    assert problems(tmp_path / "bag.zip")


def test_a_folder_with_a_link_is_refused_and_manifests_do_not_lead_outside(
    store: ContentStore, tmp_path: Path
) -> None:
    write(store, tmp_path / "bag")
    link = tmp_path / "bag/data/link"
    link.symlink_to("/etc/passwd")
    (found,) = problems(tmp_path / "bag")
    assert (found.code, "data/link" in found.message) == ("E725", True)
    link.unlink()
    for name in ("manifest-sha256.txt", "manifest-sha512.txt"):
        path = tmp_path / "bag" / name
        digest = path.read_text().split()[0]
        path.write_text(f"{digest}  data/../../../etc/passwd\n")
    assert "E725" in {one.code for one in problems(tmp_path / "bag")}


def test_what_is_no_bag_is_said(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"hello")
    (tmp_path / "two.tar").write_bytes(_tar(iter([DECLARED, (_member("other/file"), b"")])))
    assert [problems(tmp_path / name)[0].code for name in ("folder", "file", "two.tar", "none")] == [
        "E720",
        "E720",
        "E720",
        "E001",
    ]


def test_a_newer_bagit_is_said(store: ContentStore, tmp_path: Path) -> None:
    write(store, tmp_path / "bag")
    (tmp_path / "bag/bagit.txt").write_bytes(b"BagIt-Version: 2.0\nTag-File-Character-Encoding: UTF-8\n")
    assert problems(tmp_path / "bag")[0].code == "E726"


# Interrupted, and a full disk


@pytest.mark.parametrize("name", FORMS)
def test_a_full_disk_leaves_nothing(
    store: ContentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = items(store, tmp_path / "src")
    monkeypatch.setattr(writing, "tail_files", full)
    with pytest.raises(AfenvError, match="E402"):
        write_bag(tmp_path / "out" / name, before, INFO, b"")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_others_are_let_be(
    store: ContentStore, tmp_path: Path
) -> None:
    (tmp_path / ".bag.afenv-999999999-abc").mkdir()
    (tmp_path / f".bag.afenv-{os.getpid()}-abc").mkdir()
    write(store, tmp_path / "bag")
    assert not (tmp_path / ".bag.afenv-999999999-abc").exists()
    assert (tmp_path / f".bag.afenv-{os.getpid()}-abc").exists()


def test_nothing_is_written_over(store: ContentStore, tmp_path: Path) -> None:
    for name in FORMS:
        write(store, tmp_path / name)
        with pytest.raises(AfenvError, match="E731"):
            write(store, tmp_path / name)


def test_content_that_changes_while_it_is_read_is_an_error(store: ContentStore, tmp_path: Path) -> None:
    for name in FORMS:
        found = items(store, tmp_path / "src")
        (tmp_path / "src/copied").write_bytes(b"xyz" * 400)
        with pytest.raises(AfenvError, match="E305"):
            write_bag(tmp_path / name, found, INFO, b"")
        assert not (tmp_path / name).exists()


SCRIPT = """
import sys
from pathlib import Path
from afenv.archive.items import Item
from afenv.archive.write import write_bag
large = Path(sys.argv[1])
item = Item(path="large", size=large.stat().st_size, sha256="0" * 64, part="data", file=large, link=True)
write_bag(Path(sys.argv[2]), [item], {}, b"")
"""


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_process_leaves_nothing_that_looks_whole(
    store: ContentStore, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(4 << 30)  # sparse: it takes no room, and a while to hash
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-c", SCRIPT, str(large), str(out / name)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    for _ in range(3000):
        if list(out.glob(".bag*.afenv-*/*")):
            break
        time.sleep(0.01)
    process.send_signal(number)
    process.wait(120)
    left = [path.name for path in out.iterdir()]
    assert name not in left
    assert number == signal.SIGKILL or left == []
    large.unlink()
    write(store, out / name)
    assert sorted(path.name for path in out.iterdir()) == sorted([name, "src"])
