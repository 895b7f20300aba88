"""What is to go into a bag, before it is written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from afenv.digest import hex_of, sha256_bytes, sha256_file
from afenv.errors import AfenvError
from afenv.record import record
from afenv.store.content import ContentStore


@record
class Item:
    """A file of the payload: its path below ``data/``, and its content: bytes, or a file to link or copy.

    ``sha256`` is that of the content, in hexadecimal. ``part`` is what it belongs to, by which a bag can be
    restored in part: ``image``, ``sif``, ``vm``, ``inputs``, ``documents``, ``data``, ``results`` or
    ``software``. ``about`` is kept in the index. ``link`` says that nobody writes to the file: the bag may
    share it.
    """

    path: str
    size: int
    sha256: str
    part: str
    content: bytes | None = None
    file: Path | None = None
    about: str = ""
    link: bool = False

    def open(self) -> BinaryIO:
        """The content."""
        if self.content is not None:
            return io.BytesIO(self.content)
        assert self.file is not None
        return self.file.open("rb")


def of_bytes(path: str, content: bytes, part: str, about: str = "") -> Item:
    """An item out of some bytes."""
    sha256 = sha256_bytes(content).removeprefix("sha256:")
    return Item(path=path, size=len(content), sha256=sha256, part=part, content=content, about=about)


def of_file(path: str, file: Path, part: str, about: str = "") -> Item:
    """An item out of a file that is copied; it is hashed here."""
    sha256 = sha256_file(file).removeprefix("sha256:")
    return Item(path=path, size=file.stat().st_size, sha256=sha256, part=part, file=file, about=about)


def of_blob(path: str, store: ContentStore, digest: str, part: str, about: str = "") -> Item:
    """An item out of a blob of the store, checked if it may have changed; E305 if it is not there."""
    file = store.path(digest)
    if not store.trusted(digest):
        raise AfenvError("E305", f"the content store lacks {digest}, for {path}", place=str(store.folder))
    sha256 = hex_of(digest)
    size = file.stat().st_size
    return Item(path=path, size=size, sha256=sha256, part=part, file=file, about=about, link=True)
