"""The real cvmfs_server: run by ``nox -s cvmfs_server`` on a host that has it, as root.

A repository is made and removed, unless ``AFENV_TEST_CVMFS_REPOSITORY`` names one that may be written to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.oci.diff import diff
from afenv.oci.layout import write_layout
from afenv.oci.publishing import Target, folder_target, repository_target
from afenv.testing import Member, folder, hardlink, make_image, symlink
from afenv_builders.cvmfs import CvmfsBuilder
from afenv_builders.cvmfs.names import flat_path

pytestmark = pytest.mark.cvmfs_server
NAME = "registry.example.org/group/analysis:1.0"
PUBLISHER = CvmfsBuilder()


def server(*words: str, status: int | None = 0) -> str:
    """Call cvmfs_server; what it printed."""
    done = subprocess.run(
        ["cvmfs_server", *words], capture_output=True, text=True, check=False, timeout=600, cwd="/"
    )
    assert status is None or done.returncode == status, f"{words}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def repository() -> Iterator[str]:
    """A repository to publish to."""
    if shutil.which("cvmfs_server") is None:
        pytest.fail("cvmfs_server is needed")
    given = os.environ.get("AFENV_TEST_CVMFS_REPOSITORY")
    if given:
        yield given
        return
    name = f"images-{os.getpid()}.afenv.test"
    server("mkfs", "-o", "root", name)
    yield name
    server("rmfs", "-f", name, status=None)


@pytest.fixture(params=["ingest", "transaction"])
def target(request, repository) -> Iterator[Target]:
    """The repository, by both methods; emptied of images afterwards."""
    found = repository_target(repository, request.param)
    yield found
    for one in PUBLISHER.images(found):
        PUBLISHER.remove(one.name, found)
    PUBLISHER.collect(found)


@pytest.fixture
def image(store):
    """An image with links, private modes, a long name, and something deleted."""
    return make_image(
        store,
        [
            (
                *(folder("bin"), Member(path="bin/tool", content=b"tool" * 90_000, mode=0o755)),
                *(hardlink("bin/same", "bin/tool"), folder("old"), Member(path="old/a")),
                *(folder("private", 0o700), Member(path="private/x", content=b"x", mode=0o600)),
                *(folder("tmp", 0o1777), symlink("lib", "usr/lib")),
            ),
            (Member(path=".wh.old"), Member(path="ü" + "x" * 150, content=b"y")),
        ],
    )


def revision(name: str) -> int:
    """The repository's revision, as the mounted client tells it."""
    done = subprocess.run(["attr", "-qg", "revision", f"/cvmfs/{name}"], capture_output=True, check=True)
    return int(done.stdout)


def publish(image, store, target, name: str = NAME):
    return PUBLISHER.publish(image, store, name, target, quiet=True)


def test_the_life_of_an_image(image, store, target, tmp_path):
    before = revision(target.repository)
    assert publish(image, store, target).changed
    assert revision(target.repository) == before + 1  # one transaction
    write_layout(image, store, tmp_path / "image.oci")
    found = diff(tmp_path / "image.oci", target.place / NAME)
    changed = {change.what for change in found.files}
    assert not changed, found.as_text()
    assert not publish(image, store, target).changed
    assert revision(target.repository) == before + 1
    other = make_image(store, [(Member(path="own"),)])
    publish(other, store, target)
    assert (target.place / NAME / "own").exists()
    assert not (target.place / NAME / "bin").exists()
    PUBLISHER.collect(target)
    assert not (target.place / flat_path(image.image_id)).exists()


def test_both_methods_publish_what_a_folder_gets(image, store, target, tmp_path):
    publish(image, store, target)
    publish(image, store, folder_target(tmp_path / "out"))

    def paths(root: Path) -> set[str]:
        return {str(path.relative_to(root)) for path in root.rglob("*")}

    assert paths(tmp_path / "out") <= paths(target.place)


def test_an_open_transaction_is_left_alone(image, store, target):
    server("transaction", target.repository)
    try:
        with pytest.raises(AfenvError) as caught:
            publish(image, store, target)
        assert caught.value.code == "E532"
    finally:
        server("abort", "-f", target.repository)
    assert publish(image, store, target).changed


def test_a_stream_that_ends_half_way_publishes_nothing(image, store, repository, monkeypatch):
    target = repository_target(repository, "ingest")
    from afenv_builders.cvmfs import publishing

    real = publishing.plan_pieces

    def half(*words):
        for count, piece in enumerate(real(*words)):
            if count == 40:
                raise AfenvError("E510", "half way")
            yield piece

    monkeypatch.setattr(publishing, "plan_pieces", half)
    before = revision(repository)
    with pytest.raises(AfenvError, match="half way"):
        publish(image, store, target)
    assert revision(repository) == before and not (target.place / NAME).is_symlink()
    monkeypatch.undo()
    assert publish(image, store, target).changed
    PUBLISHER.remove(NAME, target)
    PUBLISHER.collect(target)
