"""The hard cases of the test channel, written into a layer, are what py-rattler installs."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from afenv.documents.lock import LockedConda, LockedEnvironment
from afenv.errors import AfenvError
from afenv.layers.conda import write_conda
from afenv.layers.conda_open import open_package
from afenv.layers.conda_plan import conda_owners
from afenv.layers.writer import LayerWriter
from afenv.resolve.conda.records import locked_conda
from afenv.store.content import ContentStore

PREFIX = "/opt/conda"
LONG = "/" + "a-long-folder/" * 8 + "conda"  # 127 bytes of shebang are not enough for it
ALONE = [
    "hard-activate", "hard-absolute", "hard-binary", "hard-empty", "hard-folders", "hard-links",
    "hard-links-bz2", "hard-modes", "hard-modes-bz2", "hard-names", "hard-no-link", "hard-noarch", "hard-old",
    "hard-old-columns", "hard-pyc", "hard-shebang", "hard-short", "hard-text",
]  # fmt: skip

Tree = dict[str, tuple[str, Any]]


def locked(channel: Path, names: Sequence[str]) -> list[LockedConda]:
    """The channel's packages of these names."""
    found = []
    for subdir in ("linux-64", "noarch"):
        repodata = json.loads((channel / subdir / "repodata.json").read_text())
        for name, record in {**repodata["packages"], **repodata["packages.conda"]}.items():
            if record["name"] in names:
                url = f"https://conda.anaconda.org/conda-forge/{subdir}/{name}"
                found.append(locked_conda(record, channel="conda-forge", url=url, requested=True))
    assert len(found) == len(names)
    return found


def ours(
    channel: Path, names: Sequence[str], prefix: str, store: ContentStore, *, folders: bool = False
) -> Tree:
    """What the layer of these packages has below the prefix."""
    packages = locked(channel, names)
    environment = LockedEnvironment(
        request="sha256:" + "0" * 64,
        platform="linux/amd64",
        as_of="2025-01-01T00:00:00Z",
        conda=tuple(packages),
        conda_prefix=prefix,
    )
    paths = {one.file.sha256: channel / one.subdir / one.file.file_name for one in packages}
    opened = {one.name: open_package(one, paths[one.file.sha256], environment) for one in packages}
    lost = conda_owners(environment, opened)
    with store.writer() as blob:
        writer = LayerWriter(blob, mtime=0)
        write_conda(packages, paths, environment, writer, compiler=None, lost=lost)
        layer = writer.finish()
        blob.commit()
    found: Tree = {}
    with store.open(layer.digest) as file, tarfile.open(fileobj=io.BytesIO(file.read())) as tar:
        for member in tar:
            name = member.name.removeprefix(prefix.strip("/") + "/")
            if name.startswith("conda-meta") or (member.isdir() and not folders):
                continue
            if member.isdir():
                found[name] = "folder", member.mode
            elif member.issym():
                found[name] = "link", member.linkname
            else:
                content = tar.extractfile(member)
                assert content is not None
                found[name] = ("executable" if member.mode & 0o100 else "file"), content.read()
    return found


def theirs(prefix: Path) -> Tree:
    """What py-rattler installed there."""
    found: Tree = {}
    for path in prefix.rglob("*"):
        name = str(path.relative_to(prefix))
        if name.startswith(("conda-meta/", "__clobbers__/")) or name == "CACHEDIR.TAG":
            continue
        if path.is_symlink():
            found[name] = "link", str(path.readlink())
        elif path.is_file():
            executable = path.stat().st_mode & 0o100
            found[name] = ("executable" if executable else "file"), path.read_bytes()
    return found


def check(
    channel: Path, names: Sequence[str], prefix: str, store: ContentStore, rattler: Any, folder: Path
) -> None:
    installed = rattler(channel, folder / "env", *names, "--as-prefix", prefix)
    mine, other = ours(channel, [one["name"] for one in installed], prefix, store), theirs(folder / "env")
    assert mine
    assert mine.keys() == other.keys()
    assert {name for name, entry in mine.items() if entry != other[name]} == set()


@pytest.mark.parametrize("name", ALONE)
def test_alone(name: str, hard_channel: Path, store: ContentStore, rattler: Any, tmp_path: Path) -> None:
    check(hard_channel, [name], PREFIX, store, rattler, tmp_path)


@pytest.mark.parametrize("name", ["hard-shebang", "hard-noarch", "hard-text", "hard-binary"])
def test_with_a_long_prefix(
    name: str, hard_channel: Path, store: ContentStore, rattler: Any, tmp_path: Path
) -> None:
    check(hard_channel, [name], LONG, store, rattler, tmp_path)


def test_packages_that_share_paths(
    hard_channel: Path, store: ContentStore, rattler: Any, tmp_path: Path
) -> None:
    """Here py-rattler decides as conda does: the last one in the order of dependencies wins."""
    check(hard_channel, ["hard-clobber-c"], PREFIX, store, rattler, tmp_path)
    tree = ours(hard_channel, [f"hard-clobber-{one}" for one in "abc"], PREFIX, store)
    assert tree["share/hard-clobber/differs.txt"] == ("file", b"from c\n")


def test_a_prefix_without_room(hard_channel: Path, store: ContentStore) -> None:
    with pytest.raises(AfenvError) as caught:
        ours(hard_channel, ["hard-short"], LONG, store)
    assert caught.value.code == "E409"


def test_listed_folders_are_made(hard_channel: Path, store: ContentStore) -> None:
    tree = ours(hard_channel, ["hard-directories"], PREFIX, store, folders=True)
    assert tree["share/hard-directories/folder"] == ("folder", 0o755)
    assert tree["share/hard-directories/deep/er/folder"] == ("folder", 0o755)
    assert tree["share/hard-directories/full/file"] == ("file", b"x")
