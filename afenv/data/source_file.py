"""Files of this machine: ``file:`` URIs, relative to the folder of the manifest or absolute (RFC 8089)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from afenv.data.source import Content, Found
from afenv.store.transport import SourceError

CHUNK = 1 << 20


class FileSource:
    """``file:`` URIs; relative ones begin in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, uri: str) -> Path:
        """The path that a URI means."""
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            raise SourceError("E201", f"file: URIs name no host, this one names {parts.netloc}")
        return self.folder / unquote(parts.path)

    def look(self, uri: str) -> Found:
        """The size of a file."""
        path = self.path(uri)
        with _explained():
            if path.is_dir():
                raise SourceError("E202", "it is a folder; a folder's URI ends with a slash")
            return Found(size=path.stat().st_size)

    @contextlib.contextmanager
    def read(self, uri: str, first: int) -> Iterator[Content]:
        """The bytes of a file."""
        with contextlib.ExitStack() as stack:
            with _explained():
                file = stack.enter_context(self.path(uri).open("rb", buffering=0))
                file.seek(first)
            size = os.fstat(file.fileno()).st_size

            def chunks() -> Iterator[bytes]:
                with _explained():
                    while data := file.read(CHUNK):
                        yield data

            yield Content(first, size, chunks())

    def files(self, uri: str) -> list[tuple[str, int | None]]:
        """The files under a folder; symbolic links to folders are not followed."""
        root = self.path(uri)
        found: list[tuple[str, int | None]] = []
        with _explained():
            if not root.is_dir():
                raise SourceError("E103", "there is no such folder")
            for folder, _, names in os.walk(root):
                for name in names:
                    path = Path(folder) / name
                    if path.is_file():
                        found.append((path.relative_to(root).as_posix(), path.stat().st_size))
        return sorted(found)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceError("E103", "no such file") from error
    except PermissionError as error:
        raise SourceError("E647", "this user may not read it") from error
    except OSError as error:
        raise SourceError("E201", str(error.strerror)) from error
