"""Publishing, removing and collecting, for a folder and for a repository of this host alike."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from afenv.digest import hex_of
from afenv.errors import AfenvError
from afenv.layers.tar_header import END, HARD_LINK
from afenv.oci.merge import Index, TarLayers, with_indexes
from afenv.oci.model import Blobs, Image, ImageBlobs
from afenv.oci.publishing import Publication, PublishedImage, Removal, Target
from afenv.oci.read import OpenedImage
from afenv.oci.tar_node import folder_node, tar_pieces
from afenv.oci.tar_stream import Piece
from afenv.progress import Progress
from afenv.store.content import ContentStore, write_error
from afenv.store.trees import remove_tree
from afenv_builders.cvmfs import repository
from afenv_builders.cvmfs.names import (
    CATALOGUE,
    METADATA,
    flat_path,
    layer_path,
    manifest_path,
    published_name,
    repository_name,
)
from afenv_builders.cvmfs.placing import STAGING, locked, place, settle
from afenv_builders.cvmfs.plan import LeftOut, Plan, plan
from afenv_builders.cvmfs.state import State, origin_text


def publish(
    image: Image, blobs: Blobs, reference: str, target: Target, *, quiet: bool = False
) -> Publication:
    """Publish an image; see :class:`afenv.oci.publishing.Publisher`.

    E530 for a name that cannot be, E533 for what is in the way, E535 for what is no repository; E531, E532,
    E534 and E539 as :mod:`afenv_builders.cvmfs.repository` has them; E402 and E403; E301, E305 and E510 for
    an image that is damaged, E304 and E537 for paths that cannot be published.
    """
    name = published_name(reference)
    if target.method != "folder":
        repository_name(target.repository)
    if target.method == "wishes":
        from afenv_builders.cvmfs.wishes import wish

        return wish(image, name, target)
    job = _Job(image, blobs, name, target, quiet)
    if target.method == "folder":
        return job.into_folder()
    repository.check_repository(target.repository, target.place)
    return job.by_ingest() if target.method == "ingest" else job.in_transaction()


class _Job:
    """The publication of one image."""

    def __init__(self, image: Image, blobs: Blobs, name: str, target: Target, quiet: bool) -> None:
        self._image, self._blobs, self._name, self._target = image, blobs, name, target
        self._state = State(target.place)
        self._left_out = LeftOut()
        total = 2 * sum(layer.size for layer in image.layers)
        self._writing = False
        self._progress = Progress(f"publishing {name}", total, quiet=quiet)
        rest = ImageBlobs(image=image, rest=blobs)
        self._opened = OpenedImage(image=image, blobs=rest, path=target.place)

    def _plan(self) -> Plan:
        return plan(self._state, self._image, self._blobs, self._name, self._left_out, self._advance)

    def _advance(self, size: int) -> None:
        if self._writing:
            self._progress.advance(size)

    def _report(self, found: Plan) -> Publication:
        return Publication(
            name=self._name,
            image_id=self._image.image_id,
            target=self._target,
            changed=bool(found.parts),
            path=flat_path(self._image.image_id),
            added=found.added,
            shared=found.shared,
            left_out=self._left_out.lines(),
        )

    def into_folder(self) -> Publication:
        root = self._target.place
        with _folder(root), locked(root):
            found = self._plan()
            if found.parts:
                try:
                    self._write(found)
                finally:
                    settle(root)
        return self._report(found)

    def _write(self, found: Plan) -> None:
        check_blobs(self._image, self._blobs)
        self._writing = True
        with self._progress:
            place(found.parts, self._opened, self._target.place)

    def in_transaction(self) -> Publication:
        found = self._plan()
        if not found.parts:
            return self._report(found)
        check_blobs(self._image, self._blobs)
        root, name = self._target.place, self._target.repository
        with repository.transaction(name, root, f"afenv: {self._name}"), locked(root):
            found = self._plan()  # the newest revision may have more
            self._write(found)
        return self._report(found)

    def by_ingest(self) -> Publication:
        found = self._plan()
        if not found.parts:
            return self._report(found)
        check_blobs(self._image, self._blobs)
        indexes = self._indexes(found)
        self._writing = True
        with self._progress:
            repository.ingest(self._target.repository, plan_pieces(found, indexes))
        return self._report(found)

    def _indexes(self, found: Plan) -> dict[int, Index]:
        """What the layers' indexes are, where any are needed: a tar that is being ingested cannot begin anew.

        Everything is read once for that, so that a damaged layer is found before a transaction is opened.
        """
        kept: dict[int, Index] = {}

        def attempt(indexes: dict[int, Index]) -> None:
            for part in found.parts:
                for _ in part.nodes(indexes):
                    pass
            kept.update(indexes)

        with_indexes(TarLayers(self._opened), attempt)  # type: ignore[arg-type]
        return kept


def plan_pieces(found: Plan, indexes: dict[int, Index]) -> Iterator[Piece]:
    """The parts of a plan as one tar, with paths from the root of the publication."""
    for part in found.parts:
        start = part.path.encode()
        if part.tree:
            yield from tar_pieces(folder_node(start, part.mtime))
        for node in part.nodes(indexes):
            node.path = start + b"/" + node.path if node.path else start
            if node.kind == HARD_LINK:
                node.target = start + b"/" + node.target
            yield from tar_pieces(node)
    yield memoryview(END)


def check_blobs(image: Image, blobs: Blobs) -> None:
    """See that every layer is there, with the content of its digest; E305, E301."""
    for layer in image.layers:
        if isinstance(blobs, ContentStore):
            if not blobs.trusted(layer.digest, layer.size):
                raise AfenvError("E305", f"the store lacks {layer.digest}", place=str(blobs.folder))
            continue
        with blobs.open(layer.digest) as file:
            digest = hashlib.sha256()
            while data := file.read(1 << 20):
                digest.update(data)
        if digest.hexdigest() != hex_of(layer.digest):
            raise AfenvError("E301", f"the layer {layer.digest} has another content")


@contextlib.contextmanager
def _folder(root: Path) -> Iterator[None]:
    """The folder of a publication; if it is made here and nothing comes into it, it is gone at the end."""
    made = []
    try:
        for one in (root, *root.parents):
            if one.exists():
                break
            made.append(one)
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, root) from error
    try:
        yield
    except BaseException:
        for one in made:
            with contextlib.suppress(OSError):
                one.rmdir()
        raise


def images(target: Target) -> tuple[PublishedImage, ...]:
    """What is published, by name; E001 if there is no such folder, E533 if a manifest is damaged."""
    _check_there(target)
    return tuple(sorted(State(target.place).images(), key=lambda one: one.name))


def remove(reference: str, target: Target) -> Removal:
    """Remove a name and its manifest; E536 if there is none. The files stay for those who use them now."""
    name = published_name(reference)
    _check_there(target)
    _check_changeable(target)
    state = State(target.place)
    paths = [path for path in (name, manifest_path(name)) if state.has(path)]
    if state.link(name) is None:
        raise AfenvError("E536", f"{name} is not published", place=str(target.place))
    with _changing(target, f"afenv: remove {name}"):
        for path in paths:
            (target.place / path).unlink(missing_ok=True)
            _remove_empty(target.place, path)
    return Removal(paths=tuple(paths))


def collect(target: Target) -> Removal:
    """Remove the flat trees that no name leads to, the layers that no image has, and what names them."""
    _check_there(target)
    _check_changeable(target)
    state = State(target.place)
    if target.method == "ingest":
        paths = state.garbage()
        if paths:
            repository.delete(target.repository, paths)
        return Removal(paths=paths)
    if target.method == "transaction" and not state.garbage():
        return Removal(paths=())
    with _changing(target, "afenv: remove what no name leads to"):
        paths = state.garbage()
        for path in paths:
            _take_away(target.place, path)
        _forget(state)
        if target.method == "folder":
            settle(target.place)
    return Removal(paths=paths)


def _forget(state: State) -> None:
    """Take images that are gone out of the notes of layers that stay."""
    present = {one.image_id for one in state.images()}
    for digest in {digest for one in state.images() for digest in one.layers}:
        found = state.origin(digest)
        kept = tuple(one for one in found if one in present or state.has(flat_path(one)))
        path = state.root / layer_path(digest) / METADATA / "origin.json"
        if kept != found:
            new = path.with_name(".origin.json")
            new.write_bytes(origin_text(kept))
            os.utime(new, (0, 0))
            new.replace(path)
            os.utime(path.parent, (0, 0))


@contextlib.contextmanager
def _changing(target: Target, message: str) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if target.method != "folder":
            stack.enter_context(repository.transaction(target.repository, target.place, message))
        stack.enter_context(locked(target.place))
        yield


def _check_there(target: Target) -> None:
    if target.method == "wishes":
        raise AfenvError("E030", "a wish list holds no images; edit it to take a wish back")
    if target.method != "folder":
        repository_name(target.repository)
    if not target.place.is_dir():
        raise AfenvError("E001", "there is no such folder", place=str(target.place))


def _check_changeable(target: Target) -> None:
    if target.method != "folder":
        repository.check_repository(target.repository, target.place)


def _take_away(root: Path, path: str) -> None:
    """Remove a tree in one step, so that nobody finds half of it."""
    aside = Path(tempfile.mkdtemp(dir=root, prefix=STAGING))
    mode = (root / path).stat().st_mode
    (root / path).chmod(mode | 0o700)
    (root / path).rename(aside / "removed")
    remove_tree(aside)
    _remove_empty(root, path)


def _remove_empty(root: Path, path: str) -> None:
    """Remove the folders that a path was in as far as nothing but the mark of a catalogue is left there."""
    for parent in (root / path).parents:
        if parent == root:
            return
        left = [one.name for one in parent.iterdir()]
        if left not in ([], [CATALOGUE]):
            os.utime(parent, (0, 0))
            return
        (parent / CATALOGUE).unlink(missing_ok=True)
        parent.rmdir()
