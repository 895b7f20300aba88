"""A bag that is open: its index, its documents and its images, each checked as it is read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from afenv.archive.fixity import check_declaration, read_small
from afenv.archive.index import ArchivedFile, ArchiveIndex, parse_index
from afenv.archive.names import CRATE, IMAGE, INDEX, LOCK, PAYLOAD
from afenv.archive.source import BagSource, open_bag
from afenv.archive.tags import parse_manifest
from afenv.digest import hex_of
from afenv.documents.lock import Lock
from afenv.documents.lockfile import parse_lock
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.attached import Attachment, read_attachments
from afenv.oci.config_form import parsed
from afenv.oci.read import OpenedImage, image_from
from afenv.record import record
from afenv.store.content import ContentStore
from afenv.store.failures import write_error

_CHUNK = 1 << 20


class BagBlobs:
    """The blobs of the bag's layout."""

    def __init__(self, source: BagSource) -> None:
        self._source = source

    def open(self, digest: str) -> BinaryIO:
        """The blob, opened for reading; E722 if it is not there."""
        return self._source.open(f"{PAYLOAD}{IMAGE}/blobs/sha256/{hex_of(digest)}")

    def has(self, digest: str) -> bool:
        """Whether the blob is here."""
        return f"{PAYLOAD}{IMAGE}/blobs/sha256/{hex_of(digest)}" in self._source.files


@record
class Bag:
    """An open bag with its index. What is read through it is checked against the index."""

    source: BagSource
    index: ArchiveIndex

    @property
    def place(self) -> str:
        """Where it lies, for messages."""
        return self.source.place

    def read(self, path: str, limit: int = 1 << 30) -> bytes:
        """The content of a small file of the payload, by its path below ``data/``; E721, E722, E725."""
        file = self._file(path)
        data = read_small(self.source, PAYLOAD + path, limit)
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise AfenvError("E721", f"{path} has another content than the index says", place=self.place)
        return data

    def _file(self, path: str) -> ArchivedFile:
        for one in self.index.files:
            if one.path == path:
                return one
        raise AfenvError("E722", f"the index of the bag does not name {path}", place=self.place)

    def crate(self) -> bytes:
        """The metadata of the RO-Crate; E721 if it has another content than was written."""
        data = read_small(self.source, PAYLOAD + CRATE)
        if hashlib.sha256(data).hexdigest() != _expected(self.source, PAYLOAD + CRATE):
            raise AfenvError("E721", f"data/{CRATE} has another content than was written", place=self.place)
        return data

    def lock(self) -> Lock:
        """The lock."""
        return parse_lock(self.read(LOCK), f"{self.place}, {LOCK}")

    def into_store(self, file: ArchivedFile, store: ContentStore) -> None:
        """Bring a file into a content store, checked; E721 if it is another, E722 if it is not there."""
        if store.trusted(file.digest, file.size):
            return
        with self.source.open(PAYLOAD + file.path) as opened, store.writer(durable=False) as writer:
            while data := opened.read(_CHUNK):
                writer.write(data)
            if writer.digest() != file.digest:
                text = f"{file.path} has another content than the index says"
                raise AfenvError("E721", text, place=self.place)
            writer.commit(file.digest)

    def copy(self, file: ArchivedFile, target: Path, advance: Callable[[int], object]) -> None:
        """Write a file to a path, where it appears when it is whole and checked; E721, E402, E403."""
        beside = target.with_name(f".{target.name[:100]}.{os.urandom(6).hex()}")
        digest = hashlib.sha256()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with self.source.open(PAYLOAD + file.path) as opened, beside.open("xb") as out:
                while data := opened.read(_CHUNK):
                    digest.update(data)
                    out.write(data)
                    advance(len(data))
            if digest.hexdigest() != file.sha256:
                text = f"data/{file.path} has another content than was written"
                raise AfenvError("E721", text, place=self.place)
            beside.replace(target)
        except OSError as error:
            raise write_error(error, target) from error
        finally:
            beside.unlink(missing_ok=True)

    def image(self, environment: str) -> tuple[OpenedImage, list[Attachment]]:
        """The image of an environment, and what is attached to it; E031, E721, E727."""
        known = self.index.environments.get(environment)
        if known is None:
            names = ", ".join(sorted(self.index.environments))
            raise AfenvError("E031", f"the bag has no environment {environment!r}; it has: {names}")
        blobs = BagBlobs(self.source)
        try:
            index = parsed(self.read(f"{IMAGE}/index.json"))
            descriptor = next(one for one in index["manifests"] if one["digest"] == known.manifest)
            notes = descriptor.get("annotations") or {}
            manifest = self.read(f"{IMAGE}/blobs/sha256/{hex_of(known.manifest)}")
            config = self.read(f"{IMAGE}/blobs/sha256/{hex_of(known.image_id)}")
            if parsed(manifest)["config"]["digest"] != known.image_id:
                raise ValueError("the manifest is that of another image")
            image = image_from(config, manifest, str(notes.get(media.REF_NAME, "")), self.place)
            listed = notes.get(media.ATTACHMENTS)
            pseudo = json.dumps({"annotations": {media.ATTACHMENTS: listed} if listed else {}}).encode()
            attachments = read_attachments(pseudo, blobs, image.manifest_digest, self.place)
        except StopIteration:
            raise AfenvError(
                "E727", "the layout lacks the image that the index names", place=self.place
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AfenvError("E727", f"the image is damaged: {error}", place=self.place) from None
        opened = OpenedImage(image=image, blobs=blobs, path=Path(self.place), index=pseudo)
        return opened, attachments

    def left_out(self) -> set[str]:
        """The digests of what was left out on purpose."""
        return {"sha256:" + one.sha256 for one in self.index.left_out}


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Fill a folder that is empty or not there yet; it is so again if that fails. E032 if it is not empty."""
    was_there = folder.exists()
    if was_there and (not folder.is_dir() or any(folder.iterdir())):
        raise AfenvError("E032", "this folder is not empty", place=str(folder))
    try:
        yield
    except BaseException:
        for entry in folder.iterdir() if folder.is_dir() else ():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()
        if not was_there and folder.is_dir():
            folder.rmdir()
        raise


@contextmanager
def open_archive(path: Path) -> Iterator[Bag]:
    """The bag at a path; E720 to E727 and E730 as :mod:`afenv.archive.source` and the index have them.

    The index is checked against the bag's manifest, and that against the bag's tag manifest.
    """
    with open_bag(path) as source:
        check_declaration(source)
        data = read_small(source, PAYLOAD + INDEX)
        expected = _expected(source, PAYLOAD + INDEX)
        if hashlib.sha256(data).hexdigest() != expected:
            raise AfenvError("E721", f"data/{INDEX} has another content than was written", place=source.place)
        yield Bag(source=source, index=parse_index(data, f"{source.place}, data/{INDEX}"))


def _expected(source: BagSource, path: str) -> str:
    name = "manifest-sha256.txt"
    manifest = read_small(source, name)
    tagged = parse_manifest(read_small(source, f"tag{name}"), "sha256", f"{source.place}, tag{name}")
    if hashlib.sha256(manifest).hexdigest() != tagged.get(name):
        raise AfenvError("E721", f"{name} has another content than was written", place=source.place)
    return parse_manifest(manifest, "sha256", f"{source.place}, {name}").get(path, "")
