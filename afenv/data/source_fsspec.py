"""Any other storage, through fsspec: ``s3:``, ``gs:``, ``sftp:``, … with the libraries that it needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from afenv.data.source import Content, Found, scrub
from afenv.store.transport import SourceError

CHUNK = 4 << 20


class FsspecSource:
    """What fsspec knows of a scheme; E640 if it knows nothing, E646 if a library is missing."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        try:
            import fsspec
        except ImportError:
            raise SourceError(
                "E646", f"{scheme}: URIs are read by fsspec, which is not here", remedy=_remedy()
            ) from None
        try:
            self._kind: Any = fsspec.get_filesystem_class(scheme)
        except ValueError:
            raise SourceError("E640", f"{scheme}: is no kind of URI that can be read") from None
        except ImportError as error:
            raise SourceError("E646", scrub(str(error)), remedy=_remedy()) from None

    def _system(self, uri: str) -> tuple[Any, str]:
        import fsspec

        with _explained():
            system, path = fsspec.core.url_to_fs(uri)
            return system, path

    def look(self, uri: str) -> Found:
        """The size."""
        system, path = self._system(uri)
        with _explained():
            size = system.info(path).get("size")
        return Found(size=int(size) if size is not None else None)

    @contextlib.contextmanager
    def read(self, uri: str, first: int) -> Iterator[Content]:
        """The bytes of a file."""
        system, path = self._system(uri)
        with contextlib.ExitStack() as stack:
            with _explained():
                size = system.info(path).get("size")
                file = stack.enter_context(system.open(path, "rb", cache_type="none"))
                file.seek(first)

            def chunks() -> Iterator[bytes]:
                with _explained():
                    while data := file.read(CHUNK):
                        yield data

            yield Content(first, int(size) if size is not None else None, chunks())

    def files(self, uri: str) -> list[tuple[str, int | None]]:
        """The files under a folder."""
        system, path = self._system(uri)
        with _explained():
            listed = system.find(path, detail=True)
        root = path.rstrip("/") + "/"
        return sorted((name.removeprefix(root), about.get("size")) for name, about in listed.items())


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except SourceError:
        raise
    except FileNotFoundError as error:
        raise SourceError("E103", "no such file") from error
    except PermissionError as error:
        raise SourceError("E647", scrub(str(error))) from error
    except ImportError as error:
        raise SourceError("E646", scrub(str(error)), remedy=_remedy()) from error
    except Exception as error:  # each library has errors of its own
        raise SourceError("E201", scrub(f"{type(error).__name__}: {error}"), again=True) from error


def _remedy() -> str:
    return "Install afenv[data], and what fsspec names for the scheme."
